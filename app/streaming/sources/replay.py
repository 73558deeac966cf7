"""A Spark data source that replays files in batches of exactly N rows, in file order.

Spark's own file source hands out whole files, so one CSV would be one batch.
This one counts rows: its offsets are positions of :mod:`app.files.sequence`.
The planner, one Python process of the driver, reads in sequence and hands each
batch to the JVM, packed (:mod:`app.parsing.packed_rows`). Only a batch that is
tried again after a crash is read by an executor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import (
    DataSource,
    SimpleDataSourceStreamReader,
)
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.files.sequence import START, FileSequence, Position
from app.parsing.packed_rows import packed_batches
from app.streaming.rows.layout import PACKED_ROWS, RowLayout
from app.streaming.spark.runtime import end_with_the_jvm_quietly

MOST_ROWS_AT_ONCE = 10_000


def read_replay(
    spark: SparkSession,
    files: Sequence[str],
    layout: RowLayout,
    *,
    rows_per_batch: int,
    rows_per_value: int,
    tasks: int,
    columns: Sequence[str],
    text: TextFormat = AS_USUAL,
) -> DataFrame:
    """Return the rows of files as a stream that ends.

    Parameters
    ----------
    spark
    files
        Absolute paths, in the order they are read.
    layout
        The columns of each file.
    rows_per_batch
        Rows of one micro-batch, exactly but for the last.
    rows_per_value
        Rows that travel packed together, and so to one task.
    tasks
        How many tasks share a batch.
    columns
        Those that are needed.
    text
        How text is written.

    Returns
    -------
    DataFrame
        ``rows`` (binary), packed.
    """
    spark.dataSource.register(ReplaySource)
    packed = (
        spark.readStream.format(ReplaySource.name())
        .option("files", json.dumps(files))
        .option("format", layout.row_format)
        .option("columns", json.dumps(columns))
        .option("text", text.to_option())
        .option("rows_per_batch", rows_per_batch)
        .option("rows_per_value", min(rows_per_value, MOST_ROWS_AT_ONCE))
        .load()
    )
    return packed.repartition(tasks) if tasks > 1 else packed


class ReplaySource(DataSource):
    """Data source ``hedgestream_replay``.

    Options
    -------
    files
        JSON list of paths, in order.
    format : {"csv", "json", "parquet"}
    columns
        JSON list of the columns that are needed.
    text
        See :class:`app.files.reading.text_stream.TextFormat`.
    rows_per_batch
    rows_per_value
        How many rows are packed into one value, at most.
    """

    @classmethod
    def name(cls) -> str:
        return "hedgestream_replay"

    def schema(self) -> StructType:
        return PACKED_ROWS

    def simpleStreamReader(self, schema: StructType) -> ReplayStreamReader:
        end_with_the_jvm_quietly()
        rows_per_batch, rows_per_value = (
            int(self.options[name]) for name in ("rows_per_batch", "rows_per_value")
        )
        files, columns = (json.loads(self.options[name]) for name in ("files", "columns"))
        text = TextFormat.from_option(self.options["text"])
        sequence = FileSequence(files, self.options["format"], columns, text=text)
        return ReplayStreamReader(sequence, rows_per_batch, rows_per_value)


class ReplayStreamReader(SimpleDataSourceStreamReader, SupportsTriggerAvailableNow):
    """Hands out batches of ``rows_per_batch`` rows until the files are read."""

    def __init__(self, rows: FileSequence, rows_per_batch: int, rows_per_value: int) -> None:
        self._rows = rows
        self._rows_per_batch = rows_per_batch
        self._rows_per_value = rows_per_value

    def initialOffset(self) -> Position:
        return dict(START)

    def prepareForTriggerAvailableNow(self) -> None:
        """Nothing to fix: the list of files does not change during a run."""

    def read(self, start: Position) -> tuple[Iterator[pa.RecordBatch], Position]:
        packed, end = self._read(start, self._rows_per_batch)
        # A list's iterator: Spark copies it.
        return iter(packed), end if packed else start

    def readBetweenOffsets(self, start: Position, end: Position) -> Iterator[pa.RecordBatch]:
        return iter(self._read(start, end["row"] - start["row"])[0])

    def _read(self, start: Position, n: int) -> tuple[list[pa.RecordBatch], Position]:
        batches, end = self._rows.read(start, n)
        return packed_batches(batches, self._rows_per_value), end
