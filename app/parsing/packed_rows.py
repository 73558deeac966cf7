"""Raw rows on their way from a source to who parses them.

Spark keeps what the planner of a Python data source hands it row by row, each an object
that is serialized and read again: for 10,000 rows of 30 columns that takes as long as
scoring them. So many rows travel as one value, the bytes of an Arrow stream, from the planner to
the scorers, and from those to the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.files.reading.readers import TEXT_COLUMN
from app.files.sequence import SEQUENCE_COLUMN
from app.parsing.arrow_messages import numbered_rows
from app.parsing.row_parser import RowParser

PACKED, JSON, ARROW = "packed", "json", "arrow"

ROWS_COLUMN = "rows"
PACKED_SCHEMA = pa.schema([(ROWS_COLUMN, pa.binary())])

JSON_SCHEMA = pa.schema(
    [(SEQUENCE_COLUMN, pa.int64()), (TEXT_COLUMN, pa.binary())], {"format": "json"}
)


@dataclass(frozen=True)
class RowSource:
    """How the raw rows of a source come, and how they are parsed.

    Attributes
    ----------
    encoding : {"packed", "json", "arrow"}
        What a value holds: rows that were packed here, one JSON object, or an Arrow IPC stream
        that somebody else wrote.
    parser
    """

    encoding: str
    parser: RowParser

    def batches(self, sequences: pa.Array, values: pa.Array) -> Iterator[pa.RecordBatch]:
        """Yield rows as :meth:`app.parsing.row_parser.RowParser.parse` takes them.

        Parameters
        ----------
        sequences : int64
            Number of each value's first row, but where it is packed.
        values : binary
        """
        if self.encoding == PACKED:
            yield from unpacked(values)
        elif self.encoding == ARROW:
            yield from numbered_rows(sequences, values)
        elif len(values):
            yield pa.RecordBatch.from_arrays([sequences, values], schema=JSON_SCHEMA)


def bytes_of(features: pa.Array) -> pa.Array:
    """Return the features of rows as bytes, to be read by :func:`features_of`.

    In float32 where that holds all of them exactly, as it does what came so, and whole numbers:
    they are kept for each event that waits for its label.

    Parameters
    ----------
    features : fixed-size list of float64, shape (n,)

    Returns
    -------
    pa.Array, shape (n,), binary
        Null where the features are.
    """
    n, width = len(features), features.type.list_size
    is_given = pc.is_valid(features)
    values = np.zeros((n, width))
    values[np.asarray(is_given)] = features.flatten().to_numpy().reshape(-1, width)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if np.array_equal(narrow, values, equal_nan=True):
        values = narrow
    offsets = np.arange(n + 1, dtype=np.int64) * (values.itemsize * width)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    every = pa.Array.from_buffers(pa.large_binary(), n, buffers)
    return pc.if_else(is_given, every, pa.scalar(None, pa.large_binary())).cast(pa.binary())


def features_of(row: bytes, width: int) -> np.ndarray:
    """Return the features of a row from their bytes, shape (width,), float64."""
    kind = np.float64 if len(row) == 8 * width else np.float32
    return np.frombuffer(row, kind).astype(np.float64)


def of_one_length(rows: list[bytes], width: int) -> list[bytes]:
    """Return the features of rows so that all have as many bytes."""
    if len(set(map(len, rows))) <= 1:
        return rows
    return [features_of(row, width).tobytes() for row in rows]


def packed(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Return rows as the bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write(rows)
    return bytes(sink.getvalue())


def packed_batches(batches: Iterable[pa.RecordBatch], at_most: int) -> list[pa.RecordBatch]:
    """Return rows as rows of :data:`PACKED_SCHEMA`, so many of them in each at most."""
    values = [
        packed(batch.slice(first, at_most))
        for batch in batches
        for first in range(0, len(batch), at_most)
    ]
    return [pa.record_batch([pa.array([value], pa.binary())], PACKED_SCHEMA) for value in values]


def unpacked(values: pa.Array | pa.ChunkedArray) -> Iterator[pa.RecordBatch]:
    """Yield the rows that were packed into values."""
    for value in values:
        yield from pa.ipc.open_stream(value.as_buffer())
