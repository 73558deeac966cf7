"""What a batch of a replay leaves: predictions and dead letters, each written once."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from app.contract import DIVERGED, Contract
from app.files.workdir import WorkDirectory
from app.registry.version import ModelVersion
from app.streaming.batch_writer import BatchContext, BatchFiles, ScoredBatch
from app.streaming.feedback.seen_ids import SeenIds
from app.streaming.rows.labelled import COLLECTED_COLUMNS, ORDER, ORDER_COLUMNS, LabelledRows
from app.streaming.rows.validation import RAW_COLUMN, mark_duplicates, raw_as_json
from udfs.score import ScoreUdf


class ReplayWriter:
    """Predictions and dead letters of one work directory; a :class:`BatchWriter`.

    Parameters
    ----------
    workdir
    contract
    score
        Gives the UDF of :func:`udfs.score.score_udf` that scores with a version or a later one.
    """

    def __init__(
        self,
        workdir: WorkDirectory,
        contract: Contract,
        score: Callable[[ModelVersion], ScoreUdf],
    ) -> None:
        self.files = BatchFiles(workdir, contract)
        self._contract = contract
        self._score = score
        self._seen_path = workdir.seen_ids
        self._seen: SeenIds | None = None

    def take_over(self, query: str) -> None:
        self.close()
        if self._contract.id is not None:
            self._seen = SeenIds(self._seen_path, query)

    def close(self) -> None:
        if self._seen is not None:
            self._seen.close()
            self._seen = None

    def write(self, df: DataFrame, context: BatchContext) -> ScoredBatch:
        """Score a batch of :func:`app.streaming.rows.validation.validate` and write it."""
        query, batch = context.query, context.batch
        rows = self._without_duplicates(df, batch).persist()
        try:
            table = rows.select(*COLLECTED_COLUMNS, "row").toArrow()
            labelled = LabelledRows.from_arrow(table, self._contract.n_features)
            context.timer.end("read")
            context.on_labelled(labelled)
            if not self.files.has_predictions(query, batch):
                scored = self._scored(rows, context.version)
                context.timer.end("score")
                context.check_fence()
                self.files.write_predictions(scored, query, batch)
            context.reached("predictions")
        finally:
            rows.unpersist()
        rejected = table.filter(pc.is_valid(table["reason"]))
        if len(rejected):
            context.check_fence()
            self.files.write_rejected(_dead(rejected, batch), query, batch)
        context.reached("dead_letters")
        served = self.files.predictions(query, batch)
        if len(labelled):
            labelled = labelled.with_served(served.to(labelled.event_ids))
        counts = rejected["reason"].value_counts().to_pylist()
        reasons = {count["values"]: count["counts"] for count in counts}
        context.timer.end("write")
        return ScoredBatch(len(served), served.rows_stale, reasons, labelled)

    def diverged_letters(self, df: DataFrame, batch: int, labelled: LabelledRows) -> pa.Table:
        rows = df.filter("reason IS NULL AND label_index IS NOT NULL").select(
            "sequence",
            "event_id",
            F.lit(DIVERGED).alias("reason"),
            raw_as_json().alias("row"),
            F.lit(batch).cast("long").alias("batch_id"),
        )
        table = rows.toArrow()
        # Without the duplicates, which have become dead letters before.
        return table.filter(pc.is_in(table["sequence"], pa.array(labelled.sequences)))

    def _without_duplicates(self, df: DataFrame, batch: int) -> DataFrame:
        """Return the rows with those whose id is taken turned into dead letters."""
        if self._seen is None:
            return df.drop(RAW_COLUMN)
        good = df.filter("reason IS NULL").select(*ORDER_COLUMNS).toArrow().sort_by(ORDER)
        positions = self._seen.accept(good["event_id"].to_pylist(), batch)
        sequences = good["sequence"].to_pylist()
        return mark_duplicates(df, [sequences[position] for position in positions])

    def _scored(self, rows: DataFrame, version: ModelVersion) -> pa.Table:
        """Return the good rows with what is predicted for each."""
        # Not below a filter: Spark might evaluate the UDF once for each side of it.
        served = self._score(version)("features").alias("served")
        time = F.unix_micros("event_time").alias("time")
        scored = rows.select("event_id", time, "reason", served).toArrow()
        return scored.filter(pc.is_null(scored["reason"]))


def _dead(rejected: pa.Table, batch: int) -> pa.Table:
    columns = rejected.select(["sequence", "event_id", "reason", "row"])
    return columns.append_column("batch_id", pa.array([batch] * len(rejected), pa.int64()))
