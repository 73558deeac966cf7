"""Calls to Redis, with its client's many errors as two: what passes, and what does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from app.errors import RegistryError, RegistryUnavailableError
from app.redis_io.url import check_redis_url, without_password

# Refusals that pass: a server that loads, fails over, or has no memory or disk left. The client
# has classes for some; others, and what a script met, keep the server's code in their text: at its
# start, or after a colon where Redis or the client put words of their own before it.
_PASSING = (ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
_PASSING_CODE = re.compile(
    r"(?:^|: -?)(?:OOM|READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|MISCONF|BUSY)\b"
)

T = TypeVar("T")


class Server:
    """A Redis server. Not connected before the first call.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    timeout
        Seconds to wait for a connection, and for a reply.

    Attributes
    ----------
    client
        For use in :meth:`call`. Its replies are bytes.

    Raises
    ------
    InvalidParameterError
        When the URL is none.
    """

    def __init__(self, url: str, timeout: float) -> None:
        check_redis_url(url)
        self._shown_url = without_password(url)
        self.client = redis.Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # Once, for a connection that the server has closed. Every call may be repeated.
            retry=Retry(NoBackoff(), 1),
        )

    def call(self, command: Callable[[], T]) -> T:
        """Return what ``command`` returns. It may be called several times.

        Raises
        ------
        RegistryUnavailableError
            While Redis cannot be reached, or cannot serve for a reason that passes:
            loading, failing over, out of memory.
        RegistryError
            When Redis refuses for good.
        """
        try:
            return command()
        except AuthenticationError as error:
            raise RegistryError(f"Redis at {self._shown_url} refused: {error}") from error
        except (ConnectionError, TimeoutError) as error:
            raise RegistryUnavailableError(
                f"Redis at {self._shown_url} cannot be reached: {error}"
            ) from error
        except RedisError as error:
            passes = isinstance(error, _PASSING) or _PASSING_CODE.search(str(error))
            kind = RegistryUnavailableError if passes else RegistryError
            raise kind(f"Redis at {self._shown_url} refused: {error}") from error

    def close(self) -> None:
        self.client.close()


def as_text(value: bytes | str) -> str:
    """Return what Redis holds as text, whatever its bytes are."""
    return value if isinstance(value, str) else value.decode("utf-8", errors="replace")
