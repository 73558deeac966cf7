"""Redis URLs: checked early, and never shown with their password."""

from __future__ import annotations

from urllib.parse import urlsplit

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


def check_redis_url(url: str) -> None:
    """Raise InvalidParameterError unless ``url`` is one that the Redis client takes."""
    try:
        parts = urlsplit(url)
        usable = url.startswith(SCHEMES) and (parts.hostname or parts.scheme == "unix")
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise InvalidParameterError(
            "redis_url",
            "must look like redis://[user:password@]host[:port][/db], rediss://… or unix://…",
        )
