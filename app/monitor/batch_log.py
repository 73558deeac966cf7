"""What each batch did, one small JSON file a batch."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.durable import write_durably
from app.monitor.phases import in_order

_SUMMED = (
    "rows_in", "rows_scored", "rows_learned", "rows_stale", "served_errors", "prequential_errors"
)  # fmt: skip


@dataclass(frozen=True)
class LabelCounts:
    """What became of the labels that came apart from their events, in a batch or in several.

    Attributes
    ----------
    received : int
    dead : dict of str to int
        Labels that cannot be used, by reason: of this batch, and of earlier ones.
    pending : int
        Labels that wait for their event, when the last batch was done.
    delay_seconds : float
        Sum, over the labels that met their event, of the time between the two.
    longest_delay_seconds : float
    """

    received: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    delay_seconds: float = 0.0
    longest_delay_seconds: float = 0.0

    def __add__(self, later: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.received + later.received,
            added(self.dead, later.dead),
            later.pending,
            self.delay_seconds + later.delay_seconds,
            max(self.longest_delay_seconds, later.longest_delay_seconds),
        )


def added(counts: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    """Return the sums of two counts by name, in order of the names."""
    return {name: counts.get(name, 0) + more.get(name, 0) for name in sorted(counts | more)}


@dataclass(frozen=True)
class BatchRecord:
    """What one batch did.

    Attributes
    ----------
    query : str
    batch : int
    rows_scored, rows_learned : int
    dead_letters : dict of str to int
        Rows by reason code.
    served_errors : int
        Of the learned rows, those whose served prediction was wrong.
    prequential_errors : int
        Of the learned rows, those predicted wrong just before they were learned.
    version : int
        Current after the batch.
    alpha : list of float
        Hedge weights after the batch, shallow to deep.
    finished_at : str
        UTC, ISO 8601.
    seconds : dict of str to float
        Wall time by phase, see :mod:`app.monitor.phases`; and ``learn``, what learning took,
        of which ``wait`` is the part that nothing else was done in.
    rows_stale : int
        Of the scored rows, those scored while Redis could not be asked for a newer version.
    labels : LabelCounts
        Of a live stream.
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
    labels: LabelCounts = field(default_factory=LabelCounts)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> BatchRecord:
        """Return the record that ``dataclasses.asdict`` was taken of."""
        labels = LabelCounts(**content.get("labels", {}))
        return cls(**content | {"labels": labels})

    @property
    def rows_in(self) -> int:
        """Rows that came: diverged ones were scored first, and count once."""
        rejected = sum(self.dead_letters.values()) - self.dead_letters.get("diverged", 0)
        return self.rows_scored + rejected


class BatchLog:
    """The records of a work directory's batches.

    A batch that is tried again overwrites its own record.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, record: BatchRecord) -> None:
        data = json.dumps(dataclasses.asdict(record)).encode()
        write_durably(self._path(record.query, record.batch), data)

    def has(self, query: str, batch: int) -> bool:
        return self._path(query, batch).exists()

    def read(self) -> list[BatchRecord]:
        """Return all records, oldest first."""
        files = self.directory.glob("*/*.json")
        records = [BatchRecord.from_dict(json.loads(path.read_bytes())) for path in files]
        return sorted(records, key=lambda r: (r.finished_at, r.batch))

    def _path(self, query: str, batch: int) -> Path:
        return self.directory / query / f"{batch:08d}.json"


@dataclass(frozen=True)
class Totals:
    """Sums over batches. Errors are fractions of the learned rows, None without any.

    The mean delay is that of the labels that met their event, None without any. Phases are
    those of :mod:`app.monitor.phases`, in seconds; of a run, they add up to its wall time.
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

    @classmethod
    def of(cls, records: Iterable[BatchRecord]) -> Totals:
        tally = Tally()
        for record in records:
            tally.add(record)
        return tally.totals()


class Tally:
    """Sums up batches one by one, and keeps none of them."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, int] = {}
        self._labels = LabelCounts()
        self._seconds: Counter[str] = Counter()

    def add(self, record: BatchRecord) -> None:
        self._counts.update({"batches": 1, **{name: getattr(record, name) for name in _SUMMED}})
        self._reasons = added(self._reasons, record.dead_letters)
        self._labels += record.labels
        self._seconds.update(record.seconds)

    def count(self, seconds: Mapping[str, float]) -> None:
        """Add time that was spent outside of batches, by phase."""
        self._seconds.update(seconds)

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
        )


@dataclass(frozen=True)
class RunSummary:
    """What a run did, and where the model stands.

    Attributes
    ----------
    run : Totals
        Of this run.
    total : Totals
        Of all runs in the work directory.
    version : int
    state_sha256 : str
    seconds : float
        Wall time of this run.
    first_prediction_seconds : float or None
        From its start until its first batch's predictions were written.
    """

    run: Totals
    total: Totals
    version: int
    state_sha256: str
    seconds: float
    first_prediction_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self.run) | {
            "version": self.version,
            "state_sha256": self.state_sha256,
            "seconds": round(self.seconds, 3),
            "first_prediction_seconds": self.first_prediction_seconds,
            "total": dataclasses.asdict(self.total),
        }
