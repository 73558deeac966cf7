"""The ledger of a live stream: what became of each event and of each label.

Spark's stateful operators drop late rows in silence and keep no account. Here every
event and label that came is entered, each batch in one transaction, and what was
decided about a batch is kept with it: a batch that is tried again after a crash finds
the decision of its first try. The features of events wait here for their label too,
unless Spark's state store has them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from app.contract import (
    CONFLICTING_FEEDBACK,
    DUPLICATE_FEEDBACK,
    LATE_FEEDBACK,
    ORPHAN_FEEDBACK,
)
from app.errors import StaleLearnerError
from app.files.database import Database
from app.streaming.feedback.join_window import JoinWindow

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER);
    CREATE TABLE IF NOT EXISTS decisions (batch INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS events (
        id TEXT PRIMARY KEY, time INTEGER NOT NULL, sequence INTEGER NOT NULL,
        late INTEGER NOT NULL, served INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS events_by_time ON events (time);
    CREATE TABLE IF NOT EXISTS features (
        id TEXT PRIMARY KEY, time INTEGER NOT NULL, float32 BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS features_by_time ON features (time);
    CREATE TABLE IF NOT EXISTS labels (
        id TEXT PRIMARY KEY, time INTEGER NOT NULL, sequence INTEGER NOT NULL,
        label INTEGER NOT NULL, row TEXT
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS labels_by_time ON labels (time);
    CREATE INDEX IF NOT EXISTS labels_pending ON labels (time) WHERE row IS NOT NULL;
"""

# Below SQLite's limit of variables in one statement.
_IDS_PER_QUERY = 500

_KEPT_DECISIONS = 2

_CACHE_KIB = 32 * 1024


class Event(NamedTuple):
    """A good event: ``time`` in microseconds since 1970, ``sequence`` unique in its source.

    ``features`` are float32 in the machine's order of bytes, None when Spark keeps them.
    """

    id: str
    time: int
    sequence: int
    features: bytes | None = None


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


class DeadLabel(NamedTuple):
    """A label that cannot be used."""

    sequence: int
    id: str
    reason: str
    row: str


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
    """

    duplicates: list[int] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    dead: list[DeadLabel] = field(default_factory=list)
    pending: int = 0
    watermark: int | None = None

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Decision:
        content = json.loads(text)
        content["matches"] = [Match(*match) for match in content["matches"]]
        content["dead"] = [DeadLabel(*dead) for dead in content["dead"]]
        return cls(**content)


class FeedbackLedger:
    """The events and labels of one query.

    Parameters
    ----------
    path
        An SQLite file, created when missing.
    window

    Raises
    ------
    StorageError
        When the file cannot be used.
    """

    def __init__(self, path: Path, window: JoinWindow) -> None:
        self._window = window
        self._database = Database(path, _SCHEMA, write_ahead=True, cache_kib=_CACHE_KIB)
        self._db = self._database.connection

    def decide(self, batch: int, events: Iterable[Event], labels: Iterable[Label]) -> Decision:
        """Enter a batch and return what becomes of it, the same again if it was entered before.

        The first of several rows with one id counts: that of an earlier batch, then the
        earlier by time, then by sequence.

        Raises
        ------
        StaleLearnerError
            When later batches have been entered: another learner is ahead.
        StorageError
            When the disk refuses. Nothing of the batch was entered.
        """
        with self._database.transaction():
            stored = self._db.execute(
                "SELECT body FROM decisions WHERE batch = ?", (batch,)
            ).fetchone()
            if stored is not None:
                return Decision.from_json(stored[0])
            last = self._meta("batch")
            if last is not None and batch <= last:
                raise StaleLearnerError(
                    f"batch {batch} is to be entered, but batch {last} has been: a newer learner "
                    "runs on the same checkpoint"
                )
            decision = self._enter(
                sorted(events, key=lambda row: row[1:3]), sorted(labels, key=lambda row: row[1:3])
            )
            self._db.execute("INSERT INTO decisions VALUES (?, ?)", (batch, decision.to_json()))
            self._drop_decisions(batch - _KEPT_DECISIONS)
            self._set_meta("batch", batch)
        return decision

    def record_served(self, classes: Mapping[str, int]) -> None:
        """Remember the class index that was predicted for each event id."""
        with self._database.transaction():
            self._db.executemany(
                "UPDATE events SET served = ? WHERE id = ?",
                [(served, event_id) for event_id, served in classes.items()],
            )

    def served(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the class index that was predicted for each of these events."""
        with self._database.reading():
            return {row[0]: row[1] for row in self._rows("SELECT id, served FROM events", ids)}

    def features(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the features of events that were matched in the last batch or still wait."""
        with self._database.reading():
            return dict(self._rows("SELECT id, float32 FROM features", ids))

    def sizes(self) -> dict[str, int]:
        """Return how many events, features and labels are remembered."""
        with self._database.reading():
            return {
                table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("events", "features", "labels")
            }

    def close(self) -> None:
        self._database.close()

    def _enter(self, events: list[Event], labels: list[Label]) -> Decision:
        watermark = self._window.watermark(self._meta("newest_event"), self._meta("newest_label"))
        decision = Decision(watermark=watermark)
        if watermark is not None:
            self._forget(watermark)
        self._enter_events(events, watermark, decision)
        self._enter_labels(labels, watermark, decision)
        self._advance("newest_event", events)
        self._advance("newest_label", labels)
        self._give_up(decision)
        (pending,) = self._db.execute(
            "SELECT count(*) FROM labels WHERE row IS NOT NULL"
        ).fetchone()
        return Decision(
            decision.duplicates, decision.matches, decision.dead, pending, decision.watermark
        )

    def _enter_events(self, events: list[Event], watermark: int | None, decision: Decision) -> None:
        ids = [event.id for event in events]
        known = {row[0] for row in self._rows("SELECT id FROM events", ids)}
        waiting = {
            row[0]: Label(*row)
            for row in self._rows(
                "SELECT id, time, sequence, label, row FROM labels", ids, "row IS NOT NULL"
            )
        }
        entered, kept, settled = [], [], []
        for event in events:
            if event.id in known:
                decision.duplicates.append(event.sequence)
                continue
            known.add(event.id)
            late = watermark is not None and event.time < watermark
            entered.append((event.id, event.time, event.sequence, late))
            if event.features is not None and not late:
                kept.append((event.id, event.time, event.features))
            label = waiting.get(event.id)
            if label is not None:
                self._settle(label, event, late, decision)
                settled.append((event.id,))
        self._db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, NULL)", entered)
        self._db.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", kept)
        self._db.executemany("UPDATE labels SET row = NULL WHERE id = ?", settled)

    def _enter_labels(self, labels: list[Label], watermark: int | None, decision: Decision) -> None:
        ids = [label.id for label in labels]
        first = {row[0]: row[1] for row in self._rows("SELECT id, label FROM labels", ids)}
        events = {
            row[0]: (Event(*row[:3]), bool(row[3]))
            for row in self._rows("SELECT id, time, sequence, late FROM events", ids)
        }
        entered = []
        for label in labels:
            if label.id in first:
                same = first[label.id] == label.label
                reason = DUPLICATE_FEEDBACK if same else CONFLICTING_FEEDBACK
                decision.dead.append(_dead(label, reason))
                continue
            first[label.id] = label.label
            pending = None
            if watermark is not None and label.time < watermark:
                decision.dead.append(_dead(label, LATE_FEEDBACK))
            elif label.id in events:
                self._settle(label, *events[label.id], decision)
            else:
                pending = label.row
            entered.append((*label[:4], pending))
        self._db.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?)", entered)

    def _settle(self, label: Label, event: Event, late: bool, decision: Decision) -> None:
        """Decide on a label whose event is known."""
        # An event from behind the watermark was scored; it is not kept for a label.
        fault = LATE_FEEDBACK if late else self._window.fault(event.time, label.time)
        if fault is not None:
            decision.dead.append(_dead(label, fault))
        else:
            decision.matches.append(
                Match(label.id, event.sequence, label.label, event.time, label.time)
            )

    def _forget(self, watermark: int) -> None:
        """Drop what no row to come can need."""
        self._db.execute(
            "DELETE FROM features WHERE time < ?", (self._window.unmatched_before(watermark),)
        )
        for table in ("events", "labels"):
            self._db.execute(
                f"DELETE FROM {table} WHERE time < ?", (watermark - self._window.remembered,)
            )

    def _give_up(self, decision: Decision) -> None:
        """Make orphans of the labels whose event is waited for no longer, after this batch."""
        watermark = self._window.watermark(self._meta("newest_event"), self._meta("newest_label"))
        if watermark is None:
            return
        given_up = "row IS NOT NULL AND time < ?", (self._window.orphaned_before(watermark),)
        orphans = self._db.execute(
            f"SELECT id, time, sequence, label, row FROM labels WHERE {given_up[0]} "
            "ORDER BY time, sequence",
            given_up[1],
        ).fetchall()
        decision.dead.extend(_dead(Label(*row), ORPHAN_FEEDBACK) for row in orphans)
        self._db.execute(f"UPDATE labels SET row = NULL WHERE {given_up[0]}", given_up[1])

    def _drop_decisions(self, last: int) -> None:
        """Drop the decisions up to a batch that is not tried again, and what they needed."""
        rows = self._db.execute("SELECT body FROM decisions WHERE batch <= ?", (last,)).fetchall()
        learned = [(match.id,) for row in rows for match in Decision.from_json(row[0]).matches]
        self._db.executemany("DELETE FROM features WHERE id = ?", learned)
        self._db.execute("DELETE FROM decisions WHERE batch <= ?", (last,))

    def _rows(
        self, select: str, ids: Sequence[str], also: str = "TRUE"
    ) -> Iterator[tuple[Any, ...]]:
        """Yield what is remembered of some ids."""
        for start in range(0, len(ids), _IDS_PER_QUERY):
            some = ids[start : start + _IDS_PER_QUERY]
            marks = ",".join("?" * len(some))
            yield from self._db.execute(f"{select} WHERE id IN ({marks}) AND {also}", some)

    def _advance(self, name: str, rows: Sequence[Event | Label]) -> None:
        """Note the newest time of rows that are in order of time."""
        if rows:
            known = self._meta(name)
            self._set_meta(name, rows[-1].time if known is None else max(known, rows[-1].time))

    def _meta(self, name: str) -> int | None:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _set_meta(self, name: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _dead(label: Label, reason: str) -> DeadLabel:
    return DeadLabel(label.sequence, label.id, reason, label.row)
