"""A ledger goes on with other times, and one of an older release with what that has decided."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

import pytest

from app.errors import NewerFormatError
from app.streaming.feedback.decision import Decision, Event, Label
from app.streaming.feedback.join_window import SECOND, JoinWindow
from tests.unit.streaming.feedback.entries import (
    RULES,
    Ledger,
    dead,
    event,
    features_of,
    label,
    matched,
)

SHORT = JoinWindow(label_timeout=10, lateness=0, max_lag=10)
MEDIUM = JoinWindow(label_timeout=60, lateness=0, max_lag=60)
LONG = JoinWindow(label_timeout=3600, lateness=0, max_lag=3600)


class Runs:
    """Runs of one query, each batch of which is tried twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batch = -1
        self.received, self.learned, self.died = 0, [], 0

    def __call__(
        self, window: JoinWindow, events: list[Event], labels: list[Label], state_store="driver"
    ) -> Decision:
        joined = {}
        if state_store == "rocksdb":
            # Spark joins those it still has, and now and then has let one go.
            joined = {row.key: row.features for row in events if row.features}
            events = [row._replace(features=None) for row in events]
        self._batch += 1
        ledger = Ledger(self._path, window)
        decision = ledger.enter(self._batch, events, labels, joined=joined)
        again = Ledger(self._path, MEDIUM)
        assert again.enter(self._batch, events, labels) == decision
        assert len(again.features(decision.matches)) == len(decision.matches)
        again.close()
        ledger.close()
        self.received += len(labels)
        self.learned += [match.key for match in decision.matches]
        self.died += len(decision.dead)
        assert self.received == len(self.learned) + self.died + decision.pending
        assert len(self.learned) == len(set(self.learned))
        return decision


def test_shorter_times_make_dead_letters_of_the_labels_that_wait(path):
    run = Runs(path)
    run(LONG, [event("z", 1000)], [label("z", 1000), label("waits", 1000)])
    run(LONG, [event("y", 1100)], [])
    decision = run(SHORT, [event("x", 1101)], [label("x", 1101)])
    assert (dead(decision), decision.pending) == ([("waits", "orphan_feedback")], 0)


def test_longer_times_do_not_bring_features_back(path):
    run = Runs(path)
    run(MEDIUM, [event("a", 0, 1)], [])
    run(MEDIUM, [event("z", 1000, 2)], [label("z", 1000)])
    run(MEDIUM, [event("y", 1050, 3)], [label("y", 1050)])
    decision = run(LONG, [], [label("a", 1051)])
    assert matched(decision) == []
    assert dead(run(LONG, [], [label("b", 4700)])) == [("a", "orphan_feedback")]


def test_longer_times_keep_a_label_from_an_event_that_is_known_and_has_no_features(path):
    run = Runs(path)
    run(MEDIUM, [event("a", 930, 1)], [])
    run(MEDIUM, [event("z", 1000, 2)], [label("z", 1000)])
    run(MEDIUM, [], [])
    decision = run(LONG, [], [label("a", 1001)])
    assert dead(decision) == [("a", "late_feedback")]
    assert decision.dropped_by == {"label_timeout": 1}


def test_longer_times_do_not_bring_back_features_that_a_block_still_has(path):
    run = Runs(path)
    run(MEDIUM, [event("a", 930, 1), event("b", 950, 2)], [])
    run(MEDIUM, [event("z", 1000, 3)], [label("z", 1000)])
    run(MEDIUM, [], [])
    decision = run(LONG, [], [label("a", 1001), label("b", 1001)])
    assert (matched(decision), dead(decision)) == ([("b", 1)], [("a", "late_feedback")])


def test_longer_times_do_not_move_the_watermark_back(path):
    run = Runs(path)
    run(SHORT, [event("z", 1000)], [])
    run(SHORT, [], [])
    assert run(LONG, [], []).watermark == 990 * SECOND
    assert run(LONG, [], []).watermark == 990 * SECOND


def test_a_label_is_not_forgotten_before_its_event(path):
    """A longer timeout would then let the event be learned once more."""
    rules = JoinWindow(label_timeout=10, lateness=10, max_lag=10)
    joined = {("a", 1): b"a", ("z", 2): b"z"}
    for batch, (window, events, labels) in enumerate(
        [
            (
                rules,
                [event("a", 1000, 1), event("z", 1038, 2)],
                [label("a", 991), label("z", 1038)],
            ),
            (rules, [], []),
            (LONG, [], [label("a", 1040)]),
        ]
    ):
        ledger = Ledger(path, window)
        sparks = [row._replace(features=None) for row in events]
        decision = ledger.enter(batch, sparks, labels, joined=joined)
        ledger.close()
    assert dead(decision) == [("a", "duplicate_feedback")]


@pytest.mark.parametrize("state_store", ["driver", "rocksdb"])
@pytest.mark.parametrize("seed", range(8))
def test_every_label_is_accounted_for_with_whatever_times_a_run_goes_on(seed, state_store, path):
    rng = random.Random(seed)
    run, now, sequence = Runs(path), 0.0, 0
    lengths = [0, 0.5, 10, 60, 300, 3600, 1e9]
    for _ in range(60):
        window = JoinWindow(*(rng.choice(lengths) for _ in range(3)))
        for _ in range(rng.randrange(1, 4)):
            now += rng.choice([0, 1, 1, 5, 5, 90, 1000])
            # Few names: they come again.
            names = [f"e{rng.randrange(12)}" for _ in range(rng.randrange(8))]
            events, labels = [], []
            for name in names:
                time = now - rng.choice([0, 0, 1, 20, 90])
                sequence += 1
                if rng.random() < 0.7:
                    row = event(name, time, sequence)
                    lost = rng.random() < 0.2 and state_store == "rocksdb"
                    events.append(row._replace(features=None) if lost else row)
                if rng.random() < 0.7:
                    delay = rng.choice([-5, 0, 0, 3, 50, 400])
                    labels.append(label(name, time + delay, rng.randrange(2), sequence))
            run(window, events, labels, state_store)
    assert run.learned


OLD_TABLES = """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER);
    CREATE TABLE decisions (batch INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE events (
        id TEXT PRIMARY KEY, time INTEGER NOT NULL, sequence INTEGER NOT NULL,
        late INTEGER NOT NULL, served INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE features (id TEXT PRIMARY KEY, time INTEGER NOT NULL, float32 BLOB NOT NULL);
    CREATE TABLE labels (
        id TEXT PRIMARY KEY, time INTEGER NOT NULL, sequence INTEGER NOT NULL,
        label INTEGER NOT NULL, row TEXT
    ) WITHOUT ROWID;
"""


@pytest.fixture
def old(path: Path) -> Path:
    """A ledger of the release before, in whose batch 5 two labels were promised their event."""
    second = SECOND
    matches = [
        ["a", 7, 1, 1000 * second, 1001 * second],
        ["gone", 8, 0, 1000 * second, 1002 * second],
    ]
    body = {
        "duplicates": [],
        "matches": matches,
        "dead": [[3, "c", "orphan_feedback", "{}"]],
        "pending": 1,
        "watermark": 990 * second,
    }
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(OLD_TABLES)
    for name, sequence in (("a", 7), ("gone", 8), ("b", 9)):
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, 0, 1)", (name, 1000 * second, sequence)
        )
    for name in ("a", "b"):
        connection.execute(
            "INSERT INTO features VALUES (?, ?, ?)",
            (name, 1000 * second, features_of(name, 1000)),
        )
    for name, sequence, row in (("a", 4, None), ("gone", 5, None), ("waits", 6, "{}")):
        connection.execute(
            "INSERT INTO labels VALUES (?, ?, ?, 1, ?)", (name, 1001 * second, sequence, row)
        )
    connection.execute("INSERT INTO decisions VALUES (5, ?)", (json.dumps(body),))
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        [("batch", 5), ("newest_event", 1000 * second), ("newest_label", 1002 * second)],
    )
    connection.close()
    return path


def test_a_ledger_of_an_older_release_goes_on(old):
    ledger = Ledger(old, RULES)
    decision = ledger.enter(6, [event("waits", 1001, 10)], [label("b", 1002)])
    assert matched(decision) == [("waits", 1), ("b", 1)]
    assert decision.watermark == 990 * SECOND
    assert ledger.features(decision.matches) == [features_of("waits", 1001), features_of("b", 1000)]
    ledger.close()
    again = Ledger(old, RULES)
    assert again.enter(6, [], []) == decision
    again.close()


def test_a_match_that_an_older_release_has_promised_in_vain_becomes_a_dead_letter(old):
    ledger = Ledger(old, RULES)
    decision = ledger.enter(5, [], [])
    assert matched(decision) == [("a", 1)]
    assert dead(decision) == [("c", "orphan_feedback"), ("gone", "late_feedback")]
    assert (decision.dead[-1].sequence, json.loads(decision.dead[-1].row)["label"]) == (5, 0)
    assert ledger.features(decision.matches) == [features_of("a", 1000)]
    assert ledger.enter(5, [], []) == decision
    ledger.close()


def test_features_that_spark_has_joined_keep_the_promise_of_an_older_release(old):
    ledger = Ledger(old, RULES)
    decision = ledger.enter(5, [], [], joined={("gone", 8): b"joined"})
    assert ledger.features(decision.matches) == [features_of("a", 1000), b"joined"]
    ledger.close()


@pytest.fixture
def second(path: Path) -> Path:
    """A ledger of schema 2, of which event "a" waits and "z" is learned."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(OLD_TABLES)
    connection.executescript(
        "DROP TABLE features; CREATE TABLE waiting (id TEXT NOT NULL, sequence INTEGER NOT NULL, "
        "time INTEGER NOT NULL, float32 BLOB NOT NULL, learned INTEGER, PRIMARY KEY (id, sequence))"
    )
    for name, sequence, learned in (("a", 7, None), ("z", 8, 4)):
        time, row = 1000 * SECOND, features_of(name, 1000)
        connection.execute("INSERT INTO events VALUES (?, ?, ?, 0, 1)", (name, time, sequence))
        connection.execute(
            "INSERT INTO waiting VALUES (?, ?, ?, ?, ?)", (name, sequence, time, row, learned)
        )
    connection.execute("INSERT INTO labels VALUES ('z', ?, 8, 1, NULL)", (1000 * SECOND,))
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)",
        [("schema", 2), ("batch", 4), ("newest_event", time), ("newest_label", time)],
    )
    connection.close()
    return path


def test_a_ledger_of_schema_2_goes_on(second):
    ledger = Ledger(second, RULES)
    events = [event("b", 1001, 9), event("a", 1001, 10)]
    decision = ledger.enter(5, events, [label("a", 1001), label("b", 1002), label("z", 1003)])
    assert matched(decision) == [("a", 1), ("b", 1)]
    assert decision.duplicates == [10]
    assert dead(decision) == [("z", "duplicate_feedback")]
    assert ledger.features(decision.matches) == [features_of("a", 1000), features_of("b", 1001)]
    ledger.close()


def test_a_ledger_of_a_newer_release_is_refused_and_not_changed(path):
    Ledger(path, RULES).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE meta SET value = 4 WHERE name = 'schema'")
    connection.close()
    with pytest.raises(NewerFormatError, match="ledger.sqlite is of format 4"):
        Ledger(path, RULES)
