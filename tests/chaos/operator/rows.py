"""The input of a place: rows good and bad, written by turns with what must become of them.

Rows are in order of time, and a label never stands before its event's place in its own source, so
that what is learned, and in which order, does not depend on how the rows are cut into batches.
What breaks that on purpose is marked in the truth as loose, or as unordered.
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.contract import (
    CONFLICTING_FEEDBACK,
    DUPLICATE_FEEDBACK,
    DUPLICATE_ID,
    FUTURE_TIME,
    LATE_FEEDBACK,
    UNPARSABLE,
)
from tests.chaos.operator.truth import Truth
from tests.integration.live_streams import write_json
from tests.integration.streams import FEATURES, write_csv

SPACING, DELAY, LABEL_TIMEOUT = 5.0, 30.0, 600.0
_LEARNED, _LOOSE = "learned", "loose"


class Input:
    """What both kinds have in common.

    Parameters
    ----------
    directory
    truth
    rng
    start
        Time of the first row, in seconds since 1970.
    """

    def __init__(self, directory: Path, truth: Truth, rng: random.Random, start: float) -> None:
        self.directory = directory
        self.truth = truth
        self.rng = rng
        self.time = start
        self.files = 0
        self.is_whole = True
        self._ids = 0
        self._times: dict[str, float] = {}
        self._unread: list[str] = []

    def append(self, n: int = 25, *, back: float = 0.0, **how: Any) -> None:
        """Write ``n`` rows, as many seconds back in time as told."""
        raise NotImplementedError

    def again(self, gap: float) -> None:
        """Write rows, the first with the id of an earlier one, so many seconds after it."""
        raise NotImplementedError

    def jump(self, seconds: float) -> None:
        """Let the rows' own time be later from now on."""
        self.time += seconds

    def read_by_now(self) -> None:
        """Note that all rows written so far have been read."""
        self._unread.clear()

    def new_id(self) -> str:
        """Return an id, with features and a class in the truth."""
        self._ids += 1
        event_id = f"e{self._ids}"
        x = np.random.default_rng(self._ids).normal(size=len(FEATURES)).astype(np.float32)
        self.truth.values[event_id] = x, int(x[0] + x[1] > x[2])
        self._unread.append(event_id)
        return event_id

    def _tick(self, event_id: str, back: float) -> str:
        self.time += SPACING
        self._times[event_id] = self.time - back
        return _iso(self.time - back)

    def _features(self, event_id: str) -> list[float]:
        return [float(value) for value in self.truth.values[event_id][0]]

    def _label(self, event_id: str) -> int:
        return self.truth.values[event_id][1]


class ReplayInput(Input):
    """CSV files of one directory: id, time, features, label."""

    def append(
        self, n: int = 25, *, back: float = 0.0, grow: bool = False, junk: bool = True
    ) -> None:
        """Write rows into a new file, or at the end of the last one."""
        rows, recent = [], []
        for _ in range(n):
            kind = self.rng.choices(
                ["good", "unlabelled", "unparsable", "again"], [85, 5, 5, 5 if recent else 0]
            )[0]
            event_id = self.rng.choice(recent) if kind == "again" else self.new_id()
            rows.append(self._row(event_id, kind if junk else "good", back))
            recent.append(event_id)
            if back:
                self.truth.unordered.add(event_id)
        self._write(rows, grow)

    def again(self, gap: float) -> None:
        if self.truth.learned:
            event_id = self.rng.choice(self.truth.learned)
            self.time = max(self.time, self._times[event_id] + gap)
            self._write([self._row(event_id, "again", 0.0)], grow=False)
        self.append()

    def _row(self, event_id: str, kind: str, back: float) -> list[Any]:
        truth = self.truth
        truth.rows[event_id] += 1
        features: list[Any] = [repr(value) for value in self._features(event_id)]
        label: Any = self._label(event_id)
        # Its time is that of the first.
        time = _iso(self._times[event_id]) if kind == "again" else self._tick(event_id, back)
        if kind == "unparsable":
            features[1] = "abc"
            truth.dead[event_id, UNPARSABLE] += 1
        elif kind == "again":
            # Of a bad row the id is not taken: then this one is the first.
            truth.dead[event_id, DUPLICATE_ID] += 1
            if not truth.scored[event_id]:
                truth.dead[event_id, DUPLICATE_ID] -= 1
                kind = "good"
        elif kind == "unlabelled":
            label = ""
        if kind in ("good", "unlabelled"):
            truth.scored[event_id] += 1
        if kind == "good":
            truth.learned.append(event_id)
            if event_id in [i for i, _ in truth.dead]:
                # As late as its time says, within its batch.
                truth.unordered.add(event_id)
        return [event_id, time, *features, label]

    def _write(self, rows: list[list[Any]], grow: bool) -> None:
        self.directory.mkdir(exist_ok=True)
        header = ("id", "time", *FEATURES, "label")
        if grow and self.files:
            more = write_csv(self.directory.with_name("more.csv"), rows, header).read_text()
            with open(self.directory / f"{self.files:04d}.csv", "a") as file:
                file.write(more.partition("\n")[2])
            return
        self.files += 1
        write_csv(self.directory / f"{self.files:04d}.csv", rows, header)


class LiveInput(Input):
    """Two directories of JSON files. Each event has a label after the same delay."""

    def __init__(self, directory: Path, truth: Truth, rng: random.Random, start: float) -> None:
        super().__init__(directory, truth, rng, start)
        self._held: list[tuple[dict[str, Any], str, str]] = []
        self._late: list[tuple[float, str]] = []
        self._nobodies = 0
        self.was_shortened = False

    def append(
        self,
        n: int = 25,
        *,
        back: float = 0.0,
        junk: bool = True,
        hold: bool = False,
        copies: int = 1,
        spacing: float = SPACING,
        mtime: float | None = None,
    ) -> None:
        """Write a file of events and one of labels.

        Parameters
        ----------
        n
        back
        junk
            Whether bad rows are among them.
        hold
            Write the labels with the next rows only.
        copies
            How often each label is given.
        spacing
            Seconds between two events.
        mtime
            Of the files, in seconds since 1970.
        """
        events: list[dict[str, Any]] = []
        labels: list[tuple[dict[str, Any], str, str]] = []
        weights = {"good": 80, "unlabelled": 4, "unparsable": 3, "twice": 3, "future": 2,
                   "label twice": 3, "contradicted": 3, "late": 2}  # fmt: skip
        for _ in range(n):
            kind = self.rng.choices(list(weights), list(weights.values()))[0] if junk else "good"
            event_id = self.new_id()
            self.time += spacing - SPACING
            time = self._tick(event_id, back)
            if back:
                self.truth.loose.add(event_id)
            events += self._events(event_id, time, kind)
            labels += [*self._labels(event_id, kind, copies), *self._due()]
            # No event stands further on in its source than its label does.
            while len(labels) < len(events):
                labels.append(self._nobody())
        self._write(events, labels, hold, mtime)

    def again(self, gap: float) -> None:
        self.append()
        if not self.truth.learned:
            return
        event_id = self.truth.learned[-1]
        self.time = max(self.time, self._times[event_id] + gap) - SPACING
        # Remembered for twice the timeout; after that the id is a new event's.
        if gap > 1.95 * LABEL_TIMEOUT or self.was_shortened:
            self.truth.loose.add(event_id)
        self.time += SPACING
        event = self._event(event_id, _iso(self.time))
        self.truth.dead[event_id, DUPLICATE_ID] += 1
        label = self._label_row(event_id, self.time + DELAY, self._label(event_id))
        self._write([event], [(label, event_id, DUPLICATE_FEEDBACK)], hold=False, mtime=None)

    def shorten(self) -> None:
        """Note that the next run lets rows go earlier than they would be."""
        self.was_shortened = True
        self.truth.loose.update(self._unread)
        self.truth.loose.update(event_id for _, event_id, _ in self._held)
        # Their events may be forgotten by then.
        self.loosen_late()

    def loosen_late(self) -> None:
        """Note that what becomes of the labels that are to come too late is not certain."""
        self.truth.loose.update(event_id for _, event_id in self._late)

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def _events(self, event_id: str, time: str, kind: str) -> list[dict[str, Any]]:
        truth = self.truth
        event = self._event(event_id, time)
        if kind == "unparsable":
            truth.dead[event_id, UNPARSABLE] += 1
            return [event | {FEATURES[1]: "abc"}]
        if kind == "future":
            truth.dead[event_id, FUTURE_TIME] += 1
            return [event | {"event_time": _iso(4_000_000_000.0)}]
        truth.scored[event_id] += 1
        if kind == "twice":
            truth.dead[event_id, DUPLICATE_ID] += 1
            return [event, self._event(event_id, time)]
        return [event]

    def _event(self, event_id: str, time: str) -> dict[str, Any]:
        self.truth.rows[event_id] += 1
        features = dict(zip(FEATURES, self._features(event_id), strict=True))
        return {"event_id": event_id, "event_time": time} | features

    def _labels(
        self, event_id: str, kind: str, copies: int
    ) -> list[tuple[dict[str, Any], str, str]]:
        if kind in ("unlabelled", "unparsable", "future"):
            return [self._nobody()]
        given = self._times[event_id] + DELAY
        right = self._label(event_id)
        row = self._label_row(event_id, given, right)
        if kind == "late":
            self._late.append((given + 1.2 * LABEL_TIMEOUT, event_id))
            return []
        labels = [(row, event_id, _LEARNED)]
        again = self._label_row(event_id, given + 1, right)
        labels += [(again, event_id, DUPLICATE_FEEDBACK)] * (copies - 1 + (kind == "label twice"))
        if kind == "contradicted":
            other = self._label_row(event_id, given + 1, 1 - right)
            labels.append((other, event_id, CONFLICTING_FEEDBACK))
        return labels

    def _due(self) -> list[tuple[dict[str, Any], str, str]]:
        """Return the labels that come too late, and whose turn it is."""
        due = [late for late in self._late if late[0] <= self.time + DELAY]
        self._late = self._late[len(due) :]
        return [
            (self._label_row(event_id, time, self._label(event_id)), event_id, LATE_FEEDBACK)
            for time, event_id in due
        ]

    def _nobody(self) -> tuple[dict[str, Any], str, str]:
        """Return a label that has no event: pending, or a dead letter once it was waited for."""
        self._nobodies += 1
        event_id = f"nobody{self._nobodies}"
        self.truth.loose.add(event_id)
        return self._label_row(event_id, self.time + DELAY, 0), event_id, _LOOSE

    def _label_row(self, event_id: str, time: float, label: int) -> dict[str, Any]:
        return {"event_id": event_id, "feedback_time": _iso(time), "label": label}

    def _write(
        self,
        events: list[dict[str, Any]],
        labels: list[tuple[dict[str, Any], str, str]],
        hold: bool,
        mtime: float | None,
    ) -> None:
        self.files += 1
        written = [write_json(self.directory / "events", events, f"{self.files:04d}")]
        self._held += labels
        if not hold:
            rows = [row for row, _, _ in self._held]
            written.append(write_json(self.directory / "feedback", rows, f"{self.files:04d}"))
            for _, event_id, fate in self._held:
                self.truth.labels[event_id] += 1
                if fate == _LEARNED:
                    self.truth.learned.append(event_id)
                elif fate != _LOOSE:
                    self.truth.dead[event_id, fate] += 1
            self._held = []
        if mtime is not None:
            for path in written:
                os.utime(path, (mtime, mtime))


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
