"""What a batch of a replay leaves: predictions and dead letters, each written once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from app.contract import DUPLICATE_ID, Contract
from app.files.workdir import WorkDirectory
from app.parsing.packed_rows import PACKED, ROWS_COLUMN, RowSource, unpacked
from app.parsing.row_parser import RowParser
from app.registry.version import ModelVersion
from app.streaming.batch_writer import ROW, BatchContext, BatchFiles, ScoredBatch
from app.streaming.feedback.seen_ids import SeenIds
from app.streaming.rows.labelled import ORDER, ORDER_COLUMNS, LabelledRows
from app.streaming.rows.scored import raw_of_packed, scored_rows
from udfs.model_cache import WorkerModel
from udfs.score import SERVED, KindOfRows

_OF_DEAD = ["sequence", "event_id", "reason", "row"]


class ReplayWriter:
    """Predictions and dead letters of one work directory; a :class:`BatchWriter`.

    Parameters
    ----------
    workdir
    contract
    parser
        Parses the rows: here, to learn them, and in the workers, to score them meanwhile.
    scorer
        Gives what a worker needs to score with a version or a later one.
    """

    def __init__(
        self,
        workdir: WorkDirectory,
        contract: Contract,
        parser: RowParser,
        scorer: Callable[[ModelVersion], WorkerModel],
    ) -> None:
        self.files = BatchFiles(workdir, contract)
        self._contract = contract
        self._parser = parser
        self.parsers: Mapping[str, RowParser] = {ROW: parser}
        self._scorer = scorer
        self._kinds = {ROW: KindOfRows(RowSource(PACKED, parser), ("sequence",), is_scored=True)}
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
        """Score a batch of packed rows and write it."""
        query, batch = context.query, context.batch
        raw = _raw_batches(df)
        table = self._without_duplicates(self._parsed(raw), raw, batch)
        labelled = LabelledRows.from_arrow(table, self._contract.n_features)
        context.timer.end("read")
        context.on_labelled(labelled)
        good = table.filter(pc.is_null(table["reason"]))
        if len(good) and not self.files.has_predictions(query, batch):
            scored = self._scored(df, good, context.version)
            context.timer.end("score")
            context.check_fence()
            self.files.write_predictions(scored, query, batch)
        context.reached("predictions")
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

    def unlearned_letters(
        self, df: DataFrame, batch: int, labelled: LabelledRows, reason: str
    ) -> pa.Table:
        rows = _chosen(self._parsed(_raw_batches(df), with_rows=True), labelled.sequences)
        return _dead(_with(rows, "reason", pa.scalar(reason, pa.string())), batch)

    def _parsed(self, raw: Iterable[pa.RecordBatch], *, with_rows: bool = False) -> pa.Table:
        parsed = [self._parser.parse(rows, with_rows=with_rows) for rows in raw]
        return pa.Table.from_batches(parsed, self._parser.schema).sort_by("sequence")

    def _without_duplicates(
        self, table: pa.Table, raw: list[pa.RecordBatch], batch: int
    ) -> pa.Table:
        """Return the rows with those whose id is taken turned into dead letters."""
        if self._seen is None:
            return table
        good = table.filter(pc.is_null(table["reason"])).select(ORDER_COLUMNS).sort_by(ORDER)
        positions = self._seen.accept(good["event_id"].to_pylist(), batch)
        if not positions:
            return table
        sequences = good["sequence"].take(pa.array(positions))
        is_taken = pc.is_in(table["sequence"], sequences.combine_chunks())
        every = self._parsed(raw, with_rows=True)
        reason = pc.if_else(is_taken, DUPLICATE_ID, table["reason"])
        # Those rows alone are read as JSON.
        row = pc.if_else(is_taken, every["row"], table["row"])
        return _with(_with(table, "reason", reason), "row", row)

    def _scored(self, df: DataFrame, good: pa.Table, version: ModelVersion) -> pa.Table:
        """Return the good rows with what is predicted for each."""
        served = scored_rows(raw_of_packed(df, ROW), self._kinds, self._scorer(version))[ROW]
        served = _chosen(served.sort_by("sequence"), good["sequence"])
        for name in SERVED.names:
            good = good.append_column(name, served[name])
        return good


def _raw_batches(df: DataFrame) -> list[pa.RecordBatch]:
    return list(unpacked(df.toArrow()[ROWS_COLUMN]))


def _chosen(rows: pa.Table, sequences: object) -> pa.Table:
    return rows.filter(pc.is_in(rows["sequence"], pa.array(sequences, pa.int64())))


def _with(rows: pa.Table, name: str, column: pa.Scalar | pa.ChunkedArray) -> pa.Table:
    if isinstance(column, pa.Scalar):
        column = pa.array([column.as_py()] * len(rows), column.type)
    return rows.set_column(rows.schema.get_field_index(name), name, column)


def _dead(rejected: pa.Table, batch: int) -> pa.Table:
    columns = rejected.select(_OF_DEAD)
    return columns.append_column("batch_id", pa.array([batch] * len(rejected), pa.int64()))
