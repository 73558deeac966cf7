"""What was put in, and what must become of it: a model of the truth in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Truth:
    """Every row that was put in, by its event id.

    Attributes
    ----------
    rows
        How often an event came.
    values
        Features and class index of each id; an id that comes again has the same.
    scored
        How often each id is to be predicted.
    dead
        Dead letters by id and reason.
    learned
        The ids to be learned, each once, in order.
    labels
        How often a label came apart from its event.
    loose
        Ids whose fate depends on which batch they came in: what became of them must add up.
    unordered
        Ids whose place in the order depends on that.
    """

    rows: Counter[str] = field(default_factory=Counter)
    values: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    scored: Counter[str] = field(default_factory=Counter)
    dead: Counter[tuple[str, str]] = field(default_factory=Counter)
    learned: list[str] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    loose: set[str] = field(default_factory=set)
    unordered: set[str] = field(default_factory=set)

    def problems(self, found: Found, *, is_live: bool, has_statistics: bool) -> list[str]:
        """Return in words what differs from it in a work directory that has read all."""
        return [
            *self._of_predictions(found),
            *self._of_dead_letters(found, is_live),
            *self._of_learned(found),
            *(self._of_loose(found, is_live)),
            *(self._of_statistics(found, is_live) if has_statistics else ()),
        ]

    def _strict(self, counts: Counter) -> Counter:
        """Return the counts of those whose fate is certain, which may be keyed by id and more."""
        return Counter(
            {
                key: n
                for key, n in counts.items()
                if n and (key if isinstance(key, str) else key[0]) not in self.loose
            }
        )

    def _of_predictions(self, found: Found) -> list[str]:
        return _unlike("predictions", self._strict(found.predictions), self._strict(self.scored))

    def _of_dead_letters(self, found: Found, is_live: bool) -> list[str]:
        there = Counter({(i, reason): n for (_, i, reason), n in found.dead.items()})
        return _unlike("dead letters", self._strict(there), self._strict(self.dead))

    def _of_learned(self, found: Found) -> list[str]:
        problems = []
        ever = Counter(event_id for ids in found.batches for event_id in ids)
        problems += _unlike("learned", self._strict(ever), self._strict(Counter(self.learned)))
        twice = {i: n for i, n in ever.items() if n > max(1, found.predictions[i])}
        if twice:
            problems.append(f"learned more often than predicted: {_few(twice)}")
        if not found.has_rollback:
            fixed = self.loose | self.unordered
            order = [i for i in found.sequence if i not in fixed]
            expected = [i for i in self.learned if i not in fixed]
            if order != expected and not problems:
                at = next(i for i, pair in enumerate(zip(order, expected, strict=False))
                          if pair[0] != pair[1])  # fmt: skip
                problems.append(f"learned in another order from place {at} on")
        for what, there, right in (
            ("rows in the state", found.row_count, len(found.sequence)),
            ("state", found.state_sha256, found.expected_sha256),
        ):
            if there != right:
                problems.append(f"{what}: {there}, not {right}")
        return problems

    def _of_loose(self, found: Found, is_live: bool) -> list[str]:
        dead = {kind: Counter() for kind in ("event", "label")}
        for (kind, event_id, _), n in found.dead.items():
            dead[kind][event_id] += n
        ever = Counter(event_id for ids in found.batches for event_id in ids)
        problems = []
        for i in sorted(self.loose):
            if self.rows[i] != found.predictions[i] + dead["event"][i]:
                problems.append(
                    f"event {i} came {self.rows[i]} times, was predicted "
                    f"{found.predictions[i]} times and is {dead['event'][i]} dead letters"
                )
            settled = ever[i] + dead["label"][i]
            if is_live and not settled <= self.labels[i] <= settled + 1:
                problems.append(
                    f"{self.labels[i]} labels of {i} came, {ever[i]} were learned and "
                    f"{dead['label'][i]} are dead letters"
                )
        return problems[:3]

    def _of_statistics(self, found: Found, is_live: bool) -> list[str]:
        totals = found.totals
        expected = {
            "rows in": (totals.rows_in, self.rows.total()),
            "rows scored": (totals.rows_scored, found.predictions.total()),
            "rows learned": (totals.rows_learned, sum(map(len, found.batches))),
        }
        if is_live:
            labels = totals.labels
            settled = totals.rows_learned + sum(labels.dead.values()) + labels.pending
            expected["labels received"] = (labels.received, self.labels.total())
            expected["labels settled or pending"] = (settled, self.labels.total())
        return [f"statistics: {name}: {there}, not {right}"
                for name, (there, right) in expected.items() if there != right]  # fmt: skip


@dataclass
class Found:
    """What a work directory holds.

    Attributes
    ----------
    predictions
        By event id.
    dead
        Dead letters by kind (event or label), id and reason.
    batches
        The ids that each version's batch has learned.
    sequence
        The ids in the newest state, in the order learned: rolled back ones are left out.
    has_rollback
    row_count, state_sha256
        Of the newest state.
    expected_sha256
        Of a learner that was given the sequence and nothing else.
    totals
        Those of the batch log.
    """

    predictions: Counter[str]
    dead: Counter[tuple[str, str, str]]
    batches: list[list[str]]
    sequence: list[str]
    has_rollback: bool
    row_count: int
    state_sha256: str
    expected_sha256: str
    totals: object


def _unlike(what: str, found: Counter, expected: Counter) -> list[str]:
    more, less = found - expected, expected - found
    return [f"{what}: {_few(counts)} too {word}"
            for word, counts in (("many", more), ("few", less)) if counts]  # fmt: skip


def _few(counts: Counter | dict) -> str:
    shown = ", ".join(f"{key} x{n}" for key, n in sorted(counts.items(), key=str)[:3])
    return shown if len(counts) <= 3 else f"{shown} and {len(counts) - 3} more"
