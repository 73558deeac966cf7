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
from app.registry.record import HeadRecord
from app.streaming.duplicates import SeenIds
from app.streaming.labelled import COLLECTED_COLUMNS, ORDER, ORDER_COLUMNS, LabelledRows
from app.streaming.predictions import class_labels, predicted
from app.streaming.schema import DIVERGED, RAW_COLUMN, Contract, mark_duplicates, raw_as_json
from app.streaming.sinks import WriteOnceParquet

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
        """Begin a query, or go on with it: what an earlier learner staged is removed."""
        for sink in (self._predictions, self._dead_letters):
            sink.discard_staged(query)
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
        before_rename: Callable[[], None],
        reached: Callable[[str], None],
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
        before_rename : callable
            May still refuse what was written by raising.
        reached : callable
            Told ``predictions`` and ``dead_letters`` when those are written.
        """
        rows = self._without_duplicates(df, batch)
        retried = self._predictions.has(query, batch)
        if retried:
            rows = self._with_kept_predictions(rows, query, batch)
        else:
            # Not below a filter: Spark might evaluate the UDF once for each side of it.
            rows = rows.withColumn("served", self._score(head)("features"))
        rows = rows.persist()
        try:
            if not retried:
                self._predictions.write(
                    predicted(rows.filter("reason IS NULL"), self._contract, batch),
                    query,
                    batch,
                    before_rename,
                )
            reached("predictions")
            table = (
                rows.filter("reason IS NOT NULL OR label_index IS NOT NULL")
                .withColumn("served_index", F.col("served.prediction"))
                .select(*COLLECTED_COLUMNS)
                .toArrow()
            )
            bad = table["reason"].null_count < len(table)
            if bad and not self._dead_letters.has(query, batch):
                self._dead_letters.write(_rejected(rows, batch), query, batch, before_rename)
            reached("dead_letters")
        finally:
            rows.unpersist()
        reasons = table["reason"].drop_null().value_counts().to_pylist()
        return ScoredBatch(
            self._predictions.count_rows(query, batch),
            self._predictions.count_true(query, batch, "stale"),
            {count["values"]: count["counts"] for count in reasons},
            LabelledRows.from_arrow(table, self._contract.n_features),
        )

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

    def _with_kept_predictions(self, rows: DataFrame, query: str, batch: int) -> DataFrame:
        """Return rows with what an earlier try of this batch predicted and wrote."""
        number = F.array_position(class_labels(self._contract), F.col("prediction")) - 1
        kept = self._predictions.read(rows.sparkSession, query, batch).select(
            "event_id", F.struct(number.cast("int").alias("prediction")).alias("served")
        )
        return rows.join(kept, "event_id", "left")


def _rejected(rows: DataFrame, batch: int) -> DataFrame:
    return rows.filter("reason IS NOT NULL").select(
        "sequence", "event_id", "reason", "row", F.lit(batch).cast("long").alias("batch_id")
    )
