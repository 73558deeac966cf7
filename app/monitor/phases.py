"""Where the time of a run goes, phase by phase, with nothing counted twice and nothing left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

PHASES = ("start_up", "read", "score", "write", "wait", "publish", "log", "between", "end")
"""In order: before the first batch; a batch's rows read and validated; scored; predictions, dead
letters and labelled rows written; waiting for the learner, when all that was done; published;
logged; between two batches, when Spark commits one and plans the next; after the last batch."""


class PhaseTimer:
    """A watch whose phases add up to the time since it was started.

    Parameters
    ----------
    clock
        Returns seconds; only differences are used.

    Attributes
    ----------
    seconds
        The time of each phase that has ended at least once.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._last = clock()

    def end(self, phase: str) -> None:
        """Add the time since the last end of any phase to this one."""
        now = self._clock()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


def in_order(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the phases that took time, in their order, rounded to milliseconds."""
    return {phase: round(seconds[phase], 3) for phase in PHASES if phase in seconds}
