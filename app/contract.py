"""The contract between a model and its rows: features, classes, and why a row is of no use.

It knows no Spark, so that everything that reads a row decides by it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from app.errors import StateError

NULL_ID = "null_id"
DUPLICATE_ID = "duplicate_id"
NULL_TIME = "null_time"
FUTURE_TIME = "future_time"
NULL_FEATURE = "null_feature"
NAN_FEATURE = "nan_feature"
INFINITE_FEATURE = "infinite_feature"
WRONG_LENGTH = "wrong_length"
UNPARSABLE = "unparsable"
NULL_LABEL = "null_label"
UNKNOWN_LABEL = "unknown_label"
DIVERGED = "diverged"
DUPLICATE_FEEDBACK = "duplicate_feedback"
CONFLICTING_FEEDBACK = "conflicting_feedback"
ORPHAN_FEEDBACK = "orphan_feedback"
LATE_FEEDBACK = "late_feedback"

# As an integer is written, so that nothing of the label is lost: 01 is a text.
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_MOST_DIGITS = 18


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
    """

    columns: tuple[str, ...]
    features: tuple[str, ...]
    n_features: int
    classes: tuple[str, ...]
    label: str | None = None
    id: str | None = None
    time: str | None = None
    is_array: bool = False

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
        return {"contract": json.dumps(fixed)}


@dataclass(frozen=True)
class FixedContract:
    """The part of a contract that is fixed when a model is created, and stored with its states."""

    features: tuple[str, ...]
    classes: tuple[str, ...]

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
            return cls(tuple(fixed["features"]), tuple(fixed["classes"]))
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise StateError(f"a state without a usable contract of its rows: {error}") from error
