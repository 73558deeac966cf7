"""What a batch leaves for its readers: predictions and dead letters, each written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from app.monitor.batch_log import LabelCounts
from app.monitor.phases import Laps
from app.registry.record import HeadRecord
from app.streaming.duplicates import SeenIds
from app.streaming.labelled import COLLECTED_COLUMNS, ORDER, ORDER_COLUMNS, LabelledRows
from app.streaming.predictions import PREDICTIONS_FILE, prediction_table, read_served
from app.streaming.schema import (
    DIVERGED,
    RAW_COLUMN,
    Contract,
    mark_duplicates,
    raw_as_json,
)
from app.streaming.sinks import WriteOnceParquet

_REJECTED_FILE = "rejected.parquet"
_DIVERGED_FILE = "diverged.parquet"


@dataclass(frozen=True)
class ScoredBatch:
    """What scoring a batch gave.

    Attributes
    ----------
    rows : int
        Predicted.
    rows_stale : int
        Of those, predicted while Redis could not be asked for a newer version.
    dead_letters : dict of str to int
        Rows by reason; of events, when labels come apart from them.
    labelled : LabelledRows
    labels : LabelCounts
    """

    rows: int
    rows_stale: int
    dead_letters: dict[str, int]
    labelled: LabelledRows
    labels: LabelCounts = field(default_factory=LabelCounts)


class Outputs:
    """Predictions and dead letters of one work directory.

    Parameters
    ----------
    workdir : Path
    contract : Contract
    score : callable
        Gives the UDF of :func:`udfs.score.score_udf` that scores with a version or a later one.
    """

    def __init__(
        self,
        workdir: Path,
        contract: Contract,
        score: Callable[[HeadRecord], Callable[[str], Column]],
    ) -> None:
        self._contract = contract
        self._score = score
        self._predictions = WriteOnceParquet(workdir / "predictions")
        self._dead_letters = WriteOnceParquet(workdir / "dead_letters")
        self._seen_path = workdir / "seen_ids.sqlite"
        self._seen: SeenIds | None = None

    def take_over(self, query: str) -> None:
        """Begin a query, or go on with it."""
        self.close()
        if self._contract.id is not None:
            self._seen = SeenIds(self._seen_path, query)

    def close(self) -> None:
        if self._seen is not None:
            self._seen.close()
            self._seen = None

    def write(
        self,
        df: DataFrame,
        query: str,
        batch: int,
        head: HeadRecord,
        before_writing: Callable[[], None],
        reached: Callable[[str], None],
        on_labelled: Callable[[LabelledRows], None],
        laps: Laps,
    ) -> ScoredBatch:
        """Score a batch and write it; what an earlier try has written stays.

        Parameters
        ----------
        df : DataFrame
            Of :func:`app.streaming.schema.validate`.
        query : str
        batch : int
        head : HeadRecord
            The version to score with, unless a later one is found.
        before_writing : callable
            May still refuse what is to be written by raising.
        reached : callable
            Told ``predictions`` and ``dead_letters`` when those are written.
        on_labelled : callable
            Given the labelled rows as soon as they are known, before any is scored.
        laps : Laps
            Counts the time by phase.
        """
        rows = self._without_duplicates(df, batch).persist()
        try:
            table = rows.select(*COLLECTED_COLUMNS, "row").toArrow()
            labelled = LabelledRows.from_arrow(table, self._contract.n_features)
            laps.end("read")
            on_labelled(labelled)
            if not self._predictions.has_rows(query, batch):
                scored = self._scored(rows, head)
                laps.end("score")
                before_writing()
                if len(scored):
                    predictions = prediction_table(scored, self._contract, batch)
                    self._predictions.write_file(predictions, query, batch, PREDICTIONS_FILE)
            reached("predictions")
        finally:
            rows.unpersist()
        rejected = table.filter(pc.is_valid(table["reason"]))
        if len(rejected):
            before_writing()
            self._dead_letters.write_file(_dead(rejected, batch), query, batch, _REJECTED_FILE)
        reached("dead_letters")
        served = read_served(self._predictions.path(query, batch), self._contract)
        if len(labelled):
            labelled = labelled.with_served(served.to(labelled.event_ids))
        counts = rejected["reason"].value_counts().to_pylist()
        reasons = {count["values"]: count["counts"] for count in counts}
        laps.end("write")
        return ScoredBatch(len(served), served.rows_stale, reasons, labelled)

    def has_diverged(self, query: str, batch: int) -> bool:
        """Tell whether an earlier try of a batch could not learn it."""
        return self._dead_letters.has_file(query, batch, _DIVERGED_FILE)

    def reject_diverged(
        self, df: DataFrame, query: str, batch: int, labelled: LabelledRows
    ) -> None:
        """Write the labelled rows of a batch as dead letters: they cannot be learned."""
        rows = df.filter("reason IS NULL AND label_index IS NOT NULL").select(
            "sequence",
            "event_id",
            F.lit(DIVERGED).alias("reason"),
            raw_as_json().alias("row"),
            F.lit(batch).cast("long").alias("batch_id"),
        )
        table = rows.toArrow()
        # Without the duplicates, which have become dead letters before.
        table = table.filter(pc.is_in(table["sequence"], pa.array(labelled.sequences)))
        self._dead_letters.write_file(table, query, batch, _DIVERGED_FILE)

    def _without_duplicates(self, df: DataFrame, batch: int) -> DataFrame:
        """Return the rows with those whose id is taken turned into dead letters."""
        if self._seen is None:
            return df.drop(RAW_COLUMN)
        good = df.filter("reason IS NULL").select(*ORDER_COLUMNS).toArrow().sort_by(ORDER)
        positions = self._seen.accept(good["event_id"].to_pylist(), batch)
        sequences = good["sequence"].to_pylist()
        return mark_duplicates(df, [sequences[position] for position in positions])

    def _scored(self, rows: DataFrame, head: HeadRecord) -> pa.Table:
        """Return the good rows with what is predicted for each."""
        # Not below a filter: Spark might evaluate the UDF once for each side of it.
        served = self._score(head)("features").alias("served")
        time = F.unix_micros("event_time").alias("time")
        scored = rows.select("event_id", time, "reason", served).toArrow()
        return scored.filter(pc.is_null(scored["reason"]))


def _dead(rejected: pa.Table, batch: int) -> pa.Table:
    columns = rejected.select(["sequence", "event_id", "reason", "row"])
    return columns.append_column("batch_id", pa.array([batch] * len(rejected), pa.int64()))
