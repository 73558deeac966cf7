"""Rows on their way from the planner to a task, packed.

Spark keeps what the planner of a Python data source hands it row by row, each an object
that is serialized and read again: for 10,000 rows of 30 columns that takes as long as
scoring them. So the planner hands it one value for many rows, the bytes of an Arrow
stream, and a Python worker turns that back into columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import types as T

PACKED_SCHEMA = T.StructType([T.StructField("rows", T.BinaryType())])

_ARROW_SCHEMA = pa.schema([pa.field("rows", pa.binary())])


def pack(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows as one row of :data:`PACKED_SCHEMA`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
    return pa.record_batch([pa.array([sink.getvalue().to_pybytes()], pa.binary())], _ARROW_SCHEMA)


def unpacked(packed: DataFrame, schema: T.StructType) -> DataFrame:
    """Return the rows of ``schema`` that were packed into rows of :data:`PACKED_SCHEMA`."""
    return packed.mapInArrow(_unpack, schema)


def _unpack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for packed in batch.column("rows"):
            yield from pa.ipc.open_stream(packed.as_buffer())
