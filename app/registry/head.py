"""The head record in Redis: which version of a model is current.

Every key of a model carries ``{model}``, so that a cluster keeps them in one
slot and one script may touch them all.

==============================  =======  ========================================
key                             type     holds
==============================  =======  ========================================
``hbp:{model}:head``            hash     the fields of :class:`HeadRecord`
``hbp:{model}:epoch:<query>``   integer  the fence of that query's learners
``hbp:{model}:state:<version>`` string   a state in safetensors, the newest three
``hbp:{model}:versions``        channel  announces each version as it is published
==============================  =======  ========================================
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import redis
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from app.errors import (
    InvalidParameterError,
    RegistryError,
    RegistryUnavailableError,
    StaleLearnerError,
    VersionConflictError,
)
from app.registry.url import check_redis_url, without_password

KEPT_STATES = 3
"""States that Redis keeps: the current one, and two that a slow reader may still want."""

_SOCKET_TIMEOUT_SECONDS = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class HeadRecord:
    """Which version of a model is current, and what it has learned.

    Attributes
    ----------
    version : int
        Counted from 0, +1 with each publish.
    state_sha256 : str
        Of the state, see :func:`app.model.state.state_sha256`.
    snapshot : str
        File name of the snapshot in the snapshot directory.
    published_at : str
        UTC, ISO 8601.
    applied : dict of str to int
        For each query id, the highest batch id whose rows the state has learned.
    """

    version: int
    state_sha256: str
    snapshot: str
    published_at: str
    applied: dict[str, int] = field(default_factory=dict)

    def to_fields(self) -> dict[str, str]:
        return {
            "version": str(self.version),
            "state_sha256": self.state_sha256,
            "snapshot": self.snapshot,
            "published_at": self.published_at,
            "applied": json.dumps(self.applied, sort_keys=True),
        }

    @classmethod
    def from_fields(cls, fields: dict[str, str]) -> HeadRecord:
        """Return the record held in a hash's fields.

        Raises
        ------
        RegistryError
            When a field is missing or malformed.
        """
        try:
            applied = {
                str(query): int(batch) for query, batch in json.loads(fields["applied"]).items()
            }
            return cls(
                int(fields["version"]),
                fields["state_sha256"],
                fields["snapshot"],
                fields["published_at"],
                applied,
            )
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            raise RegistryError(
                f"a head record that cannot be read: {error!r} in {fields}"
            ) from error


class HeadStore:
    """One model's head record, states and epochs in Redis.

    Parameters
    ----------
    url : str
        ``redis://``, ``rediss://`` or ``unix://``.
    model : str
        Name of the model.

    Raises
    ------
    RegistryUnavailableError
        From every method, when Redis cannot be reached.
    """

    # KEYS[1] head, KEYS[2] epoch of the query, KEYS[3] state to write, KEYS[4] state to drop
    # ARGV[1] version expected, ARGV[2] epoch held, ARGV[3] state bytes, ARGV[4] channel,
    # ARGV[5..] field, value, field, value of the new head record
    # Returns 1 published; -1 the version is another; -2 the epoch is another.
    _PUBLISH = """
        if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return -1 end
        if redis.call('GET', KEYS[2]) ~= ARGV[2] then return -2 end
        redis.call('SET', KEYS[3], ARGV[3])
        redis.call('DEL', KEYS[4])
        local fields = {}
        for i = 5, #ARGV do fields[#fields + 1] = ARGV[i] end
        redis.call('HSET', KEYS[1], unpack(fields))
        redis.call('PUBLISH', ARGV[4], redis.call('HGET', KEYS[1], 'version'))
        return 1
    """

    # KEYS[1] head, KEYS[2] state to write, KEYS[3..] states to drop
    # ARGV[1] version to restore, ARGV[2] state bytes, ARGV[3] channel,
    # ARGV[4..] field, value, field, value of the head record
    # Returns 1 restored; 0 the head is at that version or a later one, and stays.
    _RESTORE = """
        local version = redis.call('HGET', KEYS[1], 'version')
        if version and tonumber(version) >= tonumber(ARGV[1]) then return 0 end
        for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
        redis.call('SET', KEYS[2], ARGV[2])
        local fields = {}
        for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
        redis.call('HSET', KEYS[1], unpack(fields))
        redis.call('PUBLISH', ARGV[3], ARGV[1])
        return 1
    """

    # KEYS[1] epoch of the query; ARGV[1] an epoch known to have been given out;
    # ARGV[2] how much to add to the larger of the two. Returns the sum, which stays.
    _RAISE_EPOCH = """
        local known = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1]))
        redis.call('SET', KEYS[1], known + ARGV[2])
        return known + ARGV[2]
    """

    def __init__(self, url: str, model: str) -> None:
        check_redis_url(url)
        self.model = model
        self._shown_url = without_password(url)
        timeouts = ("socket_timeout", "socket_connect_timeout")
        try:
            self._redis = redis.Redis.from_url(
                url, **dict.fromkeys(timeouts, _SOCKET_TIMEOUT_SECONDS)
            )
            # Not connected yet, but made of the URL's options: an unknown one is told here.
            self._redis.connection_pool.make_connection()
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(
                "redis_url", f"has an option that the client does not take: {error}"
            ) from error
        self._publish = self._redis.register_script(self._PUBLISH)
        self._restore = self._redis.register_script(self._RESTORE)
        self._raise_epoch = self._redis.register_script(self._RAISE_EPOCH)

    def read(self) -> HeadRecord | None:
        """Return the head record, or None when Redis holds none."""
        fields = self._call(lambda: self._redis.hgetall(self._key("head")))
        if not fields:
            return None
        return HeadRecord.from_fields(
            {key.decode(): value.decode() for key, value in fields.items()}
        )

    def read_version(self) -> int | None:
        """Return the current version, or None when Redis holds none: one short round trip."""
        version = self._call(lambda: self._redis.hget(self._key("head"), "version"))
        try:
            return None if version is None else int(version)
        except ValueError as error:
            raise RegistryError(f"a head record with version {version!r}") from error

    def read_state(self, version: int) -> bytes | None:
        """Return the bytes of a version's state, or None when Redis no longer keeps it."""
        return self._call(lambda: self._redis.get(self._key(f"state:{version}")))

    def read_epoch(self, query: str) -> int:
        """Return the epoch of a query's newest learner, 0 when there is none."""
        return int(self._call(lambda: self._redis.get(self._key(f"epoch:{query}"))) or 0)

    def raise_epoch(self, query: str, at_least: int = 0) -> int:
        """Make the caller the query's only learner and return its epoch, above ``at_least``."""
        keys = [self._key(f"epoch:{query}")]
        return int(self._call(lambda: self._raise_epoch(keys=keys, args=[at_least, 1])))

    def restore_epoch(self, query: str, epoch: int) -> None:
        """Make sure that a query's epoch is not below one that was given out."""
        keys = [self._key(f"epoch:{query}")]
        self._call(lambda: self._raise_epoch(keys=keys, args=[epoch, 0]))

    def restore(self, record: HeadRecord, state: bytes) -> bool:
        """Put a record and its state in place unless Redis has that version or a later one.

        Returns
        -------
        bool
            Whether Redis was changed.
        """
        live = self.read_version() or 0
        dropped = [v for v in range(live - KEPT_STATES + 1, live + 1) if 0 <= v != record.version]
        versions = [record.version, *dropped]
        keys = [self._key("head"), *(self._key(f"state:{version}") for version in versions)]
        args = [record.version, state, self._key("versions"), *_flat(record.to_fields())]
        return self._call(lambda: self._restore(keys=keys, args=args)) == 1

    def publish(
        self, record: HeadRecord, state: bytes, *, expected: int, query: str, epoch: int
    ) -> None:
        """Move the head from version ``expected`` to ``record``: the commit.

        Raises
        ------
        VersionConflictError
            When another learner published since ``expected`` was read.
        StaleLearnerError
            When the query has a learner of a higher epoch.
        """
        keys = [
            self._key("head"),
            self._key(f"epoch:{query}"),
            self._key(f"state:{record.version}"),
            self._key(f"state:{record.version - KEPT_STATES}"),
        ]
        args = [expected, epoch, state, self._key("versions"), *_flat(record.to_fields())]
        code = self._call(lambda: self._publish(keys=keys, args=args))
        if code == -1:
            raise VersionConflictError(
                f"model {self.model!r} is at version {self.read_version()}, not {expected}: "
                "another learner published first"
            )
        if code == -2:
            raise StaleLearnerError(stale_learner_message(query, epoch, self.read_epoch(query)))

    def close(self) -> None:
        self._redis.close()

    def _key(self, suffix: str) -> str:
        return f"hbp:{{{self.model}}}:{suffix}"

    def _call(self, command: Callable[[], T]) -> T:
        try:
            return command()
        except (ConnectionError, TimeoutError) as error:
            raise RegistryUnavailableError(
                f"Redis at {self._shown_url} cannot be reached: {error}"
            ) from error
        except RedisError as error:
            raise RegistryError(f"Redis at {self._shown_url} refused: {error}") from error


def stale_learner_message(query: str, held: int, current: int) -> str:
    return (
        f"this learner of query {query} holds epoch {held}, but epoch {current} has been given "
        "out: a newer learner runs on the same checkpoint"
    )


def _flat(fields: dict[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]
