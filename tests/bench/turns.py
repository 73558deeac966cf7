"""Calls that are timed by turns, on one core: each ratio is of one time and one machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import numpy as np


def keep_to_one_core() -> None:
    """Keep this process to one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def by_turns(calls: Sequence[Callable[[], object]], rounds: int) -> np.ndarray:
    """Return each call's time in seconds, shape (rounds, n_calls); a first round is not timed."""
    for call in calls:
        call()
    times = np.empty((rounds, len(calls)))
    for turn in times:
        for place, call in enumerate(calls):
            started = time.perf_counter()
            call()
            turn[place] = time.perf_counter() - started
    return times
