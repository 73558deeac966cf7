"""Lines that hold a JSON object each."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from app.contract import UNPARSABLE
from app.files.documents import parse_json
from app.files.reading.readers import TEXT_COLUMN
from app.parsing.cells import lists_of_objects, of_objects
from app.parsing.partitions import Partition, with_partition
from app.parsing.raw_batch import corrupt_json

_MOST_INTEGER = 2.0**63


class JsonBatch:
    """Rows that are JSON objects; see :class:`app.parsing.raw_batch.RawBatch`.

    The bare tokens ``NaN`` and ``Infinity``, which Python writes, are numbers. Of a name that an
    object holds twice the last value counts.

    Parameters
    ----------
    rows : pa.RecordBatch
        With a column ``text`` of bytes.
    partition
        What an object holds under a name that it lacks.
    """

    malformed = UNPARSABLE

    def __init__(self, rows: pa.RecordBatch, partition: Partition | None = None) -> None:
        self._lines = rows.column(TEXT_COLUMN).to_pylist()
        self._partition = partition or {}
        self._objects: list[dict[str, Any]] = []
        kept: list[int] = []
        for place, line in enumerate(self._lines):
            value = json_value(line)
            if isinstance(value, dict):
                self._objects.append({**self._partition, **value} if self._partition else value)
                kept.append(place)
        self.kept = None if len(kept) == len(self._lines) else np.array(kept, np.int64)

    def column(self, name: str) -> pa.Array | None:
        values = self._values(name)
        for i, value in enumerate(values if float in set(map(type, values)) else ()):
            if type(value) is float and abs(value) >= _MOST_INTEGER:
                # Integers of any length come as such from a slower parser alone.
                values[i] = value_at(self._exact(i), name)
        return of_objects(values)

    def arrays(self, name: str) -> pa.Array | None:
        return lists_of_objects(self._values(name))

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        if len(names) == 1:
            return None
        cells: list[Any]
        try:
            cells = [*chain.from_iterable(map(itemgetter(*names), self._objects))]
        except KeyError:
            if any("." in name for name in names):
                return None
            cells = [value for row in self._objects for value in map(row.get, names)]
        shape = len(self._objects), len(names)
        with contextlib.suppress(TypeError, OverflowError):
            return np.frombuffer(array("d", cells)).reshape(shape)
        with contextlib.suppress(pa.ArrowException, TypeError, OverflowError):
            with_nan: np.ndarray = pa.array(cells, pa.float64()).to_numpy(zero_copy_only=False)
            return with_nan.reshape(shape)
        return None

    def _values(self, name: str) -> list[Any]:
        if "." in name:
            return [value_at(row, name) for row in self._objects]
        return [row.get(name) for row in self._objects]

    def as_json(self, place: int) -> str:
        line = self._lines[place]
        if self.kept is None or place in self.kept:
            row = str(line, "utf-8").strip()
            own = json_value(line) if self._partition else {}
            others = {name: each for name, each in self._partition.items() if name not in own}
            return with_partition(row, others)
        return corrupt_json("" if line is None else line.decode(errors="backslashreplace"))

    def first_places(self, known: Collection[str]) -> dict[str, int]:
        """Return the names of values that are not known, each with the first place it is at."""
        found: dict[str, int] = {}
        for i, row in enumerate(self._objects):
            for name in row.keys() - known:
                if isinstance(row[name], dict):
                    continue
                found.setdefault(name, i if self.kept is None else int(self.kept[i]))
        return found

    def _exact(self, i: int) -> dict[str, Any]:
        place = i if self.kept is None else int(self.kept[i])
        try:
            exact: dict[str, Any] = parse_json(self._lines[place])
        except ValueError:
            return self._objects[i]
        return exact


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """Return what an object holds under a name, or under the path ``a.b`` of names within names.

    >>> value_at({"a": {"b": 1}, "c.d": 2}, "a.b"), value_at({"a": {"b": 1}, "c.d": 2}, "c.d")
    (1, 2)
    """
    if name in row or "." not in name:
        return row.get(name)
    first, _, rest = name.partition(".")
    within = row.get(first)
    return value_at(within, rest) if isinstance(within, dict) else None


def paths_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of an object's values, as :func:`value_at` takes them."""
    for name, value in row.items():
        if isinstance(value, dict) and value:
            yield from (f"{name}.{path}" for path in paths_of(value))
        else:
            yield name


def json_value(line: bytes | str | None) -> Any:
    """Return what a line of JSON holds, None when it is none."""
    if line is None:
        return None
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:
        # Slower, and takes NaN, Infinity and numbers beyond any float.
        text = line if isinstance(line, str) else line.decode()
        value = parse_json(text)
        if "\\u" in text:
            # Half of a pair of surrogates is no text.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (RecursionError, ValueError):
        return None
