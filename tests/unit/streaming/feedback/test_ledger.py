"""Each label is accounted for once, in whatever order things come, however often they are tried."""

from __future__ import annotations

import random
import sqlite3

import pytest

from app.errors import DamagedFileError, StaleLearnerError, StorageError
from app.streaming.feedback.batch_entry import BatchEntry
from app.streaming.feedback.decision import Event, Label, Match
from app.streaming.feedback.join_window import SECOND
from tests.unit.streaming.feedback.entries import RULES, Ledger, dead, event, label, matched


def test_a_label_meets_its_event_of_the_same_batch(ledger):
    decision = ledger.enter(0, [event("a", 1000, 7)], [label("a", 1005)])
    assert decision.matches == [Match("a", 7, 1, 1000 * SECOND, 1005 * SECOND)]
    assert (decision.dead, decision.pending) == ([], 0)


def test_a_label_meets_an_event_of_an_earlier_batch(ledger):
    ledger.enter(0, [event("a", 1000, 7)], [])
    assert ledger.enter(1, [], [label("a", 1005)]).matches[0].event_sequence == 7


def test_a_label_that_comes_before_its_event_waits_for_it(ledger):
    assert ledger.enter(0, [], [label("a", 1005)]).pending == 1
    decision = ledger.enter(1, [event("a", 1000)], [])
    assert (matched(decision), decision.pending) == ([("a", 1)], 0)


def test_the_first_of_several_labels_counts(ledger):
    ledger.enter(0, [event("a", 1000)], [label("a", 1005)])
    decision = ledger.enter(1, [], [label("a", 1006, 1), label("a", 1007, 0)])
    assert matched(decision) == []
    assert dead(decision) == [("a", "duplicate_feedback"), ("a", "conflicting_feedback")]


def test_the_first_by_time_counts_within_a_batch_and_then_by_place(ledger):
    labels = [label("a", 1006, 0, 1), label("a", 1005, 1, 3), label("a", 1005, 0, 2)]
    decision = ledger.enter(0, [event("a", 1000)], labels)
    assert matched(decision) == [("a", 0)]
    assert dead(decision) == [("a", "conflicting_feedback"), ("a", "duplicate_feedback")]


def test_a_label_repeated_while_it_waits_is_a_duplicate(ledger):
    ledger.enter(0, [], [label("a", 1005)])
    assert dead(ledger.enter(1, [], [label("a", 1006)])) == [("a", "duplicate_feedback")]
    assert matched(ledger.enter(2, [event("a", 1000)], [])) == [("a", 1)]


def test_an_event_that_comes_twice_is_a_duplicate_and_the_first_one_counts(ledger):
    decision = ledger.enter(0, [event("a", 1001, 2), event("a", 1000, 3)], [])
    assert decision.duplicates == [2]
    decision = ledger.enter(1, [event("a", 999, 4)], [label("a", 1005)])
    assert decision.duplicates == [4]
    assert decision.matches[0].event_sequence == 3


def test_a_label_given_too_long_after_its_event_is_late(ledger):
    ledger.enter(0, [event("a", 1000), event("b", 1000)], [])
    decision = ledger.enter(1, [], [label("a", 1100), label("b", 1101)])
    assert (matched(decision), dead(decision)) == ([("a", 1)], [("b", "late_feedback")])


def test_a_label_given_too_long_after_its_event_is_late_when_the_event_comes_last(ledger):
    ledger.enter(0, [], [label("a", 1101)])
    assert dead(ledger.enter(1, [event("a", 1000)], [])) == [("a", "late_feedback")]


def test_a_label_from_before_the_watermark_is_late(ledger):
    ledger.enter(0, [event("a", 1000), event("z", 1200)], [label("z", 1200)])
    decision = ledger.enter(1, [], [label("a", 1080)])
    assert decision.watermark == 1190 * SECOND
    assert dead(decision) == [("a", "late_feedback")]


def test_a_label_without_an_event_is_an_orphan_once_the_watermark_has_passed(ledger):
    ledger.enter(0, [event("z", 1000)], [label("a", 1000), label("z", 1000)])
    assert dead(ledger.enter(1, [event("y", 1020)], [label("y", 1020)])) == []
    # The newest rows let the watermark pass, and no batch need come after them.
    decision = ledger.enter(2, [event("x", 1021)], [label("x", 1021)])
    assert (decision.watermark, dead(decision)) == (1010 * SECOND, [("a", "orphan_feedback")])
    assert decision.pending == 0


def test_a_batch_of_older_rows_does_not_move_the_watermark_back(ledger):
    ledger.enter(0, [event("z", 1200)], [label("z", 1200)])
    ledger.enter(1, [event("y", 1191)], [label("y", 1191)])
    assert ledger.enter(2, [], []).watermark == 1190 * SECOND


def test_a_label_says_for_which_setting_it_was_dropped(ledger):
    ledger.enter(0, [event("a", 1000), event("early", 1000), event("z", 1200)], [label("z", 1100)])
    # The watermark is 1140: events are 100 ahead of labels, of which 50 are waited for.
    labels = [
        label("behind", 1139),
        label("astray", 1089),
        label("early", 1200),
        label("a", 1101),
        label("never", 1090),
    ]
    decision = ledger.enter(1, [event("late", 1139)], labels)
    options = {row.id: (row.reason, row.option) for row in decision.dead}
    assert options == {
        "behind": ("late_feedback", "max_lag"),
        "astray": ("late_feedback", "lateness"),
        "early": ("late_feedback", "label_timeout"),
        "a": ("late_feedback", "max_lag"),
        "never": ("late_feedback", "max_lag"),
    }
    assert decision.dropped_by == {"label_timeout": 1, "lateness": 1, "max_lag": 3}
    decision = ledger.enter(2, [], [label("late", 1195)])
    assert [row.option for row in decision.dead] == ["max_lag"]


def test_an_orphan_is_dropped_for_a_setting_only_where_one_gave_it_up(ledger):
    ledger.enter(0, [event("z", 1000)], [label("z", 1000), label("never", 1000)])
    decision = ledger.enter(1, [event("y", 1100)], [label("y", 1100)])
    assert [(row.id, row.option) for row in decision.dead] == [("never", None)]
    ledger.enter(2, [], [label("waits", 1100)])
    decision = ledger.enter(3, [], [label("x", 1171)])
    assert [(row.id, row.option) for row in decision.dead] == [("waits", "max_lag")]


def test_an_orphan_keeps_its_row(ledger):
    labels = [label("a", 1000), label("z", 2000)]
    (orphan,) = ledger.enter(0, [event("z", 2000)], labels).dead
    assert orphan.row == '{"id": "a"}'


def test_an_event_from_before_the_watermark_is_not_matched(ledger):
    ledger.enter(0, [event("z", 1200)], [label("z", 1200)])
    decision = ledger.enter(1, [event("a", 1100)], [label("a", 1195)])
    assert (decision.duplicates, dead(decision)) == ([], [("a", "late_feedback")])


def test_an_idle_source_does_not_keep_labels_waiting_for_ever(ledger):
    ledger.enter(0, [], [label("a", 1000)])
    assert dead(ledger.enter(1, [], [label("b", 1070)])) == []
    assert dead(ledger.enter(2, [], [label("c", 1071)])) == [("a", "orphan_feedback")]


def test_what_is_remembered_stays_bounded_when_one_source_is_idle(ledger):
    for batch in range(200):
        ledger.enter(batch, [event(f"e{batch}", 1000 + 10 * batch)], [])
    window = RULES.max_lag + RULES.lateness - RULES.forgotten_before(0) / SECOND
    assert ledger.sizes()["events"] <= window / 10 + 2


def test_a_batch_tried_again_is_told_the_same(ledger):
    ledger.enter(0, [event("a", 1000)], [label("b", 1001)])
    events, labels = [event("b", 1000), event("a", 1000, 9)], [label("a", 1002), label("c", 1003)]
    first = ledger.enter(1, events, labels)
    assert ledger.enter(1, events, labels) == first
    assert matched(first) == [("b", 1), ("a", 1)]
    assert ledger.enter(2, [], [label("a", 1004)]).dead[0].reason == "duplicate_feedback"


def test_a_batch_tried_again_by_another_process_is_told_the_same(ledger, tmp_path):
    first = ledger.enter(0, [event("a", 1000)], [label("a", 1002), label("c", 1003)])
    again = Ledger(tmp_path / "ledger.sqlite", RULES)
    assert again.enter(0, [event("a", 1000)], [label("a", 1002), label("c", 1003)]) == first
    again.close()


def test_a_learner_that_was_overtaken_enters_nothing(ledger):
    for batch in range(5):
        ledger.enter(batch, [event(f"e{batch}", 1000)], [])
    with pytest.raises(StaleLearnerError, match="batch 2 is to be entered, but batch 4 has been"):
        ledger.enter(2, [event("late", 1000)], [])
    assert ledger.sizes()["events"] == 5


def test_a_batch_that_the_disk_refuses_is_not_entered_in_part(ledger, monkeypatch):
    def refuse(*args):
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(BatchEntry, "_enter_labels", refuse)
        with pytest.raises(StorageError, match="ledger.sqlite cannot be written: disk I/O error"):
            ledger.enter(0, [event("a", 1000)], [])
    assert ledger.sizes() == {"events": 0, "features": 0, "labels": 0}
    assert matched(ledger.enter(0, [event("a", 1000)], [label("a", 1001)])) == [("a", 1)]


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(DamagedFileError, match=r"ledger.sqlite is damaged: file is not a database"):
        Ledger(tmp_path / "ledger.sqlite", RULES)


def test_the_class_served_is_remembered_with_the_event(ledger):
    ledger.enter(0, [event("a", 1000), event("b", 1000)], [])
    ledger.record_served({"a": 1, "b": 0})
    assert ledger.served(["a", "b", "nobody"]) == {"a": 1, "b": 0}


@pytest.mark.parametrize("seed", range(5))
def test_every_label_is_accounted_for_however_the_rows_are_cut(seed, tmp_path):
    """Learned, dead and pending add up to what came, and nothing is learned twice."""
    rng = random.Random(seed)
    rows: list[Event | Label] = []
    for number in range(400):
        start = 1000 + number
        rows += [event(f"e{number}", start, number)] * rng.choice([1, 1, 1, 2, 0])
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            delay = rng.uniform(-15, 160)
            rows.append(label(f"e{number}", start + delay, rng.choice([0, 1, 1]), len(rows)))
    rows.sort(key=lambda row: row.time + rng.uniform(0, 12) * SECOND)
    ledger = Ledger(tmp_path / "ledger.sqlite", RULES)
    learned, died, place, batch = [], 0, 0, 0
    while place < len(rows):
        size = rng.randrange(1, 80)
        part, place = rows[place : place + size], place + size
        decision = ledger.enter(
            batch,
            [row for row in part if isinstance(row, Event)],
            [row for row in part if isinstance(row, Label)],
        )
        learned += [match.id for match in decision.matches]
        died += len(decision.dead)
        batch += 1
    came = sum(isinstance(row, Label) for row in rows)
    assert len(learned) == len(set(learned))
    assert len(learned) + died + decision.pending == came
    ledger.close()
