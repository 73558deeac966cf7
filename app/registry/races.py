"""Losing a race for a version, and trying again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from app.errors import VersionConflictError

MAX_RACES = 100

_FIRST_BACKOFF_SECONDS = 0.01
_LONGEST_BACKOFF_SECONDS = 1.0

T = TypeVar("T")


def until_won(attempt: Callable[[], T]) -> T:
    """Call ``attempt``, which reads the current version and publishes on top, until it wins.

    Raises
    ------
    VersionConflictError
        When it has lost too many races in a row.
    """
    for races in range(MAX_RACES):
        try:
            return attempt()
        except VersionConflictError as error:
            lost = error
            # Losers wait for different times, so that they do not meet again.
            longest = min(_FIRST_BACKOFF_SECONDS * 2**races, _LONGEST_BACKOFF_SECONDS)
            time.sleep(random.uniform(0, longest))
    raise VersionConflictError(f"{MAX_RACES} races in a row were lost: {lost}") from lost
