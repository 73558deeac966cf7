"""The phases of a run add up to its time."""

from __future__ import annotations

from app.monitor.phases import PhaseTimer, in_order


def test_phases_add_up_to_the_time_since_the_start():
    times = iter([10.0, 11.0, 13.5, 14.0])
    timer = PhaseTimer(lambda: next(times))
    for phase in ("read", "score", "read"):
        timer.end(phase)
    assert timer.seconds == {"read": 1.5, "score": 2.5}
    assert sum(timer.seconds.values()) == 4.0


def test_phases_come_in_their_order_without_what_overlaps_them():
    seconds = {"between": 0.25, "learn": 9.0, "start_up": 1.00049, "score": 2.0}
    assert list(in_order(seconds).items()) == [("start_up", 1.0), ("score", 2.0), ("between", 0.25)]
