"""The version record in Redis: which version of a model is current.

Every key of a model carries ``{model}``, so that a cluster keeps them in one
slot and one script may touch them all.

==============================  =======  ========================================
key                             type     holds
==============================  =======  ========================================
``hbp:{model}:head``            hash     the fields of a ``ModelVersion``, its checksum,
                                         and ``store``, the snapshot directory
``hbp:{model}:epoch:<query>``   integer  the fence of that query's learners
``hbp:{model}:state:<version>`` string   a state in safetensors, the newest three
``hbp:{model}:versions``        channel  announces each version as it is published
==============================  =======  ========================================

The name of the first key, ``head``, is part of the format.
"""

from __future__ import annotations

from typing import Any, cast

from app.errors import DamagedRecordError, VersionConflictError
from app.redis_io.client import Server, as_text
from app.registry.version import ModelVersion, damaged_record

KEPT_STATES = 3
"""States that Redis keeps: the current one, and two that a slow reader may still want."""

LEARNER_TIMEOUT_SECONDS = 10.0
READER_TIMEOUT_SECONDS = 2.0


class RedisVersionStore:
    """One model's version record, states and epochs in Redis.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    model
        Name of the model.
    timeout
        Seconds to wait for a connection, and for a reply.

    Raises
    ------
    RegistryUnavailableError
        From every method, while Redis cannot be reached, or cannot serve for a reason
        that passes: loading, failing over, out of memory.
    """

    # KEYS[1] version record, KEYS[2] epoch of the query, KEYS[3] state to write,
    # KEYS[4] state to drop
    # ARGV[1] version expected, ARGV[2] commit expected, ARGV[3] commit to publish,
    # ARGV[4] epoch held, empty when there is no query, ARGV[5] state bytes, ARGV[6] channel,
    # ARGV[7..] field, value, field, value of the new version record, in place of all fields there
    # Returns 1 published, now or by an earlier call whose reply was lost;
    # -1 another version is current; -2 the epoch is another.
    _PUBLISH = """
        local commit = redis.call('HGET', KEYS[1], 'commit')
        if commit == ARGV[3] then return 1 end
        local version = redis.call('HGET', KEYS[1], 'version')
        if version ~= ARGV[1] or commit ~= ARGV[2] then return -1 end
        if ARGV[4] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[4] then return -2 end
        redis.call('SET', KEYS[3], ARGV[5])
        redis.call('DEL', KEYS[4])
        local fields = {}
        for i = 7, #ARGV do fields[#fields + 1] = ARGV[i] end
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[1], unpack(fields))
        redis.call('PUBLISH', ARGV[6], redis.call('HGET', KEYS[1], 'version'))
        return 1
    """

    # KEYS[1] version record, KEYS[2] state to write, KEYS[3..] states to drop
    # ARGV[1] version to restore, ARGV[2] state bytes, ARGV[3] channel,
    # ARGV[4] 1 to restore over a later version,
    # ARGV[5..] field, value, field, value of the version record, in place of all fields there
    # Returns 1 restored; 0 a later version is current, and stays.
    _RESTORE = """
        local live = tonumber(redis.call('HGET', KEYS[1], 'version') or '')
        if ARGV[4] ~= '1' and live and live > tonumber(ARGV[1]) then return 0 end
        for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
        redis.call('SET', KEYS[2], ARGV[2])
        local fields = {}
        for i = 5, #ARGV do fields[#fields + 1] = ARGV[i] end
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[1], unpack(fields))
        redis.call('PUBLISH', ARGV[3], ARGV[1])
        return 1
    """

    # KEYS[1] epoch of the query; ARGV[1] an epoch that has been given out.
    # Returns the larger of the two, which stays.
    _RAISE_EPOCH = """
        local known = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^%d+$') or 0)
        local epoch = math.max(known, tonumber(ARGV[1]))
        redis.call('SET', KEYS[1], epoch)
        return epoch
    """

    def __init__(self, url: str, model: str, timeout: float = LEARNER_TIMEOUT_SECONDS) -> None:
        self.model = model
        self._current, self._versions = self._key("head"), self._key("versions")
        self._server = Server(url, timeout)
        self._redis, self._call = self._server.client, self._server.call
        self._publish = self._redis.register_script(self._PUBLISH)
        self._restore = self._redis.register_script(self._RESTORE)
        self._raise_epoch = self._redis.register_script(self._RAISE_EPOCH)

    def read(self) -> ModelVersion | None:
        """Return the version record, or None when Redis holds none.

        Raises
        ------
        DamagedRecordError
            When what Redis holds is not a whole and unaltered record.
        NewerFormatError
            When a newer release wrote it.
        """
        fields = self._call(lambda: self._redis.hgetall(self._current))
        if not fields:
            return None
        texts = {as_text(name): as_text(value) for name, value in fields.items()}
        return ModelVersion.from_fields(texts, f"Redis key {self._current}")

    def read_current(self) -> tuple[int, str] | None:
        """Return version and commit, or None when Redis holds none: one short round trip."""
        names = ["version", "commit"]
        found: Any = self._call(lambda: self._redis.hmget(self._current, names))
        if found == [None, None]:
            return None
        try:
            version, commit = (part.decode() for part in found)
            return int(version), commit
        except (ValueError, AttributeError) as error:
            reason = "its version and commit are {!r} and {!r}".format(*found)
            raise damaged_record(f"Redis key {self._current}", reason) from error

    def read_snapshot_directory(self) -> str | None:
        """Return the snapshot directory of the model's learners, or None when Redis holds none."""
        directory = self._call(lambda: self._redis.hget(self._current, "store"))
        return None if directory is None else as_text(directory)

    def read_state(self, version: int) -> bytes | None:
        """Return the bytes of a version's state, or None when Redis no longer keeps it."""
        return cast("bytes | None", self._call(lambda: self._redis.get(self._state(version))))

    def read_epoch(self, query: str) -> int:
        """Return the epoch of a query's newest learner, 0 when there is none."""
        epoch = self._call(lambda: self._redis.get(self._epoch(query)))
        return int(epoch) if epoch is not None and epoch.isdigit() else 0

    def raise_epoch(self, query: str, epoch: int) -> int:
        """Make sure that a query's epoch is not below one that was given out; return it."""
        keys = [self._epoch(query)]
        return int(self._call(lambda: self._raise_epoch(keys=keys, args=[epoch])))

    def restore(
        self, record: ModelVersion, state: bytes, directory: str, *, by_force: bool = False
    ) -> bool:
        """Put a record and its state in place unless Redis has a later version.

        Parameters
        ----------
        record
        state
            In safetensors.
        directory
            Where the snapshots are.
        by_force
            Also over a later version: for a record in Redis that cannot be read.

        Returns
        -------
        bool
            Whether Redis was changed.
        """
        # Those about the version that Redis is at, too: no publish would ever drop them.
        dropped = (_near(record.version) | _near(self._live_version())) - {record.version}
        keys = [self._current, *map(self._state, (record.version, *dropped))]
        args: list[str | int | bytes] = [record.version, state, self._versions, int(by_force)]
        args += _flat(record.to_fields() | {"store": directory})
        return bool(self._call(lambda: self._restore(keys=keys, args=args)) == 1)

    def publish(
        self,
        record: ModelVersion,
        state: bytes,
        directory: str,
        *,
        base: ModelVersion,
        query: str = "",
        epoch: int | None = None,
    ) -> bool:
        """Make ``record`` current in place of ``base``: the commit.

        May be called again when it is not known whether the last call arrived.

        Parameters
        ----------
        record
        state
            In safetensors.
        directory
            Where the snapshots are.
        base
        query
            Whose epoch is compared; empty for a version that no query learned.
        epoch
            The one that its learner holds.

        Returns
        -------
        bool
            False when the query's epoch in Redis is not ``epoch``; nothing was published.

        Raises
        ------
        VersionConflictError
            When ``base`` is not current.
        """
        keys = [
            self._current,
            self._epoch(query),
            self._state(record.version),
            self._state(record.version - KEPT_STATES),
        ]
        args: list[str | int | bytes] = [base.version, base.commit, record.commit]
        args += ["" if epoch is None else epoch, state, self._versions]
        args += _flat(record.to_fields() | {"store": directory})
        code = self._call(lambda: self._publish(keys=keys, args=args))
        if code == -1:
            raise VersionConflictError(
                f"model {self.model!r} is no longer at version {base.version}: another learner "
                "published first"
            )
        return bool(code == 1)

    def close(self) -> None:
        self._server.close()

    def _live_version(self) -> int:
        """Return the version that Redis is at, 0 when it does not say."""
        try:
            current = self.read_current()
        except DamagedRecordError:
            current = None
        return current[0] if current else 0

    def _epoch(self, query: str) -> str:
        return self._key(f"epoch:{query}")

    def _state(self, version: int) -> str:
        return self._key(f"state:{version}")

    def _key(self, suffix: str) -> str:
        return f"hbp:{{{self.model}}}:{suffix}"


def _near(version: int) -> set[int]:
    """Return the versions whose states may be kept when ``version`` is about the current one."""
    return set(range(max(0, version - KEPT_STATES), version + KEPT_STATES + 1))


def _flat(fields: dict[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]
