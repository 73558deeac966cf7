"""What a batch did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LabelCounts:
    """What became of the labels that came apart from their events, in a batch or in several.

    Attributes
    ----------
    received
        Labels that came, usable or not.
    dead
        Labels that cannot be used, by reason code. They may have come in earlier batches.
    pending
        Labels that still wait for their event after the last batch.
    delay_seconds
        Sum, over the labels that met their event, of the time between the two.
    longest_delay_seconds
    dropped_by
        Dead labels that could have been used but for a setting, by its name.
    """

    received: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    delay_seconds: float = 0.0
    longest_delay_seconds: float = 0.0
    dropped_by: dict[str, int] = field(default_factory=dict)

    def __add__(self, later: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.received + later.received,
            sum_counts(self.dead, later.dead),
            later.pending,
            self.delay_seconds + later.delay_seconds,
            max(self.longest_delay_seconds, later.longest_delay_seconds),
            sum_counts(self.dropped_by, later.dropped_by),
        )


def sum_counts(counts: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Return the sums of two counts by name, in alphabetical order."""
    return {name: counts.get(name, 0) + more.get(name, 0) for name in sorted(counts | more)}


@dataclass(frozen=True)
class BatchRecord:
    """What one batch did.

    Attributes
    ----------
    query
        Id of the Spark query. Batches are numbered within it.
    batch
    rows_scored, rows_learned
    dead_letters
        Rows by reason code.
    served_errors
        Learned rows whose served prediction was wrong.
    prequential_errors
        Learned rows that were predicted wrong just before they were learned.
    version
        The current version after the batch.
    alpha
        Hedge weights after the batch, shallow to deep.
    finished_at
        UTC, ISO 8601.
    seconds
        Wall time by phase, see :mod:`app.monitor.phases`; and ``learn``, the time that
        learning took, of which ``wait`` is the part in which nothing else was done.
    rows_stale
        Rows scored while Redis could not be asked for a newer version. 0 in records written
        before such rows were counted.
    outliers_clipped
        Numbers cut before they entered the moments.
    columns_rescaled
        Times that a column's moments were taken anew, since its numbers had changed.
    layers_reset
        Hidden layers that started over, since no unit of theirs fired any more.
    labels
        All zero in a replay, whose labels come with their events.
    """

    query: str
    batch: int
    rows_scored: int
    rows_learned: int
    dead_letters: dict[str, int]
    served_errors: int
    prequential_errors: int
    version: int
    alpha: list[float]
    finished_at: str
    seconds: dict[str, float] = field(default_factory=dict)
    rows_stale: int = 0
    outliers_clipped: int = 0
    columns_rescaled: int = 0
    layers_reset: int = 0
    labels: LabelCounts = field(default_factory=LabelCounts)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> BatchRecord:
        """Return a record from what ``dataclasses.asdict`` made of it."""
        labels = LabelCounts(**content.get("labels", {}))
        return cls(**content | {"labels": labels})

    @property
    def rows_in(self) -> int:
        """Rows that came. Diverged rows, which were scored first, count once."""
        rejected = sum(self.dead_letters.values()) - self.dead_letters.get("diverged", 0)
        return self.rows_scored + rejected
