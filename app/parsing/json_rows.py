"""Lines that hold a JSON object each."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from app.contract import UNPARSABLE
from app.files.documents import parse_json
from app.files.readers import TEXT_COLUMN
from app.parsing.cells import of_objects
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
    """

    malformed = UNPARSABLE

    def __init__(self, rows: pa.RecordBatch) -> None:
        self._lines = rows.column(TEXT_COLUMN).to_pylist()
        self._objects: list[dict[str, Any]] = []
        kept: list[int] = []
        for place, line in enumerate(self._lines):
            value = json_value(line)
            if isinstance(value, dict):
                self._objects.append(value)
                kept.append(place)
        self.kept = None if len(kept) == len(self._lines) else np.array(kept, np.int64)

    def column(self, name: str) -> pa.Array | None:
        values = [row.get(name) for row in self._objects]
        if any(type(value) is float and abs(value) >= _MOST_INTEGER for value in values):
            # Integers of any length come as such from a slower parser alone.
            values = [self._exact(i).get(name) for i in range(len(values))]
        return of_objects(values)

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        if len(names) == 1:
            return None
        try:
            cells = array("d", chain.from_iterable(map(itemgetter(*names), self._objects)))
        except (KeyError, TypeError, OverflowError):
            return None
        return np.frombuffer(cells).reshape(len(self._objects), len(names))

    def as_json(self, place: int) -> str:
        line = self._lines[place]
        if self.kept is None or place in self.kept:
            return str(line, "utf-8").strip()
        return corrupt_json("" if line is None else line.decode(errors="backslashreplace"))

    def _exact(self, i: int) -> dict[str, Any]:
        place = i if self.kept is None else int(self.kept[i])
        exact: dict[str, Any] = json.loads(self._lines[place])
        return exact


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
        return parse_json(line if isinstance(line, str) else line.decode())
    except ValueError:
        return None
