"""Rows as they came: a batch of lines or of typed columns, its columns by name, its rows as JSON.

What a batch is made of is said by the metadata of its schema, so that it can be sent anywhere.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from app.contract import UNPARSABLE

CORRUPT_COLUMN = "_corrupt_line"
"""Names a row that no parser takes, in its JSON."""


class RawBatch(Protocol):
    """Rows whose columns can be asked for by name.

    Attributes
    ----------
    kept : ndarray of int, or None
        Places of the rows that are rows; None when all are. Columns hold those alone.
    malformed
        Reason for those that are none.
    """

    @property
    def kept(self) -> np.ndarray | None: ...

    @property
    def malformed(self) -> str: ...

    def column(self, name: str) -> pa.Array | None:
        """Return the column of a name, None when there is none."""

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        """Return columns as one float64 array, shape (n, len(names)), or None.

        None when any cell takes a closer look.
        """

    def as_json(self, place: int) -> str:
        """Return a row as a JSON object; a malformed one as the text that could not be parsed."""


class TypedBatch:
    """Rows in typed columns, as in Parquet.

    Parameters
    ----------
    rows : pa.RecordBatch
        ``sequence``, then columns of any types.
    """

    kept = None
    malformed = UNPARSABLE

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._rows = rows
        # The row's number comes first, and may have the name of a column.
        self._places = {name: i for i, name in enumerate(rows.schema.names) if i}

    def column(self, name: str) -> pa.Array | None:
        place = self._places.get(name)
        return None if place is None else self._rows.column(place)

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        return float_matrix(list(map(self.column, names)))

    def as_json(self, place: int) -> str:
        columns = self._places.items()
        return to_json({name: self._rows.column(i)[place].as_py() for name, i in columns})


class DamagedBatch:
    """One row in place of what cannot be read of a file."""

    malformed = UNPARSABLE

    def __init__(self, rows: pa.RecordBatch, damage: str) -> None:
        self.kept = np.empty(0, np.int64)
        self._damage = damage

    def column(self, name: str) -> pa.Array | None:
        return None

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        return None

    def as_json(self, place: int) -> str:
        return corrupt_json(self._damage)


def float_matrix(columns: Sequence[pa.Array | None]) -> np.ndarray | None:
    """Return columns as one float64 array, or None when one is missing or not all numbers."""
    matrix = None
    for j, column in enumerate(columns):
        if column is None or column.null_count or not pa.types.is_floating(column.type):
            return None
        if matrix is None:
            matrix = np.empty((len(column), len(columns)))
        matrix[:, j] = column.to_numpy(zero_copy_only=False)
    return matrix


def to_json(row: Mapping[str, Any]) -> str:
    """Return a row as JSON, its nulls too; what JSON has no form for as text."""
    return json.dumps(row, ensure_ascii=False, default=_as_text)


def corrupt_json(text: str) -> str:
    """Return text that is no row as JSON."""
    return to_json({CORRUPT_COLUMN: text})


def _as_text(value: Any) -> str:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)
