"""When a label and an event belong together, and when either is too old to wait for.

Times are microseconds since 1970, as Spark keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from app.contract import LATE_FEEDBACK, ORPHAN_FEEDBACK

SECOND = 1_000_000

LABEL_TIMEOUT, LATENESS, MAX_LAG = "label_timeout", "lateness", "max_lag"

# Spark's watermark counts in milliseconds: a row on the edge must not be dropped by it.
_MARGIN = SECOND

_EARLIEST = -(2**63)
"""What a column of integers holds at least."""

_LONGEST = 10_000 * 366 * 86_400.0
"""No two times of the years 1 to 9999 are so many seconds apart."""


class Fault(NamedTuple):
    """Why a label does not belong to the event of its id, and the setting that decides it."""

    reason: str
    option: str


@dataclass(frozen=True)
class JoinWindow:
    """How long labels and events are waited for.

    Parameters
    ----------
    label_timeout
        Seconds after its event that a label may have been given.
    lateness
        Seconds that rows of one source may be out of order.
    max_lag
        Seconds, in the rows' own time, that one source may lag behind the other.
    """

    label_timeout: float
    lateness: float
    max_lag: float

    def watermark(
        self, newest_event: int | None, newest_feedback: int | None, unread: int | None = None
    ) -> int | None:
        """Return the time before which no more rows are waited for, None before the first row.

        The slower source decides, so that a backlog is read without loss; but one that
        is idle, or lags by more than ``max_lag``, holds the watermark back by no more
        than that, so that what is kept for it stays bounded. A row that is known to be there
        and was not read yet, of time ``unread``, is waited for.

        Examples
        --------
        >>> window = JoinWindow(label_timeout=3600, lateness=10, max_lag=100)
        >>> window.watermark(500 * SECOND, 480 * SECOND) // SECOND
        470
        >>> window.watermark(500 * SECOND, None) // SECOND
        390
        >>> window.watermark(500 * SECOND, 200 * SECOND, unread=210 * SECOND) // SECOND
        200
        """
        times = [time for time in (newest_event, newest_feedback) if time is not None]
        if not times:
            return None
        furthest = max(times) - micros(self.max_lag)
        slower = min(times) if len(times) == 2 else furthest
        reached = max(slower, furthest)
        if unread is not None:
            reached = min(reached, unread)
        return _storable(reached - micros(self.lateness))

    def passed_by(self, time: int, newest_event: int | None, newest_feedback: int | None) -> str:
        """Return the setting by which the watermark has passed a row of some time.

        Had the slower source been waited for, a row no older than ``lateness`` had been in time.
        """
        if newest_event is None or newest_feedback is None:
            return MAX_LAG
        slower = min(newest_event, newest_feedback)
        return MAX_LAG if time >= slower - micros(self.lateness) else LATENESS

    def fault(self, event_time: int, feedback_time: int) -> Fault | None:
        """Return why a label does not belong to the event of its id, or None when it does.

        A clock that is ahead may give a label a little before its event.
        """
        delay = feedback_time - event_time
        if delay > micros(self.label_timeout):
            return Fault(LATE_FEEDBACK, LABEL_TIMEOUT)
        if delay < -micros(self.lateness):
            return Fault(ORPHAN_FEEDBACK, LATENESS)
        return None

    def orphaned_before(self, watermark: int) -> int:
        """Return the time before which no event that a label could belong to is waited for."""
        return _storable(watermark - micros(self.lateness))

    def unmatched_before(self, watermark: int) -> int:
        """Return the time before which no event is wanted by a label that is yet to come."""
        return _storable(watermark - micros(self.label_timeout))

    def forgotten_before(self, watermark: int) -> int:
        """Return the time before which no id is remembered.

        Long enough after its event's features were dropped to distinguish a label that came too
        late, or twice, from one that never had an event.
        """
        return _storable(watermark - 2 * micros(self.label_timeout) - micros(self.lateness))

    @property
    def spark_delay(self) -> int:
        """How far Spark's watermark is behind the newest row of either source.

        It is never ahead of :meth:`watermark`: Spark still joins all that is waited for, unless
        that is a row that was not read yet.
        """
        return micros(self.max_lag) + micros(self.lateness) + _MARGIN


def micros(seconds: float) -> int:
    """Return a span of time in microseconds, cut to one that two times may be apart.

    >>> micros(1.5), micros(1e300) == micros(1e301)
    (1500000, True)
    """
    return round(min(seconds, _LONGEST) * SECOND)


def _storable(time: int) -> int:
    return max(time, _EARLIEST)
