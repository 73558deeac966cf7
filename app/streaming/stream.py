"""The live stream: events are scored at once, and learned when their label comes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame

from app.config import ROCKSDB, StreamSettings
from app.durable import write_durably
from app.errors import UserError
from app.model.state import config_from_metadata
from app.monitor.batch_log import BatchLog, BatchRecord, RunSummary, Tally
from app.monitor.progress import Listener
from app.registry.opening import open_model
from app.registry.patience import Patience
from app.registry.registry import ModelRegistry
from app.registry.snapshots import Retention
from app.streaming.binding import BoundModel, Roles, bind_model
from app.streaming.delivery import sink_of
from app.streaming.inputs import InputTable
from app.streaming.kafka import explain_failure, kafka_package
from app.streaming.live_outputs import LiveOutputs
from app.streaming.live_rows import JOIN_CONF, STREAM_CONF, FeedbackContract, live_rows
from app.streaming.live_sources import (
    LiveSource,
    describe_source,
    open_source,
    remember_sources,
    remembered_source,
)
from app.streaming.loop import MicroBatchLoop
from app.streaming.matching import MatchRules
from app.streaming.running import StopRequest, prepare_workdir, query_of, run_query, summary_of
from app.streaming.schema import contract_from_metadata
from app.streaming.scoring import check_executor_url, import_model, in_background, scoring
from app.streaming.session import configured, spark_session

LIVE = "live"
"""Below the work directory: the checkpoint and the lists of files of the live stream."""


def stream(
    settings: StreamSettings,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> RunSummary:
    """Score events and learn from feedback until told to stop, and return what was done.

    Parameters
    ----------
    settings : StreamSettings
    listener : Listener, optional
        Told of what happens while it happens.
    stop : StopRequest, optional
        When it is made, the batch in hand is finished and committed, and the run ends.

    Raises
    ------
    UserError
        When an option, a column or a source cannot be used.
    HedgestreamError
        When the run cannot go on.
    """
    started = time.perf_counter()
    listener = listener or Listener()
    check_executor_url(settings)
    workdir = prepare_workdir(settings.workdir)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(
            open_model(
                workdir,
                settings.redis_url,
                settings.model,
                snapshots=settings.snapshots,
                retention=Retention(settings.keep_snapshots, settings.keep_every),
            )
        )
        registry = opened.registry
        settings = _completed(settings, registry)
        spark = spark_session(
            "hedgestream stream",
            packages=_packages(settings),
            short_run=settings.available_now,
            on_launched=lambda: stack.callback(in_background(import_model).join),
        )
        live = workdir / LIVE
        query = query_of(live / "checkpoint")
        if query is None:
            # Without the checkpoint there is no offset that counts the files listed.
            shutil.rmtree(live, ignore_errors=True)
        _refuse_other_state_store(settings, live / "state_store")
        events, feedback = _described(settings, live / "sources.json")
        bound = _bind(settings, events, registry)
        fed = _FedStreams(registry, settings)
        fed.refuse_learned(query)
        log = BatchLog(workdir / "batches")
        tally = Tally()

        def on_batch(record: BatchRecord) -> None:
            tally.add(record)
            listener.committed(record)

        scorers = stack.enter_context(
            scoring(spark, settings, opened, bound.contract.n_features, settings.max_rows_per_batch)
        )
        rules = MatchRules(settings.label_timeout, settings.lateness, settings.max_lag)
        sinks = [sink_of(spec) for spec in settings.sinks]
        outputs = LiveOutputs(
            workdir, bound.contract, rules, scorers.udf, settings.state_store, sinks
        )
        stack.callback(outputs.close)
        in_background(bound.classifier.compile)
        loop = MicroBatchLoop(
            registry=registry,
            outputs=outputs,
            log=log,
            metadata=bound.metadata,
            classifier=bound.classifier,
            patience=Patience(settings.registry_patience, listener.warned),
            on_query=fed.register,
            on_batch=on_batch,
            warn=listener.warned,
            before_scoring=scorers.warming.join,
        )
        stack.enter_context(configured(spark, STREAM_CONF | JOIN_CONF))
        raw = [
            open_source(
                spark,
                source,
                manifest=live / f"{name}.files",
                redis_url=opened.redis_url,
                max_rows_per_batch=settings.max_rows_per_batch,
                fail_on_data_loss=settings.fail_on_data_loss,
            )
            for name, source in (("events", events), ("feedback", feedback))
        ]
        rows = _live_rows(settings, bound, events, raw[0], feedback, raw[1], rules)
        run_query(rows, loop, live / "checkpoint", available_now=settings.available_now, stop=stop)
        head = registry.current()
    return summary_of(tally, log, loop, head, started)


def _completed(settings: StreamSettings, registry: ModelRegistry) -> StreamSettings:
    """Return the settings with the features and classes of the model, if it exists."""
    head = registry.recover()
    if head is not None:
        _, metadata = registry.load(head)
        fixed = contract_from_metadata(metadata)
        n_features = config_from_metadata(metadata).n_features
        features = settings.features or fixed["features"]
        if len(features) == 1 and n_features > 1:
            settings = dataclasses.replace(settings, feature_count=n_features)
        return dataclasses.replace(settings, features=features)
    for name, meaning in (("features", "the columns a,b,c"), ("classes", "the labels a,b,c")):
        if getattr(settings, name) is None:
            raise UserError(f"--{name}: model {settings.model!r} is new, so name {meaning}")
    return settings


def _refuse_other_state_store(settings: StreamSettings, remembered: Path) -> None:
    """Raise UserError when what a stream waits with is kept in another place."""
    if not remembered.exists():
        write_durably(remembered, settings.state_store.encode())
    kept = remembered.read_text()
    if kept != settings.state_store:
        raise UserError(
            f"--state-store: the events of this stream wait in {kept!r}, so it cannot go on with "
            f"{settings.state_store!r}; go on with {kept!r}, or begin anew in another --workdir"
        )


def _packages(settings: StreamSettings) -> Sequence[str]:
    if any(spec.kind == "kafka" for spec in (settings.events, settings.feedback, *settings.sinks)):
        return [kafka_package()]
    return []


def _explained(error: Exception, settings: StreamSettings) -> str | None:
    """Return a failure of Kafka's in its own words, without Java's around them."""
    for spec in (settings.events, settings.feedback):
        explained = explain_failure(error, spec) if spec.kind == "kafka" else None
        if explained is not None:
            return str(explained)
    return None


def _described(settings: StreamSettings, remembered: Path) -> tuple[LiveSource, LiveSource]:
    needed = {
        "events": (settings.id, settings.time, *settings.features),
        "feedback": (settings.id, settings.feedback_time, settings.label),
    }
    sources = {}
    for name, columns in needed.items():
        spec, ddl = getattr(settings, name), getattr(settings, f"{name}_schema")
        known = remembered_source(remembered, name, spec)
        sources[name] = known or describe_source(spec, name, ddl, columns)
    remember_sources(remembered, sources)
    return sources["events"], sources["feedback"]


def _bind(settings: StreamSettings, events: LiveSource, registry: ModelRegistry) -> BoundModel:
    layout = InputTable(
        files=(),
        file_format=events.row_format,
        columns=events.columns,
        features=settings.features,
        n_features=settings.feature_count or len(settings.features),
        is_array=settings.feature_count is not None,
        schema=events.schema,
    )
    roles = Roles(id=settings.id, time=settings.time)
    return bind_model(settings, layout, roles, registry, lambda: settings.classes)


def _live_rows(
    settings: StreamSettings,
    bound: BoundModel,
    events: LiveSource,
    event_rows: DataFrame,
    feedback: LiveSource,
    feedback_rows: DataFrame,
    rules: MatchRules,
) -> DataFrame:
    contract = FeedbackContract(
        feedback.columns,
        settings.id,
        settings.feedback_time,
        settings.label,
        bound.contract.classes,
    )
    return live_rows(
        event_rows,
        events.row_format,
        bound.contract,
        feedback_rows,
        feedback.row_format,
        contract,
        rules if settings.state_store == ROCKSDB else None,
    )


class _FedStreams:
    """Which query a model is fed a source of labels by, so that none is learned twice."""

    def __init__(self, registry: ModelRegistry, settings: StreamSettings) -> None:
        self._registry = registry
        self._directory = registry.directory / "inputs"
        self._source = str(settings.feedback)
        self._allowed = settings.allow_relearn

    def register(self, query: str) -> None:
        path = self._path(query)
        if not path.exists():
            write_durably(path, json.dumps({"feedback": self._source}).encode())

    def refuse_learned(self, own_query: str | None) -> None:
        """Raise UserError when another query of the model has learned from the source."""
        if self._allowed:
            return
        for query, batch in self._registry.current().applied.items():
            path = self._path(query)
            if query == own_query or not path.exists():
                continue
            if json.loads(path.read_bytes())["feedback"] == self._source:
                raise UserError(
                    f"--feedback: {self._source} was fed to this model before, by query {query} "
                    f"up to batch {batch}, whose checkpoint is not the one here; what it learned "
                    "is in the model, and would be counted twice. Go on with that checkpoint, or "
                    "pass --allow-relearn"
                )

    def _path(self, query: str) -> Path:
        return self._directory / f"{query}.stream.json"
