"""Events and labels for tests of the ledger. Times are given in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from app.streaming.feedback.decision import Decision, Event, Events, Label
from app.streaming.feedback.join_window import SECOND, JoinWindow
from app.streaming.feedback.ledger import FeedbackLedger

RULES = JoinWindow(label_timeout=100, lateness=10, max_lag=50)


class Ledger(FeedbackLedger):
    """A ledger that is given events one by one."""

    def enter(
        self,
        batch: int,
        events: Iterable[Event],
        labels: Iterable[Label],
        joined: Mapping[tuple[str, int], bytes] | None = None,
    ) -> Decision:
        ordered = sorted(events, key=lambda each: (each.time, each.sequence))
        columns = [[getattr(each, name) for each in ordered] for name in Event._fields]
        return self.decide(batch, Events(*columns), labels, joined=joined)


def event(name: str, time: float, sequence: int = 0) -> Event:
    """Return an event whose features are its name and its time."""
    return Event(name, round(time * SECOND), sequence, features_of(name, time))


def features_of(name: str, time: float) -> bytes:
    return f"{name} at {time:g}".ljust(24).encode()


def label(name: str, time: float, value: int = 1, sequence: int = 0) -> Label:
    return Label(name, round(time * SECOND), sequence, value, f'{{"id": "{name}"}}')


def matched(decision: Decision) -> list[tuple[str, int]]:
    return [(match.id, match.label) for match in decision.matches]


def dead(decision: Decision) -> list[tuple[str, str]]:
    return [(row.id, row.reason) for row in decision.dead]
