"""What each batch did, one small JSON file a batch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from app.durable import write_durably


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
        Wall time by phase: score, learn, publish.
    rows_stale : int
        Of the scored rows, those scored while Redis could not be asked for a newer version.
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
        records = [BatchRecord(**json.loads(path.read_bytes())) for path in files]
        return sorted(records, key=lambda r: (r.finished_at, r.batch))

    def _path(self, query: str, batch: int) -> Path:
        return self.directory / query / f"{batch:08d}.json"


@dataclass(frozen=True)
class Totals:
    """Sums over batches. Errors are fractions of the learned rows, None without any."""

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

    @classmethod
    def of(cls, records: list[BatchRecord]) -> Totals:
        reasons: dict[str, int] = {}
        for record in records:
            for reason, count in record.dead_letters.items():
                reasons[reason] = reasons.get(reason, 0) + count
        learned = sum(r.rows_learned for r in records)

        def share(errors: int) -> float | None:
            return errors / learned if learned else None

        def seconds(phase: str) -> float:
            return round(sum(r.seconds.get(phase, 0.0) for r in records), 3)

        return cls(
            batches=len(records),
            rows_in=sum(r.rows_in for r in records),
            rows_scored=sum(r.rows_scored for r in records),
            rows_learned=learned,
            rows_stale=sum(r.rows_stale for r in records),
            dead_letters=sum(reasons.values()),
            dead_letters_by_reason=dict(sorted(reasons.items())),
            served_error=share(sum(r.served_errors for r in records)),
            prequential_error=share(sum(r.prequential_errors for r in records)),
            score_seconds=seconds("score"),
            learn_seconds=seconds("learn"),
            publish_seconds=seconds("publish"),
        )
