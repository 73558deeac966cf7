"""The contract between a model and its rows: features, classes, and why a row is of no use.

It knows no Spark, so that everything that reads a row decides by it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.errors import StateError

NULL_ID = "null_id"
DUPLICATE_ID = "duplicate_id"
NULL_TIME = "null_time"
FUTURE_TIME = "future_time"
NULL_FEATURE = "null_feature"
NAN_FEATURE = "nan_feature"
INFINITE_FEATURE = "infinite_feature"
ALL_MISSING = "all_missing"
WRONG_LENGTH = "wrong_length"
UNPARSABLE = "unparsable"
NULL_LABEL = "null_label"
UNKNOWN_LABEL = "unknown_label"
DIVERGED = "diverged"
NOT_LEARNED = "not_learned"
DUPLICATE_FEEDBACK = "duplicate_feedback"
CONFLICTING_FEEDBACK = "conflicting_feedback"
ORPHAN_FEEDBACK = "orphan_feedback"
LATE_FEEDBACK = "late_feedback"

# As an integer is written, so that nothing of the label is lost: 01 is a text.
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Category:
    """The categories of a column, each with a slot of its own.

    Slots are laid out as by Keras's ``StringLookup`` with a mask token: 0 stands for a missing
    value, then come ``n_hashed`` slots that categories outside the vocabulary share by their
    hash, then the vocabulary.

    Parameters
    ----------
    vocabulary
        Categories as :func:`app.parsing.cells.texts` gives them.
    n_hashed
        At least 1.
    """

    vocabulary: tuple[str, ...]
    n_hashed: int

    @property
    def n_slots(self) -> int:
        return 1 + self.n_hashed + len(self.vocabulary)

    def slots(self, names: Sequence[str | None]) -> list[int]:
        """Return the slot of each category, 0 for None."""
        first = 1 + self.n_hashed
        known = {name: first + place for place, name in enumerate(self.vocabulary)}
        return [
            0 if name is None else known[name] if name in known else self._hashed(name)
            for name in names
        ]

    def _hashed(self, name: str) -> int:
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
        return 1 + int.from_bytes(digest, "big") % self.n_hashed


@dataclass(frozen=True)
class Encoding:
    """How the features of a row become numbers, beside those that are numbers.

    Parameters
    ----------
    categories
        By column.
    indicators
        Columns of numbers whose missing values have an input of their own.
    imputes
        Whether a row may lack some of its features. One that lacks any is of no use otherwise.
    """

    categories: Mapping[str, Category] = field(default_factory=dict)
    indicators: tuple[str, ...] = ()
    imputes: bool = False

    def category_slots(self, features: Sequence[str]) -> tuple[int, ...]:
        """Return how many slots each feature has, 0 for a number; empty when all are numbers."""
        if not self.categories:
            return ()
        found = map(self.categories.get, features)
        return tuple(0 if each is None else each.n_slots for each in found)

    def to_dict(self) -> dict[str, Any]:
        """Return what is not as it is by default, for JSON."""
        found: dict[str, Any] = {}
        if self.categories:
            found["categories"] = {
                name: {"vocabulary": each.vocabulary, "hashed": each.n_hashed}
                for name, each in self.categories.items()
            }
        if self.indicators:
            found["indicators"] = self.indicators
        if self.imputes:
            found["missing"] = "impute"
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Encoding:
        """Return what :meth:`to_dict` has written."""
        categories = {
            name: Category(tuple(each["vocabulary"]), int(each["hashed"]))
            for name, each in found.get("categories", {}).items()
        }
        indicators = tuple(found.get("indicators", ()))
        return cls(categories, indicators, found.get("missing") == "impute")


NUMBERS = Encoding()
"""Every feature is a number, and none may be missing."""


@dataclass(frozen=True)
class Contract:
    """Which columns of a row mean what.

    Parameters
    ----------
    columns
        Every column of the input, in file order.
    features
        The feature columns, or the one column that holds the array of them. Empty for
        feedback, which has a label and nothing to score.
    n_features
        Length D of the row that the model sees.
    classes
        Labels as :func:`app.parsing.cells.canonical_text` gives them, in class order.
    label
        Column of the label. A row without one is scored and not learned, or, where there
        are no features, is of no use.
    id
        Column of the event id; without it the row number is the id.
    time
        Column of the time; without it rows have none.
    is_array
        Whether ``features`` names one array column.
    encoding
    """

    columns: tuple[str, ...]
    features: tuple[str, ...]
    n_features: int
    classes: tuple[str, ...]
    label: str | None = None
    id: str | None = None
    time: str | None = None
    is_array: bool = False
    encoding: Encoding = NUMBERS

    @classmethod
    def of_feedback(
        cls, columns: tuple[str, ...], classes: tuple[str, ...], *, id: str, time: str, label: str
    ) -> Contract:
        """Return the contract of rows that bring a label for an event."""
        return cls(columns, (), 0, classes, label=label, id=id, time=time)

    @property
    def has_integer_labels(self) -> bool:
        """Whether every class is an integer of 64 bits, so that predictions are."""
        return all(_INTEGER.fullmatch(name) and len(name) <= _MOST_DIGITS for name in self.classes)

    def to_metadata(self) -> dict[str, str]:
        """Return what a model's state must say of its rows."""
        fixed = {"features": self.features, "classes": self.classes}
        return {"contract": json.dumps(fixed | self.encoding.to_dict())}


@dataclass(frozen=True)
class FixedContract:
    """The part of a contract that is fixed when a model is created, and stored with its states."""

    features: tuple[str, ...]
    classes: tuple[str, ...]
    encoding: Encoding

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> FixedContract:
        """Return the contract of the model that a state belongs to.

        Raises
        ------
        StateError
            When the metadata holds none.
        """
        try:
            fixed = json.loads(metadata["contract"])
            encoding = Encoding.from_dict(fixed)
            return cls(tuple(fixed["features"]), tuple(fixed["classes"]), encoding)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise StateError(f"a state without a usable contract of its rows: {error}") from error
