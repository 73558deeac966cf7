"""What the rows of an input hold in each column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.parsing import cells
from app.parsing.cells import INFINITE, SOUND, UNPARSABLE
from app.parsing.times import times

NUMBER, CATEGORY, NOTHING = "number", "category", "nothing"
TEXT, TIME, COMMAS = "text", "time", "commas"
"""Kinds of columns. Those of the second line are no features: text has too many different values
for a category, commas are numbers that are written with some."""

MOST_DISTINCT = 10_000
"""Different values of a column that are counted."""

_ODD_SHARE = 0.1
_MOST = 0.9
_ID_SHARE = 0.5
_LEAST_TOLD_APART = 20
_WITH_COMMA = r"^[+-]?[0-9.]*[0-9],[0-9]+$"


class ColumnLook:
    """Counts what a column holds, batch by batch.

    Parameters
    ----------
    name
    missing
        Lower-case texts that stand for a missing value.

    Attributes
    ----------
    n_rows, n_missing : int
    low, high : float
        Range of the numbers; NaN without one.
    is_whole : bool
        Whether all of them are integers.
    counts : Counter of str
        Rows by value as :func:`app.parsing.cells.texts` gives it, most common values of at most
        :data:`MOST_DISTINCT`.
    odd : object
        The first value that is no number, None if there is none.
    """

    def __init__(self, name: str, missing: Sequence[str]) -> None:
        self.name = name
        self._missing = tuple(missing)
        self.n_rows = self.n_missing = self.n_numbers = self.n_infinite = 0
        self._n_times = self._n_commas = 0
        self.low, self.high = np.inf, -np.inf
        self.is_whole = True
        self.counts: Counter[str] = Counter()
        self.has_more = False
        self.odd: object = None
        self.example: object = None

    def add(self, values: pa.Array) -> None:
        """Count the values of some rows."""
        self.n_rows += len(values)
        numbers, faults = cells.numbers(values, self._missing)
        sound = numbers[faults == SOUND]
        self.n_numbers += len(sound)
        self.n_infinite += int((faults == INFINITE).sum())
        if len(sound):
            self.low, self.high = min(self.low, sound.min()), max(self.high, sound.max())
            self.is_whole = self.is_whole and bool((sound % 1 == 0).all())
        is_odd = faults == UNPARSABLE
        known = (faults == SOUND) | is_odd | (faults == INFINITE)
        self.n_missing += len(values) - int(known.sum())
        if not known.any():
            return
        if self.example is None:
            self.example = values[int(known.argmax())].as_py()
        if is_odd.any():
            odd = values.filter(pa.array(is_odd))
            if self.odd is None:
                self.odd = odd[0].as_py()
            self._n_times += len(odd) - times(odd).null_count
            text = pc.utf8_trim_whitespace(cells.as_strings(odd))
            has_comma = pc.match_substring_regex(text, _WITH_COMMA)
            self._n_commas += pc.sum(has_comma).as_py() or 0
        self._count(values.filter(pa.array(known)))

    def _count(self, known: pa.Array) -> None:
        if self.has_more:
            return
        if pa.types.is_nested(known.type) or pc.count_distinct(known).as_py() > MOST_DISTINCT:
            self.has_more = True
            return
        counted = known.value_counts()
        names = cells.texts(counted.field("values"), self._missing).to_pylist()
        for name, n in zip(names, counted.field("counts").to_pylist(), strict=True):
            if name is not None:
                self.counts[name] += n
        self.has_more = len(self.counts) > MOST_DISTINCT

    @property
    def n_known(self) -> int:
        return self.n_rows - self.n_missing

    @property
    def n_odd(self) -> int:
        """How many values are neither missing nor numbers."""
        return self.n_known - self.n_numbers - self.n_infinite

    def kind(self, max_categories: int) -> str:
        """Return what the column is, as far as it tells by itself."""
        if not self.n_known:
            return NOTHING
        if self.n_odd <= _ODD_SHARE * self.n_known:
            return NUMBER
        if self._n_times >= _MOST * self.n_odd:
            return TIME
        if self._n_commas >= _MOST * self.n_odd:
            return COMMAS
        if self.n_numbers > self.n_odd:
            return NUMBER
        n = len(self.counts)
        is_many = n > max_categories or self.n_known >= _LEAST_TOLD_APART
        if self.has_more or (is_many and n > _ID_SHARE * self.n_known):
            return TEXT
        return CATEGORY
