"""Losing a race, and trying again, for as long as that leads somewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from redis.backoff import FullJitterBackoff
from redis.retry import Retry

from app.errors import RegistryError, VersionConflictError

MAX_RACES = 100

# Seconds. Losers wait for different times, so that they do not meet again.
_BACKOFF = FullJitterBackoff(base=0.01, cap=1.0)

_TRIES_WITHOUT_PROGRESS = 20

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


class Tries:
    """How often Redis may be found changed in between.

    Parameters
    ----------
    model
        Its name, for the message.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._left = _TRIES_WITHOUT_PROGRESS
        self._version: int | None = None

    def again(self, version: int) -> None:
        """Take note of one more try, at which ``version`` is the newest finalized.

        Raises
        ------
        RegistryError
            After too many at one version.
        """
        if version != self._version:
            self._version, self._left = version, _TRIES_WITHOUT_PROGRESS
        self._left -= 1
        if self._left <= 0:
            raise RegistryError(
                f"the keys hbp:{{{self._model}}}:* in Redis have changed "
                f"{_TRIES_WITHOUT_PROGRESS} times while version {version} was to be put there, "
                "and no learner got on: another program writes them"
            )
