"""What a run and a work directory add up to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import TooManyDeadLettersError
from app.monitor.phases import in_order
from app.monitor.records import BatchRecord, LabelCounts, sum_counts

_MET = ("outliers_clipped", "columns_rescaled", "layers_reset")
_SUMMED = (
    "rows_in", "rows_scored", "rows_learned", "rows_stale", "served_errors", "prequential_errors",
    *_MET,
)  # fmt: skip


@dataclass(frozen=True)
class Totals:
    """Sums over batches.

    Attributes
    ----------
    batches
    rows_in, rows_scored, rows_learned
    rows_stale
        Rows scored while Redis could not be asked for a newer version.
    dead_letters
    dead_letters_by_reason
        The same rows by reason code, in alphabetical order.
    served_error, prequential_error
        Fractions of the learned rows; None when none was learned.
    score_seconds, learn_seconds, publish_seconds
    labels
    mean_delay_seconds
        Mean over the labels that met their event; None when none did.
    phases
        Seconds by phase, see :mod:`app.monitor.phases`. Those of a run add up to its wall time.
    outliers_clipped, columns_rescaled, layers_reset
        What the learner guarded itself against, see :class:`app.monitor.records.BatchRecord`.
    """

    batches: int
    rows_in: int
    rows_scored: int
    rows_learned: int
    rows_stale: int
    dead_letters: int
    dead_letters_by_reason: dict[str, int]
    served_error: float | None
    prequential_error: float | None
    score_seconds: float
    learn_seconds: float
    publish_seconds: float
    labels: LabelCounts = field(default_factory=LabelCounts)
    mean_delay_seconds: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    outliers_clipped: int = 0
    columns_rescaled: int = 0
    layers_reset: int = 0

    @classmethod
    def of(cls, records: Iterable[BatchRecord]) -> Totals:
        return Tally.of(records).totals()


class Tally:
    """Running sums over batches, without the batches themselves."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, int] = {}
        self._labels = LabelCounts()
        self._seconds: Counter[str] = Counter()

    @classmethod
    def of(cls, records: Iterable[BatchRecord]) -> Tally:
        tally = cls()
        for record in records:
            tally.add(record)
        return tally

    def add(self, record: BatchRecord) -> None:
        self._counts.update({"batches": 1, **{name: getattr(record, name) for name in _SUMMED}})
        self._reasons = sum_counts(self._reasons, record.dead_letters)
        self._labels += record.labels
        self._seconds.update(record.seconds)

    def add_sums(self, later: Tally) -> None:
        """Add the sums over other batches, the last of which was later than those added so far."""
        self._counts.update(later._counts)
        self._reasons = sum_counts(self._reasons, later._reasons)
        self._labels += later._labels
        self._seconds.update(later._seconds)

    def with_record(self, record: BatchRecord) -> Tally:
        """Return these sums with a batch more; these stay."""
        tally = Tally()
        tally.add_sums(self)
        tally.add(record)
        return tally

    def count(self, seconds: Mapping[str, float]) -> None:
        """Add time that was spent outside of batches, by phase."""
        self._seconds.update(seconds)

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": self._counts,
            "dead_letters": self._reasons,
            "labels": dataclasses.asdict(self._labels),
            "seconds": self._seconds,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Tally:
        """Return the sums that :meth:`to_json` gave.

        Raises
        ------
        KeyError, TypeError
            When it did not give these.
        """
        tally = cls()
        tally._counts = Counter(content["counts"])
        tally._reasons = dict(content["dead_letters"])
        tally._labels = LabelCounts(**content["labels"])
        tally._seconds = Counter(content["seconds"])
        return tally

    def totals(self) -> Totals:
        counts, labels = self._counts, self._labels
        learned = counts["rows_learned"]
        met = labels.received - sum(labels.dead.values()) - labels.pending
        return Totals(
            batches=counts["batches"],
            rows_in=counts["rows_in"],
            rows_scored=counts["rows_scored"],
            rows_learned=learned,
            rows_stale=counts["rows_stale"],
            dead_letters=sum(self._reasons.values()),
            dead_letters_by_reason=self._reasons,
            served_error=counts["served_errors"] / learned if learned else None,
            prequential_error=counts["prequential_errors"] / learned if learned else None,
            score_seconds=round(self._seconds["score"], 3),
            learn_seconds=round(self._seconds["learn"], 3),
            publish_seconds=round(self._seconds["publish"], 3),
            labels=labels,
            mean_delay_seconds=labels.delay_seconds / met if met else None,
            phases=in_order(self._seconds),
            **{name: counts[name] for name in _MET},
        )


@dataclass(frozen=True)
class RunSummary:
    """What a run did, and where the model stands.

    Attributes
    ----------
    run
        The sums of this run.
    total
        The sums of all runs in the work directory.
    version
        The version that is current when the run ends.
    state_sha256
        Hash of that version's state, in hex.
    seconds
        Wall time of this run.
    first_prediction_seconds
        Seconds from the start until the first batch's predictions were written; None when
        no batch was.
    problem
        The error that the command ends with after its summary, if more rows were of no use than
        the settings accept.
    """

    run: Totals
    total: Totals
    version: int
    state_sha256: str
    seconds: float
    first_prediction_seconds: float | None = None
    problem: TooManyDeadLettersError | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self.run) | {
            "version": self.version,
            "state_sha256": self.state_sha256,
            "seconds": round(self.seconds, 3),
            "first_prediction_seconds": self.first_prediction_seconds,
            "total": dataclasses.asdict(self.total),
        }
