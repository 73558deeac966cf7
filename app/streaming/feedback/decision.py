"""What is entered into the ledger of a live stream, and what is decided about it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple


class Event(NamedTuple):
    """A good event: ``time`` in microseconds since 1970, ``sequence`` unique in its source.

    ``features`` are float64 in the machine's order of bytes, None when Spark keeps them.
    ``served`` is the class index that was predicted, None where that is not known yet.
    """

    id: str
    time: int
    sequence: int
    features: bytes | None = None
    served: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.id, self.sequence


@dataclass(frozen=True)
class Events:
    """Good events in order of time and sequence, a list for each attribute of :class:`Event`.

    So many at once that an object for each would cost more than to score it.
    """

    ids: list[str]
    times: list[int]
    sequences: list[int]
    features: list[bytes | None]
    served: list[int | None]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> Event:
        return Event(*(column[place] for column in vars(self).values()))

    def firsts(self) -> tuple[Events, list[int]]:
        """Return the first event of each id, and the places of the others."""
        if len(set(self.ids)) == len(self):
            return self, []
        first: dict[str, int] = {}
        for place, name in enumerate(self.ids):
            first.setdefault(name, place)
        places = [*first.values()]
        columns = ([column[place] for place in places] for column in vars(self).values())
        return Events(*columns), sorted({*range(len(self))} - {*places})


class Label(NamedTuple):
    """A good label: ``label`` is a class index, ``row`` the input row as JSON."""

    id: str
    time: int
    sequence: int
    label: int
    row: str


class Match(NamedTuple):
    """A label and its event, to be learned in this batch. Times as in :class:`Event`."""

    id: str
    event_sequence: int
    label: int
    event_time: int
    feedback_time: int

    @property
    def key(self) -> tuple[str, int]:
        return self.id, self.event_sequence


class DeadLabel(NamedTuple):
    """A label that cannot be used.

    ``option`` is the setting that it could have been used without, None when none is to blame.
    """

    sequence: int
    id: str
    reason: str
    row: str
    option: str | None = None


@dataclass(frozen=True)
class Decision:
    """What becomes of a batch.

    Attributes
    ----------
    duplicates
        Sequences of the events whose id was taken.
    matches
    dead
        Labels of this batch, and earlier ones that were waited for in vain.
    pending
        Labels that still wait for their event.
    watermark
        That held for this batch, in microseconds since 1970.
    received
        Good labels of this batch, None where an older release did not count them.
    is_new
        Whether it was made just now, and not by an earlier try of the batch.
    """

    duplicates: list[int] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    dead: list[DeadLabel] = field(default_factory=list)
    pending: int = 0
    watermark: int | None = None
    received: int | None = None
    is_new: bool = field(default=True, compare=False)

    @property
    def dropped_by(self) -> dict[str, int]:
        """How many labels died of each setting, by its name."""
        options = Counter(row.option for row in self.dead if row.option is not None)
        return dict(sorted(options.items()))

    def without(self, lost: dict[tuple[str, int], DeadLabel]) -> Decision:
        """Return the decision with dead letters in place of the matches of some keys."""
        return dataclasses.replace(
            self,
            matches=[match for match in self.matches if match.key not in lost],
            dead=[*self.dead, *lost.values()],
        )

    def to_json(self) -> str:
        return json.dumps({name: value for name, value in vars(self).items() if name != "is_new"})

    @classmethod
    def from_json(cls, text: str) -> Decision:
        content = json.loads(text)
        content["matches"] = [Match(*match) for match in content["matches"]]
        content["dead"] = [DeadLabel(*dead) for dead in content["dead"]]
        return cls(**content, is_new=False)
