"""How one batch is entered into the ledger, and what is decided about it."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

from app.contract import (
    CONFLICTING_FEEDBACK,
    DUPLICATE_FEEDBACK,
    LATE_FEEDBACK,
    ORPHAN_FEEDBACK,
)
from app.streaming.feedback.decision import DeadLabel, Decision, Event, Events, Label, Match
from app.streaming.feedback.feature_blocks import FeatureBlocks
from app.streaming.feedback.join_window import (
    LABEL_TIMEOUT,
    LATENESS,
    MAX_LAG,
    Fault,
    JoinWindow,
    micros,
)
from app.streaming.feedback.ledger_file import read_meta, write_meta

Key = tuple[str, int]
"""Id and sequence of an event."""

# In the column ``late``: in time, and the settings that an event came too late by.
_LATE_BY = (None, LATENESS, MAX_LAG)

# Below SQLite's limit of variables in one statement.
_IDS_PER_QUERY = 500


class BatchEntry:
    """Enters one batch, within a transaction of the caller's.

    Parameters
    ----------
    connection
    window
    batch
    joined
        Features of the events that Spark has joined with a label of this batch.
    unread
        Time of the oldest row that is known to come in a later batch.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        window: JoinWindow,
        batch: int,
        joined: Mapping[Key, bytes],
        unread: int | None,
    ) -> None:
        self._db = connection
        self._window = window
        self._batch = batch
        self._blocks = FeatureBlocks(connection)
        self._joined = joined
        self._unread = unread
        # High-water mark: longer times do not bring back what shorter ones have let go.
        self._watermark = read_meta(connection, "watermark")
        self._newest = read_meta(connection, "newest_event"), read_meta(connection, "newest_label")
        # Features of events before this time are dropped, though blocks still have some of them.
        self._dropped = read_meta(connection, "features_dropped_before")
        self._decision = Decision(watermark=self._watermark)

    def enter(self, events: Events, labels: Sequence[Label]) -> Decision:
        """Enter events and labels, each in order, and return what becomes of them.

        A label is matched only with an event whose features are there.
        """
        if self._watermark is not None:
            self._forget(self._watermark)
        self._enter_events(events)
        self._enter_labels(labels)
        self._advance("newest_event", events.times)
        self._advance("newest_label", [label.time for label in labels])
        self._give_up()
        decided = self._decision
        return Decision(
            decided.duplicates,
            decided.matches,
            decided.dead,
            self._count_pending(),
            decided.watermark,
            len(labels),
        )

    def _forget(self, watermark: int) -> None:
        """Drop what no row to come can need. What waits, or may be tried again, stays."""
        dropped = self._window.unmatched_before(watermark)
        self._dropped = dropped if self._dropped is None else max(dropped, self._dropped)
        write_meta(self._db, "features_dropped_before", self._dropped)
        self._blocks.drop_before(self._dropped)
        self._db.execute("DELETE FROM waiting WHERE learned IS NULL AND time < ?", (dropped,))
        forgotten = (self._window.forgotten_before(watermark),)
        self._db.execute("DELETE FROM events WHERE time < ?", forgotten)
        # A label is remembered no shorter than its event, or that would be learned once more.
        self._db.execute(
            "DELETE FROM labels WHERE time < ? AND row IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM events WHERE events.id = labels.id)",
            forgotten,
        )

    def _enter_events(self, events: Events) -> None:
        firsts, others = events.firsts()
        known = self._enter_first(firsts)
        duplicates = [events.sequences[place] for place in others]
        if known:
            named = zip(firsts.ids, firsts.sequences, strict=True)
            duplicates += [sequence for name, sequence in named if name in known]
        self._decision.duplicates.extend(sorted(duplicates))
        settled = []
        for place, label in self._pending(firsts.ids):
            if label.id in known:
                continue
            event = firsts[place]
            self._settle(label, event, self._late(event.time), event.features is not None)
            settled.append((label.id,))
        self._db.executemany("UPDATE labels SET row = NULL WHERE id = ?", settled)

    def _enter_first(self, events: Events) -> set[str]:
        """Enter events, each of another id, and return which ids are known."""
        n_late = 0
        if self._watermark is not None:
            n_late = bisect_left(events.times, self._watermark)
        late = [_LATE_BY.index(self._late(time)) for time in events.times[:n_late]]
        kept = [place for place, row in enumerate(events.features) if row is not None]
        kept = kept[bisect_left(kept, n_late) :]
        places: list[int | None] = [None] * len(events)
        for number, place in enumerate(kept):
            places[place] = number
        late_by = chain(late, repeat(0, len(events) - n_late))
        entered = [
            *zip(events.ids, events.times, events.sequences, late_by, events.served, places,
                 strict=True)
        ]  # fmt: skip
        # In order of their ids, which is that of the table.
        entered.sort(key=itemgetter(0))
        before = self._db.total_changes
        self._db.executemany(
            f"INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, {self._batch:d}, ?)", entered
        )
        known: set[str] = set()
        if self._db.total_changes - before < len(entered):
            new, select = f"batch IS NOT {self._batch:d}", "SELECT id FROM events"
            known.update(row[0] for row in select_ids(self._db, select, events.ids, new))
        if len(known) < len(entered):
            times = [events.times[place] for place in kept]
            self._blocks.add(self._batch, times, [events.features[place] or b"" for place in kept])
        return known

    def _pending(self, ids: Sequence[str]) -> list[tuple[int, Label]]:
        """Return the labels that wait for events of some ids, each with the place of its id."""
        select = "SELECT id, time, sequence, label, row FROM labels"
        rows: Iterable[tuple[Any, ...]]
        if self._count_pending() <= len(ids):
            rows = self._db.execute(f"{select} WHERE row IS NOT NULL")
        else:
            rows = select_ids(self._db, select, ids, "row IS NOT NULL")
        labels = {row[0]: Label(*row) for row in rows}
        if not labels:
            return []
        return [(place, labels[name]) for place, name in enumerate(ids) if name in labels]

    def _count_pending(self) -> int:
        (pending,) = self._db.execute(
            "SELECT count(*) FROM labels WHERE row IS NOT NULL"
        ).fetchone()
        return int(pending)

    def _enter_labels(self, labels: Sequence[Label]) -> None:
        ids = [label.id for label in labels]
        first = {
            row[0]: row[1] for row in select_ids(self._db, "SELECT id, label FROM labels", ids)
        }
        select = "SELECT id, time, sequence, late, place FROM events"
        events = {row[0]: row for row in select_ids(self._db, select, ids)}
        waiting = _keys_waiting(self._db, ids)
        entered = []
        for label in labels:
            if label.id in first:
                same = first[label.id] == label.label
                self._drop(label, DUPLICATE_FEEDBACK if same else CONFLICTING_FEEDBACK)
                continue
            first[label.id] = label.label
            pending = None
            late = self._late(label.time)
            if late is not None:
                self._drop(label, LATE_FEEDBACK, late)
            elif label.id in events:
                *entry, event_late, place = events[label.id]
                event = Event(*entry)
                kept = place is not None and (self._dropped is None or event.time >= self._dropped)
                self._settle(label, event, _LATE_BY[event_late], kept or event.key in waiting)
            else:
                pending = label.row
            entered.append((*label[:4], pending))
        self._db.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?)", entered)

    def _late(self, time: int) -> str | None:
        """Return the setting by which a row comes too late, None when it does not."""
        if self._watermark is None or time >= self._watermark:
            return None
        return self._window.passed_by(time, *self._newest)

    def _settle(self, label: Label, event: Event, late: str | None, is_waiting: bool) -> None:
        """Decide on a label whose event is known."""
        # An event from behind the watermark was scored; it is not kept for a label.
        fault = (
            self._window.fault(event.time, label.time)
            if late is None
            else Fault(LATE_FEEDBACK, late)
        )
        if fault is not None:
            self._drop(label, *fault)
        elif is_waiting or event.key in self._joined:
            self._decision.matches.append(
                Match(label.id, event.sequence, label.label, event.time, label.time)
            )
        else:
            # Dropped while shorter times held.
            self._drop(label, LATE_FEEDBACK, LABEL_TIMEOUT)

    def _drop(self, label: Label, reason: str, option: str | None = None) -> None:
        self._decision.dead.append(DeadLabel(label.sequence, label.id, reason, label.row, option))

    def _give_up(self) -> None:
        """Advance the watermark, and make orphans of the labels whose event is not waited for."""
        newest = read_meta(self._db, "newest_event"), read_meta(self._db, "newest_label")
        watermark = self._window.watermark(*newest, self._unread)
        if watermark is None:
            return
        if self._watermark is not None:
            watermark = max(watermark, self._watermark)
        write_meta(self._db, "watermark", watermark)
        given_up = (self._window.orphaned_before(watermark),)
        orphans = self._db.execute(
            "SELECT id, time, sequence, label, row FROM labels "
            "WHERE row IS NOT NULL AND time < ? ORDER BY time, sequence",
            given_up,
        )
        for row in orphans.fetchall():
            label = Label(*row)
            # One that no other setting would have kept waiting never had an event.
            passed = self._window.passed_by(label.time + micros(self._window.lateness), *newest)
            self._drop(label, ORPHAN_FEEDBACK, passed if passed == MAX_LAG else None)
        self._db.execute(
            "UPDATE labels SET row = NULL WHERE row IS NOT NULL AND time < ?", given_up
        )

    def _advance(self, name: str, times: Sequence[int]) -> None:
        """Note the newest of times that are in ascending order."""
        if times:
            known = read_meta(self._db, name)
            write_meta(self._db, name, times[-1] if known is None else max(known, times[-1]))


def select_ids(
    connection: sqlite3.Connection, select: str, ids: Sequence[str], also: str = "TRUE"
) -> Iterator[tuple[Any, ...]]:
    """Yield what is remembered of some ids."""
    for start in range(0, len(ids), _IDS_PER_QUERY):
        some = ids[start : start + _IDS_PER_QUERY]
        marks = ",".join("?" * len(some))
        yield from connection.execute(f"{select} WHERE id IN ({marks}) AND {also}", some)


def _keys_waiting(connection: sqlite3.Connection, ids: Sequence[str]) -> set[Key]:
    """Return the keys of the events of some ids whose features wait for a label."""
    select = "SELECT id, sequence FROM waiting"
    return set(select_ids(connection, select, ids, "learned IS NULL"))
