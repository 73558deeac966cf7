"""Waiting for a Redis that is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from app.errors import RegistryUnavailableError

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0

T = TypeVar("T")


class OutageRetry:
    """Repeats what Redis could not do, for a while.

    Parameters
    ----------
    seconds
        How long one outage may last, from the first call that failed.
    warn
        Called with a message when an outage begins, and when it ends.
    """

    def __init__(self, seconds: float, warn: Callable[[str], None]) -> None:
        self._seconds = seconds
        self._warn = warn

    def __call__(self, action: Callable[[], T]) -> T:
        """Return what ``action`` returns. It may be called several times.

        Raises
        ------
        RegistryUnavailableError
            When the outage outlasts ``seconds``.
        """
        began: float | None = None
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = action()
            except RegistryUnavailableError as error:
                now = time.monotonic()
                if began is None:
                    began = now
                    self._warn(f"waiting up to {self._seconds:g} s: {error}")
                elif now - began > self._seconds:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                if began is not None:
                    self._warn(f"Redis is back after {time.monotonic() - began:.1f} s")
                return result
