"""Rows as they came: a batch of lines or of typed columns, its columns by name, its rows as JSON.

What a batch is made of is said by the metadata of its schema, so that it can be sent anywhere.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from app.contract import UNPARSABLE
from app.parsing.cells import plain

_LONGEST_VECTOR = 100_000
"""A sparse vector says itself how long it is; this protects memory from one that is no vector."""

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

    def arrays(self, name: str) -> pa.Array | None:
        """Return the arrays in the column of a name, as lists, None when there is none.

        Beside arrays, what is none is an empty one.
        """

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
        self._times = Counter(rows.schema.names[1:])

    def column(self, name: str) -> pa.Array | None:
        # Of two columns of one name neither is it.
        if self._times[name] != 1:
            return None
        return plain(self._rows.column(self._places[name]))

    def arrays(self, name: str) -> pa.Array | None:
        column = self.column(name)
        if column is None:
            return None
        types = pa.types
        kind = column.type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind)
        if is_list or types.is_large_list_view(kind) or types.is_fixed_size_list(kind):
            return column.cast(pa.list_(kind.value_type))
        return _of_vectors(column) if _holds_vectors(kind) else None

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        return float_matrix(list(map(self.column, names)))

    def as_json(self, place: int) -> str:
        columns = self._places.items()
        return to_json({name: _cell(self._rows.column(i), place) for name, i in columns})


class DamagedBatch:
    """One row in place of what cannot be read of a file."""

    malformed = UNPARSABLE

    def __init__(self, rows: pa.RecordBatch, damage: str) -> None:
        self.kept = np.empty(0, np.int64)
        self._damage = damage

    def column(self, name: str) -> pa.Array | None:
        return None

    def arrays(self, name: str) -> pa.Array | None:
        return None

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        return None

    def as_json(self, place: int) -> str:
        return corrupt_json(self._damage)


def _holds_vectors(kind: pa.DataType) -> bool:
    """Return whether a type is that of Spark's machine-learning vectors."""
    types = pa.types
    kinds = {field.name: field.type for field in kind} if types.is_struct(kind) else {}
    if kinds.keys() != {"type", "size", "indices", "values"}:
        return False
    indices, values = kinds["indices"], kinds["values"]
    return bool(
        types.is_integer(kinds["size"])
        and (types.is_list(indices) and types.is_integer(indices.value_type))
        and (types.is_list(values) and types.is_floating(values.value_type))
    )


def _of_vectors(column: pa.Array) -> pa.Array:
    """Return Spark's vectors, dense or sparse, as lists, empty where a sparse one is none."""
    return pa.array(map(_dense, column.to_pylist()), pa.list_(pa.float64()))


def _dense(vector: dict[str, Any] | None) -> list[float] | None:
    if vector is None:
        return None
    size, places, values = vector["size"] or 0, vector["indices"], vector["values"] or []
    if places is None:
        return values
    # Whoever sent it may not have meant one.
    are_places = len(places) == len(values) and all(p is not None and 0 <= p < size for p in places)
    if not are_places or size > _LONGEST_VECTOR:
        return []
    dense = [0.0] * size
    for place, value in zip(places, values, strict=True):
        dense[place] = value
    return dense


def float_matrix(columns: Sequence[pa.Array | None]) -> np.ndarray | None:
    """Return columns as one float64 array, or None when one is not there or holds no numbers.

    NaN where there is a null.
    """
    matrix = None
    for j, column in enumerate(columns):
        if column is None or not pa.types.is_floating(column.type):
            return None
        if matrix is None:
            matrix = np.empty((len(column), len(columns)))
        matrix[:, j] = column.to_numpy(zero_copy_only=False)
    return matrix


def to_json(row: Mapping[str, Any]) -> str:
    """Return a row as JSON, its nulls too; what JSON has no form for as text."""
    try:
        return json.dumps(row, ensure_ascii=False, default=_as_text, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, default=_as_text)


def corrupt_json(text: str) -> str:
    """Return text that is no row as JSON."""
    return to_json({CORRUPT_COLUMN: text})


def _finite(value: Any) -> Any:
    """Return a value with text in place of numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _cell(column: pa.Array, place: int) -> Any:
    try:
        return column[place].as_py()
    # A time beyond the calendar, text that is no UTF-8, a zone that nobody knows.
    except Exception:
        raw = pa.binary() if pa.types.is_string(column.type) else pa.int64()
        with contextlib.suppress(pa.ArrowException):
            return column.slice(place, 1).cast(raw)[0].as_py()
        return f"a {column.type} that has no text"


def _as_text(value: Any) -> str:
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(value)
