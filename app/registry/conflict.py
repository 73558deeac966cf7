"""Losing a race for a version, and trying again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redis.backoff import FullJitterBackoff
from redis.retry import Retry

from app.errors import VersionConflictError

MAX_RACES = 100

# Seconds. Losers wait for different times, so that they do not meet again.
_BACKOFF = FullJitterBackoff(base=0.01, cap=1.0)

T = TypeVar("T")


def retry_on_conflict(attempt: Callable[[], T]) -> T:
    """Call ``attempt``, which reads the current version and publishes on top, until it wins.

    Raises
    ------
    VersionConflictError
        When it has lost too many races in a row.
    """
    retry = Retry(_BACKOFF, MAX_RACES - 1, supported_errors=(VersionConflictError,))
    try:
        return retry.call_with_retry(attempt, fail=lambda error: None)
    except VersionConflictError as error:
        raise VersionConflictError(f"{MAX_RACES} races in a row were lost: {error}") from error
