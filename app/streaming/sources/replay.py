"""A Spark data source that replays files in batches of exactly N rows, in file order.

Spark's own file source hands out whole files, so one CSV would be one batch.
This one counts rows: its offsets are positions of :mod:`app.files.sequence`.
The planner, one Python process of the driver, reads in sequence and hands each
batch to the JVM, packed (:mod:`app.streaming.sources.packed_rows`). Only a batch that is
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
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from app.files.sequence import START, FileSequence, Position
from app.streaming.rows.layout import RowLayout
from app.streaming.sources.packed_rows import PACKED_SCHEMA, pack, unpacked
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

    Returns
    -------
    DataFrame
        ``sequence`` (long, the row's number), then ``text`` or the typed columns.
    """
    spark.dataSource.register(ReplaySource)
    schema = layout.source_schema()
    packed = (
        spark.readStream.format(ReplaySource.name())
        .option("files", json.dumps(files))
        .option("format", layout.row_format)
        .option("schema", schema.json())
        .option("rows_per_batch", rows_per_batch)
        .option("rows_per_value", min(rows_per_value, MOST_ROWS_AT_ONCE))
        .load()
    )
    if tasks > 1:
        packed = packed.repartition(tasks)
    return unpacked(packed, schema)


class ReplaySource(DataSource):
    """Data source ``hedgestream_replay``.

    Options
    -------
    files
        JSON list of paths, in order.
    format : {"csv", "json", "parquet"}
    schema
        JSON of the schema of the rows: ``sequence`` (long), then ``text`` or the columns.
        They come packed.
    rows_per_batch
    rows_per_value
        How many rows are packed into one value, at most.
    """

    @classmethod
    def name(cls) -> str:
        return "hedgestream_replay"

    def schema(self) -> StructType:
        return PACKED_SCHEMA

    def simpleStreamReader(self, schema: StructType) -> ReplayStreamReader:
        end_with_the_jvm_quietly()
        rows_per_batch, rows_per_value = (
            int(self.options[name]) for name in ("rows_per_batch", "rows_per_value")
        )
        return ReplayStreamReader(self._rows(), rows_per_batch, rows_per_value)

    def _rows(self) -> ArrowRows:
        files = json.loads(self.options["files"])
        schema = StructType.fromJson(json.loads(self.options["schema"]))
        sequence = FileSequence(files, self.options["format"], schema.fieldNames()[1:])
        return ArrowRows(sequence, to_arrow_schema(schema, timezone="UTC"))


class ArrowRows:
    """Rows of the files as Arrow batches in the types that Spark expects."""

    def __init__(self, sequence: FileSequence, schema: pa.Schema) -> None:
        self._sequence = sequence
        self._schema = schema

    def read(
        self, start: Position, n: int, at_once: int = MOST_ROWS_AT_ONCE
    ) -> tuple[list[pa.RecordBatch], Position]:
        """Return at most ``n`` rows from ``start`` on, in batches, and the position after them."""
        table, end = self._sequence.read(start, n)
        if end["row"] == start["row"]:
            return [], end
        table = table.cast(self._schema).combine_chunks()
        return table.to_batches(max_chunksize=at_once), end


class ReplayStreamReader(SimpleDataSourceStreamReader, SupportsTriggerAvailableNow):
    """Hands out batches of ``rows_per_batch`` rows until the files are read."""

    def __init__(self, rows: ArrowRows, rows_per_batch: int, rows_per_value: int) -> None:
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
        batches, end = self._rows.read(start, n, self._rows_per_value)
        return [pack(batch) for batch in batches], end
