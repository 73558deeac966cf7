"""The ledger of a live stream: what became of each event and of each label.

Spark's stateful operators drop late rows in silence and keep no account. Here every
event and label that came is entered, each batch in one transaction, and what was
decided about a batch is kept with it: a batch that is tried again after a crash finds
the decision of its first try. The features of events wait here for their label too,
unless Spark's state store has them; those of a match are kept here in any case for as
long as its batch may be tried again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from app.contract import LATE_FEEDBACK
from app.errors import StaleLearnerError
from app.streaming.feedback.batch_entry import BatchEntry, Key, select_ids
from app.streaming.feedback.decision import DeadLabel, Decision, Events, Label, Match
from app.streaming.feedback.feature_blocks import FeatureBlocks, Place
from app.streaming.feedback.join_window import JoinWindow
from app.streaming.feedback.ledger_file import open_ledger, read_meta, write_meta

_KEPT_DECISIONS = 2


class FeedbackLedger:
    """The events and labels of one query.

    Parameters
    ----------
    path
        An SQLite file, created when missing.
    window
        May be another one than that of an earlier run. What shorter times let go becomes
        dead letters, and longer ones do not bring it back.

    Raises
    ------
    StorageError, DamagedFileError
        When the file cannot be used. From every method too.
    NewerFormatError
    """

    def __init__(self, path: Path, window: JoinWindow) -> None:
        self._window = window
        self._database = open_ledger(path, window)
        self._db = self._database.connection

    def decide(
        self,
        batch: int,
        events: Events,
        labels: Iterable[Label],
        *,
        joined: Mapping[Key, bytes] | None = None,
        unread: int | None = None,
    ) -> Decision:
        """Enter a batch and return what becomes of it, the same again if it was entered before.

        The first of several rows with one id counts: that of an earlier batch, then the
        earlier by time, then by sequence.

        Parameters
        ----------
        batch
        events
        labels
        joined
            Features of the events that Spark has joined with a label of this batch.
        unread
            Time of the oldest row that is known to come in a later batch, in microseconds
            since 1970. The watermark waits for it.

        Raises
        ------
        StaleLearnerError
            When later batches have been entered: another learner is ahead.
        """
        joined = joined or {}
        with self._database.transaction():
            stored = self._db.execute(
                "SELECT body FROM decisions WHERE batch = ?", (batch,)
            ).fetchone()
            if stored is not None:
                first = Decision.from_json(stored[0])
            else:
                self._refuse_overtaken(batch)
                self._drop_decisions(batch - _KEPT_DECISIONS)
                first = BatchEntry(self._db, self._window, batch, joined, unread).enter(
                    events, sorted(labels, key=itemgetter(1, 2))
                )
                write_meta(self._db, "batch", batch)
            self._keep(first, batch, joined)
            decision = first.without(self._lost(first.matches, batch))
            if stored is None or decision != first:
                self._db.execute(
                    "INSERT OR REPLACE INTO decisions VALUES (?, ?)", (batch, decision.to_json())
                )
        return decision

    def position(self) -> int | None:
        """Return the last batch that was entered, None before the first."""
        with self._database.reading():
            return read_meta(self._db, "batch")

    def record_served(self, classes: Mapping[str, int]) -> None:
        """Remember the class index that was predicted for each event id."""
        with self._database.transaction():
            self._db.executemany(
                "UPDATE events SET served = ? WHERE id = ?",
                [(served, event_id) for event_id, served in classes.items()],
            )

    def served(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the class index that was predicted for each of these events, where one was."""
        with self._database.reading():
            select = "SELECT id, served FROM events"
            return dict(select_ids(self._db, select, ids, "served IS NOT NULL"))

    def features(self, matches: Sequence[Match]) -> list[bytes]:
        """Return the features of the matches of a batch that may still be tried again."""
        select, ids = "SELECT id, sequence, float32 FROM waiting", [match.id for match in matches]
        with self._database.reading():
            kept = {tuple(row[:2]): row[2] for row in select_ids(self._db, select, ids)}
        return [kept[match.key] for match in matches]

    def sizes(self) -> dict[str, int]:
        """Return how many events, features and labels are remembered.

        Features that wait, and those of a match, which are kept once more.
        """
        counts = {
            "events": "SELECT count(*) FROM events",
            "features": "SELECT (SELECT count(*) FROM waiting) + total(n_rows) FROM blocks",
            "labels": "SELECT count(*) FROM labels",
        }
        with self._database.reading():
            return {
                name: int(self._db.execute(count).fetchone()[0]) for name, count in counts.items()
            }

    def close(self) -> None:
        self._database.close()

    def _refuse_overtaken(self, batch: int) -> None:
        last = read_meta(self._db, "batch")
        if last is not None and batch <= last:
            raise StaleLearnerError(
                f"batch {batch} is to be entered, but batch {last} has been: a newer learner "
                "runs on the same checkpoint"
            )

    def _drop_decisions(self, last: int) -> None:
        """Drop the decisions up to a batch that is not tried again, and what they needed."""
        self._db.execute("DELETE FROM decisions WHERE batch <= ?", (last,))
        self._db.execute("DELETE FROM waiting WHERE learned <= ?", (last,))

    def _keep(self, decision: Decision, batch: int, joined: Mapping[Key, bytes]) -> None:
        """Keep the features of matches until their batch is not tried again any more."""
        matches = decision.matches
        if decision.is_new:
            self._insert("REPLACE", matches, self._in_blocks(matches))
        self._insert("IGNORE", matches, joined)
        self._db.executemany(
            "UPDATE waiting SET learned = ? WHERE id = ? AND sequence = ?",
            [(batch, *match.key) for match in matches],
        )

    def _insert(self, verb: str, matches: Sequence[Match], features: Mapping[Key, bytes]) -> None:
        self._db.executemany(
            f"INSERT OR {verb} INTO waiting VALUES (?, ?, ?, ?, NULL)",
            [
                (*match.key, match.event_time, features[match.key])
                for match in matches
                if match.key in features
            ],
        )

    def _in_blocks(self, matches: Sequence[Match]) -> dict[Key, bytes]:
        select = "SELECT id, sequence, batch, place FROM events"
        rows = select_ids(self._db, select, [each.id for each in matches], "place IS NOT NULL")
        places = {(row[0], row[1]): Place(*row[2:]) for row in rows}
        found = FeatureBlocks(self._db).read(list(places.values()))
        return {key: found[place] for key, place in places.items() if place in found}

    def _lost(self, matches: Sequence[Match], batch: int) -> dict[Key, DeadLabel]:
        """Return what becomes of the matches of an older release that promised too much."""
        ids = [match.id for match in matches]
        select = "SELECT id, sequence FROM waiting"
        kept = set(select_ids(self._db, select, ids, f"learned = {batch:d}"))
        sequences = dict(select_ids(self._db, "SELECT id, sequence FROM labels", ids))
        return {
            match.key: DeadLabel(
                sequences.get(match.id, 0), match.id, LATE_FEEDBACK, json.dumps(match._asdict())
            )
            for match in matches
            if match.key not in kept
        }
