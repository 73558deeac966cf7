"""The times of rows before Spark parses them: to read in step, and for nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.files.lines import csv_cells, json_object
from app.files.sequence import TEXT_COLUMN

_SECOND = 1_000_000

# A row dated further ahead becomes a dead letter, and says nothing of where its source is.
_AHEAD_SECONDS = 86_400
_YEAR_1 = -62_135_596_800


class RowTimes:
    """Reads the time of each row, in microseconds since 1970.

    Parameters
    ----------
    row_format : {"csv", "json", "parquet"}
        What the column ``text`` holds; ``parquet`` stands for typed columns.
    columns
        Of a CSV line, in order.
    column
        The one with the time.

    Examples
    --------
    >>> rows = pa.RecordBatch.from_pydict({"text": ['{"t": 2}', '{"t": "1970-01-01"}', "?"]})
    >>> list(RowTimes("json", ("t",), "t").of(rows))
    [2000000, 0, None]
    """

    def __init__(self, row_format: str, columns: Sequence[str], column: str) -> None:
        self._format = row_format
        self._column = column
        self._place = list(columns).index(column) if row_format == "csv" else 0

    def of(self, rows: pa.RecordBatch) -> Iterator[int | None]:
        """Yield the time of each row, None where none can be read."""
        latest = (time.time() + _AHEAD_SECONDS) * _SECOND
        for value in self._values(rows):
            micros = _micros(value)
            yield None if micros is None or micros > latest else micros

    def _values(self, rows: pa.RecordBatch) -> Iterator[Any]:
        if self._format not in ("csv", "json"):
            values = rows[self._column]
            if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
                # By number: Python's dates hold the years 1 to 9999 alone.
                times = pc.cast(values, pa.timestamp("us"), safe=False).cast(pa.int64())
                yield from ((micros,) for micros in times.to_pylist())
            else:
                yield from values.to_pylist()
            return
        for line in rows[TEXT_COLUMN].to_pylist():
            if self._format == "json":
                yield json_object(line).get(self._column)
            else:
                cells = csv_cells(line)
                yield cells[self._place] if self._place < len(cells) else None


def _micros(value: Any) -> int | None:
    if isinstance(value, tuple):
        micros: int | None = value[0]
        return micros
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = _iso_seconds(value)
    # A NaN is in no range.
    return round(seconds * _SECOND) if seconds >= _YEAR_1 and seconds < float("inf") else None


def _iso_seconds(value: Any) -> float:
    try:
        moment = datetime.fromisoformat(value.strip())
    except (AttributeError, TypeError, ValueError):
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
