"""What a batch of a live stream leaves: predictions, dead letters, and labelled rows to learn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from app.config.run import DRIVER
from app.contract import DUPLICATE_ID, Contract
from app.files.workdir import WorkDirectory
from app.monitor.records import LabelCounts
from app.parsing.packed_rows import RowSource, features_of, of_one_length
from app.parsing.row_parser import RowParser
from app.registry.version import ModelVersion
from app.streaming.batch_writer import BatchContext, BatchFiles, ScoredBatch
from app.streaming.feedback.decision import DeadLabel, Decision, Events, Label, Match
from app.streaming.feedback.join_window import SECOND, JoinWindow
from app.streaming.feedback.ledger import FeedbackLedger
from app.streaming.feedback.rows import EVENT, LABEL, MATCH
from app.streaming.rows.labelled import UNKNOWN, LabelledRows
from app.streaming.rows.scored import scored_rows
from app.streaming.sinks.base import Sink
from app.streaming.sources.pace import oldest_unread
from app.streaming.spark.runtime import task_slots
from udfs.model_cache import WorkerModel
from udfs.score import KindOfRows

MANY_ROWS = 20_000
"""Rows of a batch that keep one core busy for longer than it takes to share them out."""

_OF_EVENTS = ("sequence", "event_id", "event_time", "reason", "row")
_OF_LABELS = (*_OF_EVENTS, "label_index")
_AS_THEY_CAME = ("sequence", "event_id", "row")

_MATCHES = pa.schema(
    [("sequence", pa.int64()), ("event_id", pa.string()), ("features", pa.binary())]
)

_DEAD_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("sequence", pa.int64()),
        ("event_id", pa.string()),
        ("reason", pa.string()),
        ("row", pa.string()),
        ("batch_id", pa.int64()),
    ]
)


class LiveWriter:
    """Predictions, dead letters and the ledger of one work directory; a :class:`BatchWriter`.

    Parameters
    ----------
    workdir
    contract
    window
        How long labels and events wait for each other.
    sources
        How the rows of each kind come.
    scorer
        Gives what a worker needs to score with a version or a later one.
    state_store : {"driver", "rocksdb"}
        Where the features of events wait for their label: in the ledger, or in Spark.
    sinks
        Are given each batch's predictions, as they were written.
    unread
        Where the readers of the sources say what they read next, for the watermark to wait for.
    """

    def __init__(
        self,
        workdir: WorkDirectory,
        contract: Contract,
        window: JoinWindow,
        sources: Mapping[str, RowSource],
        scorer: Callable[[ModelVersion], WorkerModel],
        state_store: str,
        sinks: Sequence[Sink] = (),
        unread: Sequence[Path] = (),
    ) -> None:
        self.files = BatchFiles(workdir, contract)
        self._contract = contract
        self._window = window
        self._scorer = scorer
        self.parsers: Mapping[str, RowParser] = {
            kind: source.parser for kind, source in sources.items()
        }
        self._is_joined = state_store != DRIVER
        self._kinds = {
            # The driver is brought the features of all events, or of those that met a label.
            EVENT: KindOfRows(
                sources[EVENT], _OF_EVENTS, is_scored=True, with_features=not self._is_joined
            ),
            LABEL: KindOfRows(sources[LABEL], _OF_LABELS, with_rows=True),
        }
        self._sinks = sinks
        self._unread = unread
        self._ledgers = workdir.ledgers
        self._taken_over: FeedbackLedger | None = None
        self._rows_before = 0

    def take_over(self, query: str) -> None:
        self.close()
        self._taken_over = FeedbackLedger(self._ledgers / f"{query}.sqlite", self._window)

    def close(self) -> None:
        if self._taken_over is not None:
            self._taken_over.close()
            self._taken_over = None

    @property
    def _ledger(self) -> FeedbackLedger:
        assert self._taken_over is not None, "a query is taken over before its first batch"
        return self._taken_over

    def write(self, df: DataFrame, context: BatchContext) -> ScoredBatch:
        """Score a batch's events, account for its labels, and write what is to be read.

        Its rows are those of :func:`app.streaming.feedback.rows.live_rows`.
        ``on_labelled`` is not called: which labels met their event is known only when the
        batch is written.
        """
        query, batch = context.query, context.batch
        wanted = None
        if not self.files.has_predictions(query, batch):
            wanted = self._scorer(context.version)
        if self._is_joined:
            # A join is to be evaluated once.
            df = df.persist()
        try:
            # One job evaluates the sources, the join and the UDF, and brings all that the driver
            # needs. A second one would double what a small batch takes.
            rows = self._rows(df, wanted)
            events, labels = rows[EVENT], rows[LABEL]
            self._rows_before = len(events)
            context.timer.end("score")
            context.check_fence()
            decision = self._ledger.decide(
                batch,
                _events(events, self._contract.n_features),
                _labels(labels),
                joined=_joined(rows[MATCH]),
                unread=oldest_unread(self._unread),
            )
            if wanted is not None:
                scored = _scored(events, decision.duplicates)
                self.files.write_predictions(scored, query, batch)
            context.reached("predictions")
            twice = self._duplicates(df, decision.duplicates)
        finally:
            df.unpersist()
        dead = _dead_letters(rows, twice, decision, batch)
        self.files.write_rejected(dead, query, batch)
        context.reached("dead_letters")
        served = self.files.predictions(query, batch)
        if len(served):
            if wanted is None or not decision.is_new:
                # What readers have been served is what an earlier try has written.
                self._ledger.record_served(served.by_event())
            for sink in self._sinks:
                path = self.files.predictions_path(query, batch)
                sink.deliver(df.sparkSession, path, query, batch)
        labelled = self._labelled(decision.matches)
        context.timer.end("write")
        counts = _label_counts(labels, decision, dead)
        return ScoredBatch(len(served), served.rows_stale, _reasons(dead, EVENT), labelled, counts)

    def _rows(self, df: DataFrame, wanted: WorkerModel | None) -> dict[str, pa.Table]:
        """Return the rows of each kind; the driver is brought features where it keeps them."""
        # Each partition costs a Python worker a task, also those that hold labels alone. A large
        # batch seldom comes alone, and one that looks large is worth a shuffle.
        slots = task_slots(df.sparkSession)
        tasks = scoring_tasks(slots, self._rows_before)
        raw = df.repartition(tasks) if 1 < tasks == slots else df.coalesce(tasks)
        if not self._is_joined:
            return scored_rows(raw, self._kinds, wanted) | {MATCH: _MATCHES.empty_table()}
        kept = dict(df.dtypes)["features"]
        features = pa.binary() if kept == "binary" else pa.list_(pa.float32())
        matches = _MATCHES.set(2, pa.field("features", features))
        return scored_rows(raw, self._kinds, wanted, {MATCH: matches})

    def _duplicates(self, df: DataFrame, sequences: list[int]) -> pa.Table:
        """Return the events of some numbers as they came: ``sequence``, ``event_id``, ``row``."""
        kind = KindOfRows(self._kinds[EVENT].source, _AS_THEY_CAME, with_rows=True)
        if not sequences:
            return kind.schema(has_model=False).empty_table()
        events = df.filter(F.col("kind") == EVENT)
        every = scored_rows(events, {EVENT: kind}, None)[EVENT]
        return every.filter(pc.is_in(every["sequence"], pa.array(sequences, pa.int64())))

    def unlearned_letters(
        self, df: DataFrame, batch: int, labelled: LabelledRows, reason: str
    ) -> pa.Table:
        classes = self._contract.classes
        dead = [
            DeadLabel(
                sequence,
                event_id,
                reason,
                json.dumps({"features": features, "label": classes[label]}),
            )
            for sequence, event_id, features, label in zip(
                labelled.sequences.tolist(),
                labelled.event_ids,
                labelled.features.tolist(),
                labelled.labels.tolist(),
                strict=True,
            )
        ]
        return _dead_table(LABEL, dead, batch)

    def _labelled(self, matches: list[Match]) -> LabelledRows:
        """Return the matches as rows to learn, in order of feedback time and event id."""
        matches = sorted(matches, key=lambda match: (match.feedback_time, match.id))
        width = self._contract.n_features
        features = [features_of(row, width) for row in self._ledger.features(matches)]
        # Rows may have gone between two tries of a batch, so that an event was never scored.
        served = self._ledger.served([match.id for match in matches])
        return LabelledRows(
            [match.id for match in matches],
            np.array(features).reshape(-1, width),
            np.array([match.label for match in matches], np.int32),
            np.array([match.event_sequence for match in matches], np.int64),
            np.array([served.get(match.id, UNKNOWN) for match in matches], np.int32),
        )


def scoring_tasks(slots: int, rows: int) -> int:
    """Return how many tasks are to score a batch of so many rows.

    The driver has a core to itself, unless what it waits for takes long.

    >>> scoring_tasks(slots=2, rows=500), scoring_tasks(slots=2, rows=100_000)
    (1, 2)
    """
    return slots if rows >= MANY_ROWS else max(1, slots - 1)


def _scored(events: pa.Table, duplicates: list[int]) -> pa.Table:
    """Return the events that were scored and are the first of their id."""
    good = events.filter(pc.is_null(events["reason"]))
    taken = pc.is_in(good["sequence"], pa.array(duplicates, pa.int64()))
    return good.filter(pc.invert(taken))


def _events(events: pa.Table, width: int) -> Events:
    """Return the events that passed validation."""
    good = events.filter(pc.is_null(events["reason"]))
    good = good.sort_by([("event_time", "ascending"), ("sequence", "ascending")])
    features: list[Any] = [None] * len(good)
    if "features" in good.column_names:
        features = of_one_length(good["features"].to_pylist(), width)
    served: list[int | None] = [None] * len(good)
    if "prediction" in good.column_names:
        served = good["prediction"].to_pylist()
    ids, sequences = _columns(good, ["event_id", "sequence"])
    return Events(ids, _micros(good), sequences, features, served)


def _labels(labels: pa.Table) -> Iterator[Label]:
    """Return the labels that passed validation."""
    good = labels.filter(pc.is_null(labels["reason"]))
    ids, sequences, indices, rows = _columns(good, ["event_id", "sequence", "label_index", "row"])
    return map(Label, ids, _micros(good), sequences, indices, rows)


def _micros(rows: pa.Table) -> list[int]:
    micros: list[int] = rows["event_time"].cast(pa.int64()).to_pylist()
    return micros


def _columns(table: pa.Table, names: list[str]) -> Iterator[list[Any]]:
    return (table[name].to_pylist() for name in names)


def _joined(matches: pa.Table) -> dict[tuple[str, int], bytes]:
    """Return the features of the events that Spark has joined with a label, by id and sequence."""
    features = matches["features"]
    if pa.types.is_list(features.type):
        rows = [np.array(row, np.float64).tobytes() for row in features.to_pylist()]
    else:
        rows = features.to_pylist()
    # An event that came twice was joined twice: only the one that was taken counts.
    keys = zip(*_columns(matches, ["event_id", "sequence"]), strict=True)
    return dict(zip(keys, rows, strict=True))


def _dead_letters(
    rows: dict[str, pa.Table], twice: pa.Table, decision: Decision, batch: int
) -> pa.Table:
    """Return every row of a batch, and of earlier ones, that turned out to be of no use."""
    parts = []
    for kind in (EVENT, LABEL):
        invalid = rows[kind].filter(pc.is_valid(rows[kind]["reason"]))
        parts.append(_dead_rows(kind, invalid, invalid["reason"], batch))
    duplicate = pa.array([DUPLICATE_ID] * len(twice), pa.string())
    parts += [
        _dead_table(LABEL, decision.dead, batch),
        _dead_rows(EVENT, twice, duplicate, batch),
    ]
    return pa.concat_tables(parts)


def _dead_rows(kind: str, rows: pa.Table, reasons: pa.Array, batch: int) -> pa.Table:
    n = len(rows)
    columns = [[kind] * n, rows["sequence"], rows["event_id"], reasons, rows["row"], [batch] * n]
    arrays = [
        pa.array(column, field.type) if isinstance(column, list) else column
        for column, field in zip(columns, _DEAD_SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=_DEAD_SCHEMA)


def _dead_table(kind: str, dead: list[DeadLabel], batch: int) -> pa.Table:
    rows = [
        {
            "kind": kind,
            "sequence": row.sequence,
            "event_id": row.id,
            "reason": row.reason,
            "row": row.row,
            "batch_id": batch,
        }
        for row in dead
    ]
    return pa.Table.from_pylist(rows, _DEAD_SCHEMA)


def _label_counts(labels: pa.Table, decision: Decision, dead: pa.Table) -> LabelCounts:
    delays = [(m.feedback_time - m.event_time) / SECOND for m in decision.matches]
    good = labels["reason"].null_count
    return LabelCounts(
        # Those of the first try, when rows have gone since.
        received=len(labels) - good + (good if decision.received is None else decision.received),
        dead=_reasons(dead, LABEL),
        pending=decision.pending,
        delay_seconds=sum(delays),
        longest_delay_seconds=max(delays, default=0.0),
        dropped_by=decision.dropped_by,
    )


def _reasons(dead: pa.Table, kind: str) -> dict[str, int]:
    reasons = dead.filter(pc.equal(dead["kind"], kind))["reason"].to_pylist()
    return dict(sorted(Counter(reasons).items()))
