"""Features are there for as long as a label may come, or a batch be tried again."""

from __future__ import annotations

import pytest

from app.streaming.feedback.decision import Event
from app.streaming.feedback.join_window import JoinWindow
from tests.unit.streaming.feedback.entries import (
    RULES,
    Ledger,
    dead,
    event,
    features_of,
    label,
    matched,
)


def without_features(name: str, time: float, sequence: int = 0) -> Event:
    return event(name, time, sequence)._replace(features=None)


def test_features_wait_for_a_label_no_longer_than_one_may_come(ledger):
    ledger.enter(0, [event("a", 1000), event("b", 1001)], [])
    # The watermark is 1100 and holds for the next batch.
    ledger.enter(1, [event("z", 1110)], [label("z", 1110)])
    ledger.enter(2, [event("y", 1111)], [label("y", 1111)])
    assert matched(ledger.enter(3, [], [label("b", 1101)])) == [("b", 1)]
    ledger.enter(4, [event("x", 1112)], [label("x", 1112)])
    ledger.enter(5, [], [])
    # Those of a and b are dropped together; z, y and x wait, and x may be learned again.
    assert ledger.sizes()["features"] == 4


def test_features_of_a_batch_stay_as_long_as_it_may_be_tried_again(ledger):
    events = [event("a", 1000), event("b", 1000), event("z", 9000)]
    first = ledger.enter(0, events, [label("a", 1005), label("z", 9000)])
    # The watermark has passed them.
    ledger.enter(1, [], [])
    assert ledger.features(first.matches) == [features_of("a", 1000), features_of("z", 9000)]
    assert ledger.enter(0, [], []) == first
    ledger.enter(2, [], [])
    # In the block, where z waits.
    assert ledger.sizes()["features"] == 3


def test_features_of_an_event_that_no_label_can_meet_are_not_kept(ledger):
    ledger.enter(0, [event("z", 1200)], [label("z", 1200)])
    ledger.enter(1, [event("late", 1189), event("timely", 1190)], [])
    # And those of z, which is learned, once more.
    assert ledger.sizes()["features"] == 3


def test_features_are_found_in_whichever_block_they_are(ledger):
    events = [event(f"e{i}", 1000 + i / 1000, i) for i in range(9000)]
    chosen = [0, 1, 2729, 2730, 2731, 5460, 8999]
    ledger.enter(0, events[:8000], [])
    # Of both batches, and of one id twice.
    labels = [label(f"e{i}", 1000 + i / 1000 + 1) for i in chosen]
    decision = ledger.enter(1, [events[7999], *events[8000:], events[8500]], labels)
    assert [match.event_sequence for match in decision.matches] == chosen
    assert ledger.features(decision.matches) == [events[i].features for i in chosen]
    assert sorted(decision.duplicates) == [7999, 8500]


def test_the_first_event_of_an_id_is_the_one_whose_features_count(ledger):
    ledger.enter(0, [event("a", 1000, 1)], [])
    decision = ledger.enter(1, [event("a", 1001, 2)], [label("a", 1005)])
    assert ledger.features(decision.matches) == [features_of("a", 1000)]


def test_what_is_kept_stays_bounded_when_no_label_comes(ledger):
    for batch in range(200):
        ledger.enter(batch, [event(f"e{batch}", 1000 + 10 * batch)], [])
    window = RULES.max_lag + RULES.lateness + RULES.label_timeout
    assert ledger.sizes()["features"] <= window / 10 + 2


@pytest.mark.parametrize("sequence", [2, 0], ids=["numbered on", "a topic that was made again"])
def test_an_id_that_comes_again_has_the_features_of_its_new_event(path, sequence):
    """The clean-up of a batch comes batches later, and the id may be another event's by then."""
    ledger = Ledger(path, JoinWindow(label_timeout=60, lateness=0, max_lag=60))
    ledger.enter(0, [event("x", 0, 0)], [])
    ledger.enter(1, [], [label("x", 0)])
    ledger.enter(2, [event("f", 1000, 1)], [label("f", 1000)])
    ledger.enter(3, [event("x", 1001, sequence)], [])
    decision = ledger.enter(4, [], [label("x", 1002)])
    assert matched(decision) == [("x", 1)]
    assert ledger.features(decision.matches) == [features_of("x", 1001)]
    ledger.close()


def test_a_label_whose_features_spark_has_not_joined_is_a_dead_letter(ledger):
    """As of an event before 1970, which an old checkpoint of Spark's has dropped."""
    events = [without_features("a", -3600, 1), without_features("b", 5, 2)]
    labels = [label("a", -3599), label("b", 6)]
    joined = {("b", 2): b"features of b"}
    first = ledger.enter(0, events, labels, joined=joined)
    assert (matched(first), dead(first)) == ([("b", 1)], [("a", "late_feedback")])
    assert ledger.enter(0, events, labels, joined=joined) == first


def test_what_spark_has_joined_is_kept_for_the_next_try_of_a_batch(ledger):
    """Rows may have gone by then, and with them what Spark joins."""
    ledger.enter(0, [without_features("a", 1000, 7)], [])
    first = ledger.enter(1, [], [label("a", 1001)], joined={("a", 7): b"a"})
    assert ledger.enter(1, [], [], joined={}) == first
    assert ledger.features(first.matches) == [b"a"]


def test_an_event_that_was_learned_is_not_joined_again(ledger):
    ledger.enter(0, [without_features("a", 1000, 7)], [label("a", 1001)], joined={("a", 7): b"a"})
    decision = ledger.enter(1, [], [label("a", 1002)], joined={("a", 7): b"a"})
    assert (matched(decision), dead(decision)) == ([], [("a", "duplicate_feedback")])
