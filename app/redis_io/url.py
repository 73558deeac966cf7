"""Redis URLs: checked early, and never shown with their password."""

from __future__ import annotations

from urllib.parse import urlsplit

import redis

from app.errors import InvalidParameterError

SCHEMES = ("redis://", "rediss://", "unix://")


def without_password(url: str) -> str:
    """Return the URL as it may be shown in a message.

    Examples
    --------
    >>> without_password("redis://learner:secret@cache:6380/1")
    'redis://cache:6380/1'
    """
    scheme, separator, rest = url.partition("://")
    # By hand: a password that was not escaped makes a URL that no parser takes apart.
    shown = rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
    return scheme + separator + shown


def has_password(url: str) -> bool:
    """Return whether a URL holds a password, in front of the host or as an option.

    Examples
    --------
    >>> has_password("redis://cache:6380/1"), has_password("redis://learner:secret@cache/1")
    (False, True)
    """
    rest = url.partition("://")[2]
    credentials, at, _ = rest.rpartition("@")
    return bool(at and ":" in credentials) or "password=" in rest


def check_redis_url(url: str, name: str = "redis_url") -> None:
    """Raise InvalidParameterError of ``name`` unless ``url`` is one that the Redis client takes."""
    try:
        parts = urlsplit(url)
        usable = url.startswith(SCHEMES) and (parts.hostname or parts.scheme == "unix")
        # A password's own "/", "?" or "#" ends the host, and the rest would be shown as one.
        usable = usable and "@" not in parts.path + parts.query + parts.fragment
        # Both raise when there is no such port, or no such host name.
        _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable:
        raise InvalidParameterError(
            name,
            "must look like redis://[user:password@]host[:port][/db], rediss://… or unix://…, with "
            "the special characters of a password percent-encoded",
        )
    try:
        # Not connected yet, but made of the URL's options: an unknown one is refused here.
        redis.Redis.from_url(url).connection_pool.make_connection()
    except (TypeError, ValueError, redis.RedisError) as error:
        raise InvalidParameterError(
            name, f"has an option that the client does not take: {error}"
        ) from error
