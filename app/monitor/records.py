"""What each batch did, one small JSON file a batch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.files.atomic import write_durably


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
    """

    received: int = 0
    dead: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    delay_seconds: float = 0.0
    longest_delay_seconds: float = 0.0

    def __add__(self, later: LabelCounts) -> LabelCounts:
        return LabelCounts(
            self.received + later.received,
            sum_counts(self.dead, later.dead),
            later.pending,
            self.delay_seconds + later.delay_seconds,
            max(self.longest_delay_seconds, later.longest_delay_seconds),
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


class BatchLog:
    """The records of a work directory's batches.

    A batch that is tried again overwrites its own record.

    Parameters
    ----------
    directory
        Made with the first record.
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
