"""The live stream: events are scored at once, and learned when their label comes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from app.config.run import ROCKSDB, StreamSettings
from app.contract import Contract, FixedContract
from app.errors import UserError
from app.files.atomic import write_durably
from app.files.workdir import WorkDirectory
from app.model.state import config_from_metadata
from app.monitor.listener import Listener
from app.monitor.metrics import RunSummary
from app.monitor.records import BatchLog
from app.registry.open import OpenModel
from app.streaming.batch_writer import BatchWriter
from app.streaming.feedback.join_window import JoinWindow
from app.streaming.feedback.rows import RawRows, live_rows
from app.streaming.lineage import FeedbackInput, Input
from app.streaming.live_writer import LiveWriter
from app.streaming.model_binding import BoundModel, ModelInput, Roles
from app.streaming.query import StopRequest
from app.streaming.rows.layout import FeatureColumns
from app.streaming.run import run
from app.streaming.sinks.base import sink_of
from app.streaming.sources.kafka import explain_failure
from app.streaming.sources.open import (
    LiveSource,
    describe_source,
    open_source,
    remember_sources,
    remembered_source,
)
from app.streaming.spark.conf import JOIN_CONF, STREAM_CONF
from app.streaming.spark.packages import kafka_package
from app.streaming.spark.scorers import Scorers


def stream(
    settings: StreamSettings,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> RunSummary:
    """Score events and learn from feedback until asked to stop, and return what was done.

    Parameters and errors are those of :func:`app.streaming.run.run`.
    """
    return run(_StreamJob(settings), settings, listener, stop)


class _StreamJob:
    """The job of :func:`stream`."""

    name = "hedgestream stream"
    conf = STREAM_CONF | JOIN_CONF

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._sources: dict[str, LiveSource] = {}
        self._window = JoinWindow(settings.label_timeout, settings.lateness, settings.max_lag)
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

    def describe(
        self, workdir: WorkDirectory, opened: OpenModel, query: str | None
    ) -> tuple[ModelInput, Input]:
        settings, features = self._settings, self._features(opened)
        if query is not None:
            self._refuse_other_state_store(workdir)
        needed = {
            "events": (settings.id, settings.time, *features.names),
            "feedback": (settings.id, settings.feedback_time, settings.label),
        }
        for name, columns in needed.items():
            spec, ddl = getattr(settings, name), getattr(settings, f"{name}_schema")
            known = None
            if query is not None:
                known = remembered_source(_sources_file(workdir), name, spec)
            self._sources[name] = known or describe_source(spec, name, ddl, columns)
        roles = Roles(id=settings.id, time=settings.time)
        events = self._sources["events"].layout
        return ModelInput(events, features, roles), FeedbackInput(str(settings.feedback))

    def find_classes(self, listener: Listener) -> tuple[str, ...]:
        raise self._unnamed("classes", "the labels a,b,c")

    def begin(self, workdir: WorkDirectory, query: str | None) -> None:
        if query is None:
            # Without the checkpoint there is no offset that counts the files listed.
            shutil.rmtree(workdir.live, ignore_errors=True)
        write_durably(_state_store_file(workdir), self._settings.state_store.encode())
        remember_sources(_sources_file(workdir), self._sources)

    def rows_to_read(self, log: BatchLog) -> int | None:
        return None

    def scoring_tasks(self, slots: int) -> tuple[int, int]:
        return 1, self._settings.max_rows_per_batch

    def writer(self, workdir: WorkDirectory, bound: BoundModel, scorers: Scorers) -> BatchWriter:
        sinks = [sink_of(spec) for spec in self._settings.sinks]
        store = self._settings.state_store
        return LiveWriter(workdir, bound.contract, self._window, scorers.udf, store, sinks)

    def rows(
        self, spark: SparkSession, workdir: WorkDirectory, opened: OpenModel, bound: BoundModel
    ) -> DataFrame:
        settings = self._settings
        feedback = Contract.of_feedback(
            self._sources["feedback"].layout.columns,
            bound.contract.classes,
            id=settings.id,
            time=settings.feedback_time,
            label=settings.label,
        )
        contracts = {"events": bound.contract, "feedback": feedback}
        raw = {}
        for name, source in self._sources.items():
            rows = open_source(
                spark,
                source,
                manifest=workdir.live / f"{name}.files",
                redis_url=opened.redis_url,
                max_rows_per_batch=settings.max_rows_per_batch,
                fail_on_data_loss=settings.fail_on_data_loss,
            )
            raw[name] = RawRows(rows, source.layout.row_format, contracts[name])
        join = self._window if settings.state_store == ROCKSDB else None
        return live_rows(raw["events"], raw["feedback"], join)

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

    def _refuse_other_state_store(self, workdir: WorkDirectory) -> None:
        """Raise UserError when what a stream waits with is kept in another place."""
        remembered, wanted = _state_store_file(workdir), self._settings.state_store
        kept = remembered.read_text() if remembered.exists() else wanted
        if kept != wanted:
            raise UserError(
                f"--state-store: the events of this stream wait in {kept!r}, so it cannot go on "
                f"with {wanted!r}; go on with {kept!r}, or begin anew in another --workdir"
            )


def _state_store_file(workdir: WorkDirectory) -> Path:
    return workdir.live / "state_store"


def _sources_file(workdir: WorkDirectory) -> Path:
    return workdir.live / "sources.json"
