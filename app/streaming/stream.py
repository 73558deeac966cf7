"""The live stream: events are scored at once, and learned when their label comes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from app.config.features import MAX_CATEGORIES, REJECT
from app.config.rows import RECORD_SETTINGS
from app.config.run import DRIVER, ROCKSDB, StreamSettings
from app.contract import Category, Contract, Encoding, FixedContract
from app.errors import UserError
from app.files.aside import set_aside
from app.files.atomic import write_durably
from app.files.documents import read_json
from app.files.manifest import listed_files
from app.files.resuming.checkpoint import Checkpoint
from app.files.resuming.remembered import RememberedSettings
from app.files.sequence import START, ListDigests, check_read
from app.files.workdir import WorkDirectory
from app.inspection.classes import named_classes
from app.inspection.document import with_contract
from app.model.state import config_from_metadata
from app.monitor.listener import Listener
from app.monitor.metrics import RunSummary
from app.parsing.packed_rows import RowSource
from app.parsing.row_parser import RowParser
from app.registry.open import OpenModel
from app.streaming.batch_writer import BatchWriter
from app.streaming.feedback.join_window import JoinWindow, micros
from app.streaming.feedback.proof import check_ledger
from app.streaming.feedback.rows import EVENT, LABEL, JoinState, RawRows, live_rows
from app.streaming.lineage import FeedbackInput, Input
from app.streaming.live_writer import LiveWriter, scoring_tasks
from app.streaming.model_binding import BoundModel, ModelInput, Roles
from app.streaming.query import StopRequest
from app.streaming.rows.layout import FeatureColumns
from app.streaming.rows.rules import parsing_rules, text_format
from app.streaming.run import run
from app.streaming.sinks.base import sink_of
from app.streaming.sources.kafka import explain_failure
from app.streaming.sources.open import (
    LiveSource,
    describe_source,
    encoding_of,
    open_source,
    remember_sources,
    remembered_source,
)
from app.streaming.sources.pace import Pace
from app.streaming.spark.conf import JOIN_CONF, STREAM_CONF
from app.streaming.spark.packages import kafka_package
from app.streaming.spark.scorers import Scorers

_KINDS = ("events", "feedback")


def stream(
    settings: StreamSettings,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> RunSummary:
    """Score events and learn from feedback until asked to stop, and return what was done.

    Parameters and errors are those of :func:`app.streaming.run.run`.
    """
    settings, given = with_contract(settings)
    return run(_StreamJob(settings, given), settings, listener, stop)


class _StreamJob:
    """The job of :func:`stream`."""

    name = "hedgestream stream"
    conf = STREAM_CONF | JOIN_CONF

    def __init__(self, settings: StreamSettings, given: FixedContract | None) -> None:
        self._settings = settings
        self.given = given
        self._sources: dict[str, LiveSource] = {}
        self._window = JoinWindow(settings.label_timeout, settings.lateness, settings.lag)
        self._is_new = True
        self.is_short = self.ends_by_itself = settings.available_now

    @property
    def packages(self) -> Sequence[str]:
        settings = self._settings
        kinds = {settings.events.kind, settings.feedback.kind, *(s.kind for s in settings.sinks)}
        return [kafka_package()] if "kafka" in kinds else []

    def inspect(self) -> None:
        """Nothing: what the sources hold is looked at once Spark runs."""

    def check(self, opened: OpenModel) -> None:
        self._features(opened)

    def checkpoint(self, workdir: WorkDirectory) -> Path:
        return workdir.live_checkpoint

    def verify(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        if checkpoint.query is None:
            return
        self._remembered(workdir).refuse_others()
        self._refuse_missing_parts(workdir, checkpoint)
        self._refuse_other_lists(workdir, checkpoint)
        ledger = workdir.ledgers / f"{checkpoint.query}.sqlite"
        check_ledger(ledger, checkpoint.committed, checkpoint.planned)

    def describe(
        self, workdir: WorkDirectory, opened: OpenModel, checkpoint: Checkpoint
    ) -> tuple[ModelInput, Input]:
        settings, features = self._settings, self._features(opened)
        needed = {
            "events": (settings.id, settings.time, *features.names),
            "feedback": (settings.id, settings.feedback_time, settings.label),
        }
        for name, columns in needed.items():
            spec, ddl = getattr(settings, name), getattr(settings, f"{name}_schema")
            known = None
            if checkpoint.query is not None:
                known = remembered_source(_sources_file(workdir), name, spec, columns)
            self._sources[name] = known or describe_source(
                spec, name, ddl, columns, text_format(settings)
            )
        roles = Roles(id=settings.id, time=settings.time)
        events = self._sources["events"].layout
        return ModelInput(events, features, roles), FeedbackInput(str(settings.feedback))

    def design(self, listener: Listener) -> FixedContract:
        settings = self._settings
        if settings.features is None:
            raise self._unnamed("features", "the columns a,b,c")
        if settings.classes is None:
            raise self._unnamed("classes", "the labels a,b,c")
        if self.given is not None:
            return dataclasses.replace(self.given, classes=named_classes(settings.classes))
        # Nobody has seen a category yet: all share their slots by hash.
        n_slots = settings.max_categories or MAX_CATEGORIES
        categories = {name: Category((), n_slots) for name in settings.categorical or ()}
        encoding = Encoding(categories, imputes=settings.missing != REJECT)
        return FixedContract(settings.features, named_classes(settings.classes), encoding)

    def notes(self) -> Sequence[str]:
        sources = self._sources.values()
        return [f"{source.spec}: {note}" for source in sources for note in source.notes]

    def begin(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        if checkpoint.query is None and any(workdir.live.glob("*.files")):
            # Without the checkpoint there is no offset that counts the files listed.
            set_aside(workdir.live)
        self._is_new = checkpoint.query is None
        if self._is_new:
            # Queries of older releases went without, and go on so.
            began_with = {"times_from": "0001-01-01", "features": "float64"}
            write_durably(_join_file(workdir), json.dumps(began_with).encode())
            for name in _KINDS:
                _pace_file(workdir, name).unlink(missing_ok=True)
        self._remembered(workdir).write()
        remember_sources(_sources_file(workdir), self._sources)

    def rows_to_read(self) -> int | None:
        return None

    def scoring_tasks(self, slots: int) -> tuple[int, int]:
        # Each source is read by a task, but for Kafka, by one for each partition; and what they
        # read is shared out among all when it is much.
        rows = self._settings.max_rows_per_batch
        tasks = scoring_tasks(slots, rows)
        return tasks if tasks == slots else min(tasks, len(_KINDS)), rows

    def writer(self, workdir: WorkDirectory, bound: BoundModel, scorers: Scorers) -> BatchWriter:
        sinks = [sink_of(spec) for spec in self._settings.sinks]
        store = self._settings.state_store
        # Spark's own watermark waits for no row that is still to be read; the readers see to it.
        unread = [_pace_file(workdir, name) for name in _KINDS] if store == DRIVER else []
        parsed = self._row_sources(bound)
        return LiveWriter(
            workdir, bound.contract, self._window, parsed, scorers.wanted, store, sinks, unread
        )

    def rows(
        self, spark: SparkSession, workdir: WorkDirectory, opened: OpenModel, bound: BoundModel
    ) -> DataFrame:
        settings = self._settings
        parsed = self._row_sources(bound)
        raw = {}
        for (name, source), kind in zip(self._sources.items(), (EVENT, LABEL), strict=True):
            rows = open_source(
                spark,
                source,
                manifest=_list_of(workdir, name),
                redis_url=opened.redis_url,
                max_rows_per_batch=settings.max_rows_per_batch,
                fail_on_data_loss=settings.fail_on_data_loss,
                columns=parsed[kind].parser.needed,
                pace=self._pace(workdir, name),
                text=text_format(settings),
            )
            raw[kind] = RawRows(rows, parsed[kind])
        join = self._window if settings.state_store == ROCKSDB else None
        return live_rows(raw[EVENT], raw[LABEL], join, _join_state(workdir))

    def _row_sources(self, bound: BoundModel) -> dict[str, RowSource]:
        """Return how the rows of each source come, and how they are parsed."""
        settings = self._settings
        feedback = Contract.of_feedback(
            self._sources["feedback"].layout.columns,
            bound.contract.classes,
            id=settings.id,
            time=settings.feedback_time,
            label=settings.label,
        )
        rules = parsing_rules(settings, rejects_future=True)
        contracts = {EVENT: bound.contract, LABEL: feedback}
        specs = {EVENT: settings.events, LABEL: settings.feedback}
        return {
            kind: RowSource(encoding_of(specs[kind]), RowParser(contract, rules))
            for kind, contract in contracts.items()
        }

    def _pace(self, workdir: WorkDirectory, name: str) -> Pace:
        """Return how the reader of a source keeps step with that of the other."""
        settings, (other,) = self._settings, {*_KINDS} - {name}
        column = settings.time if name == "events" else settings.feedback_time
        return Pace(
            own=_pace_file(workdir, name),
            other=None if self._sources[other].spec.kind == "kafka" else _pace_file(workdir, other),
            column=column,
            lateness=micros(settings.lateness),
            ahead=micros(settings.lag) if settings.state_store == ROCKSDB else None,
            is_new=self._is_new,
            unit=settings.time_unit,
            zone=settings.time_zone,
        )

    def explain(self, error: Exception) -> str | None:
        """Return a failure of Kafka's in its own words, without Java's around them."""
        sources = (self._settings.events, self._settings.feedback)
        topics = [spec for spec in sources if spec.kind == "kafka"]
        explained = explain_failure(error, *topics) if topics else None
        return None if explained is None else str(explained)

    def _features(self, opened: OpenModel) -> FeatureColumns:
        """Return the feature columns that the user named, or else the model's."""
        settings, names = self._settings, self._settings.features
        count = settings.feature_count
        if opened.current is not None:
            names = names or FixedContract.from_metadata(opened.stored.metadata).features
            n_features = config_from_metadata(opened.stored.metadata).n_features
            if len(names) == 1 and n_features > 1:
                count = n_features
        elif names is None:
            raise self._unnamed("features", "the columns a,b,c")
        elif settings.classes is None:
            raise self._unnamed("classes", "the labels a,b,c")
        return FeatureColumns(names, count or len(names), count is not None)

    def _unnamed(self, option: str, meaning: str) -> UserError:
        return UserError(f"--{option}: model {self._settings.model!r} is new, so name {meaning}")

    def _remembered(self, workdir: WorkDirectory) -> RememberedSettings:
        names = ("id", "time", "feedback_time", "label", "state_store", *RECORD_SETTINGS)
        settings = {name: getattr(self._settings, name) for name in names}
        older = workdir.live / "state_store"
        known = {"state_store": older.read_text()} if older.exists() else {}
        return RememberedSettings(workdir.live / "settings.json", settings, known)

    def _refuse_missing_parts(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        """Raise UserError when what a query goes on with is gone."""
        parts = {}
        if checkpoint.planned is not None:
            parts[_sources_file(workdir)] = "how its sources are read"
        if checkpoint.committed is not None and self._settings.state_store == ROCKSDB:
            parts[checkpoint.path / "state"] = "the events that wait for their label"
        for path, held in parts.items():
            if not path.exists():
                raise UserError(
                    f"--workdir: {path} is missing, which holds {held}; restore it, or move the "
                    f"checkpoint {checkpoint.path} away to begin anew"
                )

    def _refuse_other_lists(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        """Raise DataLossError when the files listed are not those that the offsets count."""
        lists = [ListDigests(listed_files(_list_of(workdir, name))) for name in _KINDS]
        for position in checkpoint.offsets():
            # Those of other systems count no files.
            if isinstance(position, dict) and position.keys() >= START.keys():
                check_read(
                    position,
                    *lists,
                    named=f"{workdir.live}/*.files",
                    encoding=self._settings.encoding,
                )


def _list_of(workdir: WorkDirectory, name: str) -> Path:
    """Return where the files of a source are listed in the order they are read."""
    return workdir.live / f"{name}.files"


def _pace_file(workdir: WorkDirectory, name: str) -> Path:
    """Return where the reader of a source says what it reads next."""
    return workdir.live / f"{name}.next"


def _join_file(workdir: WorkDirectory) -> Path:
    """Return what says how Spark's state was begun."""
    return workdir.live / "join.json"


def _join_state(workdir: WorkDirectory) -> JoinState:
    """Return what Spark keeps. Queries of older releases began without a word, or without one of
    features.
    """
    path = _join_file(workdir)
    try:
        began_with = read_json(path)
    except FileNotFoundError:
        return JoinState(from_year_1=False, in_float64=False)
    return JoinState(in_float64="features" in began_with)


def _sources_file(workdir: WorkDirectory) -> Path:
    return workdir.live / "sources.json"
