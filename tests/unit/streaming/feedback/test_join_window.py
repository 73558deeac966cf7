"""When labels and events are waited for, and no longer."""

from __future__ import annotations

import pytest

from app.streaming.feedback.join_window import LATE_FEEDBACK, ORPHAN_FEEDBACK, SECOND, JoinWindow

RULES = JoinWindow(label_timeout=100, lateness=10, max_lag=50)


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
        (100.000001, LATE_FEEDBACK),
        (-10, None),
        (-10.000001, ORPHAN_FEEDBACK),
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
    assert seconds(event) >= seconds(last) - RULES.remembered
