"""When a label and an event belong together, and when either is too old to wait for.

Times are microseconds since 1970, as Spark keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.contract import LATE_FEEDBACK, ORPHAN_FEEDBACK

SECOND = 1_000_000

# Spark's watermark counts in milliseconds: a row on the edge must not be dropped by it.
_MARGIN = SECOND


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

    def watermark(self, newest_event: int | None, newest_feedback: int | None) -> int | None:
        """Return the time before which no more rows are waited for, None before the first row.

        The slower source decides, so that a backlog is read without loss; but one that
        is idle, or lags by more than ``max_lag``, holds the watermark back by no more
        than that, so that what is kept for it stays bounded.

        Examples
        --------
        >>> window = JoinWindow(label_timeout=3600, lateness=10, max_lag=100)
        >>> window.watermark(500 * SECOND, 480 * SECOND) // SECOND
        470
        >>> window.watermark(500 * SECOND, None) // SECOND
        390
        """
        times = [time for time in (newest_event, newest_feedback) if time is not None]
        if not times:
            return None
        furthest = max(times) - round(self.max_lag * SECOND)
        slower = min(times) if len(times) == 2 else furthest
        return max(slower, furthest) - round(self.lateness * SECOND)

    def fault(self, event_time: int, feedback_time: int) -> str | None:
        """Return why a label does not belong to the event of its id, or None when it does.

        A clock that is ahead may give a label a little before its event.
        """
        delay = feedback_time - event_time
        if delay > round(self.label_timeout * SECOND):
            return LATE_FEEDBACK
        if delay < -round(self.lateness * SECOND):
            return ORPHAN_FEEDBACK
        return None

    def orphaned_before(self, watermark: int) -> int:
        """Return the time before which no event that a label could belong to is waited for."""
        return watermark - round(self.lateness * SECOND)

    def unmatched_before(self, watermark: int) -> int:
        """Return the time before which no event is wanted by a label that is yet to come."""
        return watermark - round(self.label_timeout * SECOND)

    @property
    def spark_delay(self) -> int:
        """How far Spark's watermark is behind the newest row of either source.

        It is never ahead of :meth:`watermark`: Spark still joins all that is waited for.
        """
        return round((self.max_lag + self.lateness) * SECOND) + _MARGIN

    @property
    def remembered(self) -> int:
        """How far behind the watermark an id is remembered.

        Long enough after its event's features were dropped to distinguish a label that came too
        late, or twice, from one that never had an event.
        """
        return round((2 * self.label_timeout + self.lateness) * SECOND)
