"""When labels and events are waited for, and no longer."""

from __future__ import annotations

import pytest

from app.contract import LATE_FEEDBACK, ORPHAN_FEEDBACK
from app.streaming.feedback.join_window import SECOND, JoinWindow
from tests.unit.streaming.feedback.entries import RULES


def seconds(value: float | None) -> int | None:
    return None if value is None else round(value * SECOND)


@pytest.mark.parametrize(
    ("event", "feedback", "watermark"),
    [
        (None, None, None),
        (1000, 1000, 990),
        (1000, 980, 970),
        (980, 1000, 970),
        # More than the lag allowed behind: the slower one is no longer waited for.
        (1000, 900, 940),
        (900, 1000, 940),
        # One that never sent a row holds the watermark back by the lag alone.
        (1000, None, 940),
        (None, 1000, 940),
    ],
)
def test_the_slower_source_holds_the_watermark_back_but_not_for_ever(event, feedback, watermark):
    assert RULES.watermark(seconds(event), seconds(feedback)) == seconds(watermark)


@pytest.mark.parametrize(
    ("delay", "fault"),
    [
        (0, None),
        (100, None),
        (100.000001, (LATE_FEEDBACK, "label_timeout")),
        (-10, None),
        (-10.000001, (ORPHAN_FEEDBACK, "lateness")),
    ],
)
def test_a_label_belongs_to_an_event_within_the_bounds(delay, fault):
    assert RULES.fault(seconds(1000), seconds(1000 + delay)) == fault


@pytest.mark.parametrize("event", [None, 0, 900, 1000])
@pytest.mark.parametrize("feedback", [None, 0, 900, 1000])
def test_spark_never_drops_what_is_still_waited_for(event, feedback):
    """Its watermark follows the newest row of either source, less the delay it is given."""
    known = [time for time in (event, feedback) if time is not None]
    if known:
        spark = seconds(max(known)) - RULES.spark_delay
        assert spark < RULES.watermark(seconds(event), seconds(feedback))


def test_an_id_is_remembered_until_every_label_that_is_too_late_by_no_more_than_again_has_come():
    event = 1000.0
    last = event + 2 * RULES.label_timeout
    # When this label comes the watermark may be at its time at most.
    assert seconds(event) >= RULES.forgotten_before(seconds(last))


@pytest.mark.parametrize(
    ("unread", "watermark"), [(None, 940), (2000, 940), (950, 940), (900, 890), (0, -10)]
)
def test_a_row_that_is_known_to_be_unread_is_waited_for(unread, watermark):
    assert RULES.watermark(seconds(1000), None, seconds(unread)) == seconds(watermark)


@pytest.mark.parametrize(
    ("time", "event", "feedback", "setting"),
    [
        (900, 1000, 910, "max_lag"),
        (899, 1000, 910, "lateness"),
        (900, 910, 1000, "max_lag"),
        (0, 1000, None, "max_lag"),
    ],
)
def test_the_setting_is_named_that_a_row_came_too_late_by(time, event, feedback, setting):
    assert RULES.passed_by(seconds(time), seconds(event), seconds(feedback)) == setting


@pytest.mark.parametrize("forever", [1e15, 1e300])
def test_times_without_end_are_as_long_as_any_two_times_are_apart(forever):
    window = JoinWindow(label_timeout=forever, lateness=forever, max_lag=forever)
    oldest, newest = seconds(-62_135_596_800), seconds(253_402_300_799)
    assert window.fault(oldest, newest) is None
    assert window.watermark(newest, newest) < oldest
    assert -(2**63) <= window.forgotten_before(-(2**63)) < window.orphaned_before(newest)
    assert window.spark_delay < 2**63
