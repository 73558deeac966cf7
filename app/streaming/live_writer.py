"""What a batch of a live stream leaves: predictions, dead letters, and labelled rows to learn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from app.config.run import DRIVER
from app.contract import DIVERGED, DUPLICATE_ID, Contract
from app.files.workdir import WorkDirectory
from app.monitor.records import LabelCounts
from app.registry.version import ModelVersion
from app.streaming.batch_writer import BatchContext, BatchFiles, ScoredBatch
from app.streaming.feedback.decision import DeadLabel, Decision, Event, Label, Match
from app.streaming.feedback.join_window import SECOND, JoinWindow
from app.streaming.feedback.ledger import FeedbackLedger
from app.streaming.feedback.rows import EVENT, LABEL, MATCH
from app.streaming.rows.labelled import UNKNOWN, LabelledRows
from app.streaming.rows.validation import raw_as_json
from app.streaming.sinks.base import Sink
from app.streaming.sources.pace import oldest_unread
from app.streaming.spark.runtime import task_slots
from udfs.score import ScoreUdf

_OF_LABELS = ("label_index", "row")

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
    score
        Gives the UDF of :func:`udfs.score.score_udf` that scores with a version or a later one.
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
        score: Callable[[ModelVersion], ScoreUdf],
        state_store: str,
        sinks: Sequence[Sink] = (),
        unread: Sequence[Path] = (),
    ) -> None:
        self.files = BatchFiles(workdir, contract)
        self._contract = contract
        self._window = window
        self._score = score
        # Whose features the driver is brought: those of all events, or of those that met a label.
        self._features_of = EVENT if state_store == DRIVER else MATCH
        self._sinks = sinks
        self._unread = unread
        self._ledgers = workdir.ledgers
        self._taken_over: FeedbackLedger | None = None

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
        rows = df
        if not self.files.has_predictions(query, batch):
            # Nothing filters what the UDF gives: Spark would evaluate it once for each side. Each
            # partition costs a Python worker a task, also those that hold labels alone.
            scores = self._score(context.version)(_event_features()).alias("served")
            rows = df.coalesce(task_slots(df.sparkSession)).select("*", scores)
        rows = rows.persist()
        try:
            # One job evaluates the sources, the join and the UDF, and brings all that the driver
            # needs. A second one would double what a small batch takes.
            table = _for_driver(rows, self._features_of).toArrow()
            context.timer.end("score")
            context.check_fence()
            decision = self._ledger.decide(
                batch,
                *_good_rows(table),
                joined=_joined(table),
                unread=oldest_unread(self._unread),
            )
            if "served" in table.column_names:
                scored = _scored(table, decision.duplicates)
                self.files.write_predictions(scored, query, batch)
            context.reached("predictions")
            dead = _dead_letters(rows, table, decision, batch)
        finally:
            rows.unpersist()
        self.files.write_rejected(dead, query, batch)
        context.reached("dead_letters")
        served = self.files.predictions(query, batch)
        if len(served):
            self._ledger.record_served(served.by_event())
            for sink in self._sinks:
                path = self.files.predictions_path(query, batch)
                sink.deliver(df.sparkSession, path, query, batch)
        labelled = self._labelled(decision.matches)
        context.timer.end("write")
        counts = _label_counts(table, decision, dead)
        return ScoredBatch(len(served), served.rows_stale, _reasons(dead, EVENT), labelled, counts)

    def diverged_letters(self, df: DataFrame, batch: int, labelled: LabelledRows) -> pa.Table:
        classes = self._contract.classes
        dead = [
            DeadLabel(
                sequence,
                event_id,
                DIVERGED,
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
        features = np.frombuffer(b"".join(self._ledger.features(matches)), np.float32)
        # Rows may have gone between two tries of a batch, so that an event was never scored.
        served = self._ledger.served([match.id for match in matches])
        return LabelledRows(
            [match.id for match in matches],
            features.reshape(-1, self._contract.n_features),
            np.array([match.label for match in matches], np.int32),
            np.array([match.event_sequence for match in matches], np.int64),
            np.array([served.get(match.id, UNKNOWN) for match in matches], np.int32),
        )


def _event_features() -> Column:
    """Return what is to be scored: the features of events, and not those that met a label."""
    return F.when(F.col("kind") == EVENT, F.col("features"))


def _for_driver(rows: DataFrame, features_of: str) -> DataFrame:
    """Return what the driver needs of a batch, with the features of one kind of row."""
    return rows.select(
        "kind",
        "sequence",
        "event_id",
        F.unix_micros("time").alias("time"),
        F.when(F.col("kind") == features_of, F.col("features")).alias("features"),
        "label_index",
        "reason",
        "row",
        *(name for name in rows.columns if name == "served"),
    )


def _scored(table: pa.Table, duplicates: list[int]) -> pa.Table:
    """Return the events that were scored and are the first of their id."""
    events = table.filter(pc.and_(pc.equal(table["kind"], EVENT), pc.is_null(table["reason"])))
    taken = pc.is_in(events["sequence"], pa.array(duplicates, pa.int64()))
    return events.filter(pc.invert(taken))


def _good_rows(table: pa.Table) -> tuple[list[Event], list[Label]]:
    """Return the events and labels of a batch that passed validation."""
    good = table.filter(pc.is_null(table["reason"]))
    events, labels = (good.filter(pc.equal(good["kind"], kind)) for kind in (EVENT, LABEL))
    common = ["event_id", "time", "sequence"]
    return (
        [Event(*row) for row in zip(*_columns(events, common), _as_bytes(events), strict=True)],
        [Label(*row) for row in zip(*_columns(labels, [*common, *_OF_LABELS]), strict=True)],
    )


def _columns(table: pa.Table, names: list[str]) -> Iterator[list[Any]]:
    return (table[name].to_pylist() for name in names)


def _joined(table: pa.Table) -> dict[tuple[str, int], bytes]:
    """Return the features of the events that Spark has joined with a label, by id and sequence."""
    joined = table.filter(pc.equal(table["kind"], MATCH))
    # An event that came twice was joined twice: only the one that was taken counts.
    keys = zip(*_columns(joined, ["event_id", "sequence"]), strict=True)
    features = zip(keys, _as_bytes(joined), strict=True)
    return {key: row for key, row in features if row is not None}


def _as_bytes(rows: pa.Table) -> list[bytes | None]:
    """Return the features of each row, None where the driver was not brought them."""
    features = rows["features"].combine_chunks()
    if features.null_count or not len(features):
        return [None] * len(features)
    return [row.tobytes() for row in features.flatten().to_numpy().reshape(len(features), -1)]


def _dead_letters(rows: DataFrame, table: pa.Table, decision: Decision, batch: int) -> pa.Table:
    """Return every row of a batch, and of earlier ones, that turned out to be of no use."""
    invalid = table.filter(pc.is_valid(table["reason"]))
    invalid = invalid.append_column("batch_id", pa.array([batch] * len(invalid), pa.int64()))
    parts = [
        invalid.select(_DEAD_SCHEMA.names).cast(_DEAD_SCHEMA),
        _dead_table(LABEL, decision.dead, batch),
    ]
    if decision.duplicates:
        taken = (F.col("kind") == EVENT) & F.col("sequence").isin(decision.duplicates)
        raw = rows.filter(taken).select("sequence", "event_id", raw_as_json().alias("row"))
        twice = [
            DeadLabel(row["sequence"], row["event_id"], DUPLICATE_ID, row["row"])
            for row in raw.toArrow().to_pylist()
        ]
        parts.append(_dead_table(EVENT, twice, batch))
    return pa.concat_tables(parts)


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


def _label_counts(table: pa.Table, decision: Decision, dead: pa.Table) -> LabelCounts:
    delays = [(m.feedback_time - m.event_time) / SECOND for m in decision.matches]
    labels = table.filter(pc.equal(table["kind"], LABEL))
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
