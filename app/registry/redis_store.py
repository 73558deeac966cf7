"""The version record in Redis: which version of a model is current.

Every key of a model carries ``{model}``, so that a cluster keeps them in one
slot and one script may touch them all.

==============================  =======  ========================================
key                             type     holds
==============================  =======  ========================================
``hbp:{model}:head``            hash     the fields of a ``ModelVersion``, its checksum,
                                         and ``store``, the snapshot directory
``hbp:{model}:epoch:<query>``   string   the fence of that query's learners
``hbp:{model}:state:<version>`` string   a state in safetensors, the newest three
``hbp:{model}:versions``        channel  announces each version as it is published
==============================  =======  ========================================

The name of the first key, ``head``, is part of the format.

Scripts compare what they find as text, with what was found when it was decided what to do
about it; only Python takes it for a number. A key of another type is damage like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis.exceptions import ResponseError

from app.errors import DamagedRecordError, VersionConflictError
from app.redis_io.client import Server, as_text
from app.registry.version import ModelVersion, damaged_record, whole_number

KEPT_STATES = 3
"""States that Redis keeps: the current one, and two that a slow reader may still want."""

LEARNER_TIMEOUT_SECONDS = 10.0
READER_TIMEOUT_SECONDS = 2.0

_MOST_EPOCH_DIGITS = 17


@dataclass(frozen=True)
class Head:
    """What Redis held as the version record at one moment.

    Attributes
    ----------
    place
        For messages.
    fields
        Of the hash, none when there is no key; None when it is no hash.
    """

    place: str
    fields: Mapping[bytes, bytes] | None

    def record(self) -> ModelVersion | None:
        """Return the record, or None when there is none.

        Raises
        ------
        DamagedRecordError
            When it is not a whole and unaltered record.
        NewerFormatError
            When a newer release wrote it.
        """
        if self.fields is None:
            raise damaged_record(self.place, "it is a key of another type")
        if not self.fields:
            return None
        texts = {as_text(name): as_text(value) for name, value in self.fields.items()}
        return ModelVersion.from_fields(texts, self.place)

    @property
    def version(self) -> int:
        """The version that it names, 0 when it names none."""
        return whole_number((self.fields or {}).get(b"version", b"")) or 0

    @property
    def mark(self) -> list[bytes]:
        """What a script must find to replace it."""
        if self.fields is None:
            return [b"other", b""]
        return [_shown(self.fields.get(name)) for name in (b"version", b"commit")]


NOTHING = Head("", {})
"""A Redis that holds no version record."""


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

    # What is found is shown as text: '=' and a value, nothing for none, 'other' for a key of
    # another type. What else goes wrong ends the script.
    _FUNCTIONS = """
        local function is_other(reply)
            local failed = type(reply) == 'table' and reply.err
            return failed and string.find(failed, 'WRONGTYPE', 1, true)
        end
        local function shown(value) return value and '=' .. value or '' end
    """

    # Of KEYS[1], the version record.
    _FIND_HEAD = """
        local found = redis.pcall('HMGET', KEYS[1], 'version', 'commit')
        local version, commit = 'other', ''
        if not is_other(found) then
            if found.err then return found end
            version, commit = shown(found[1]), shown(found[2])
        end
    """

    # KEYS[1] version record, KEYS[2] epoch of the query, KEYS[3] state to write,
    # KEYS[4] state to drop
    # ARGV[1] version expected, ARGV[2] commit expected, ARGV[3] commit to publish,
    # ARGV[4] epoch held, empty when there is no query, ARGV[5] state bytes, ARGV[6] channel,
    # ARGV[7..] field, value, field, value of the new version record, in place of all fields there
    # Returns 1 published, now or by an earlier call whose reply was lost;
    # -1 another version is current; -2 the epoch is another.
    _PUBLISH = f"""{_FUNCTIONS}{_FIND_HEAD}
        if commit == '=' .. ARGV[3] then return 1 end
        if version ~= '=' .. ARGV[1] or commit ~= '=' .. ARGV[2] then return -1 end
        if ARGV[4] ~= '' then
            local epoch = redis.pcall('GET', KEYS[2])
            if type(epoch) == 'table' and not is_other(epoch) then return epoch end
            if epoch ~= ARGV[4] then return -2 end
        end
        redis.call('SET', KEYS[3], ARGV[5])
        redis.call('DEL', KEYS[4])
        local fields = {{}}
        for i = 7, #ARGV do fields[#fields + 1] = ARGV[i] end
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[1], unpack(fields))
        redis.call('PUBLISH', ARGV[6], redis.call('HGET', KEYS[1], 'version'))
        return 1
    """

    # KEYS[1] version record, KEYS[2] state to write, KEYS[3..] states to drop
    # ARGV[1] version and ARGV[2] commit to replace, both as shown, ARGV[3] version to restore,
    # ARGV[4] state bytes, ARGV[5] channel,
    # ARGV[6..] field, value, field, value of the version record, in place of all fields there
    # Returns 1 restored; 0 what is there is no longer what was to be replaced.
    _RESTORE = f"""{_FUNCTIONS}{_FIND_HEAD}
        if version ~= ARGV[1] or commit ~= ARGV[2] then return 0 end
        for i = 3, #KEYS do redis.call('DEL', KEYS[i]) end
        redis.call('SET', KEYS[2], ARGV[4])
        local fields = {{}}
        for i = 6, #ARGV do fields[#fields + 1] = ARGV[i] end
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[1], unpack(fields))
        redis.call('PUBLISH', ARGV[5], ARGV[3])
        return 1
    """

    # KEYS[1] epoch of the query; ARGV[1] the one to replace, as shown, ARGV[2] the one to set.
    # Returns 1 set; 0 what is there is no longer what was to be replaced.
    _REPLACE_EPOCH = f"""{_FUNCTIONS}
        local found = redis.pcall('GET', KEYS[1])
        local epoch = 'other'
        if not is_other(found) then
            if type(found) == 'table' then return found end
            epoch = shown(found)
        end
        if epoch ~= ARGV[1] then return 0 end
        redis.call('SET', KEYS[1], ARGV[2])
        return 1
    """

    def __init__(self, url: str, model: str, timeout: float = LEARNER_TIMEOUT_SECONDS) -> None:
        self.model = model
        self._current, self._versions = self._key("head"), self._key("versions")
        self._server = Server(url, timeout)
        self._redis, self._call = self._server.client, self._server.call
        self._publish = self._redis.register_script(self._PUBLISH)
        self._restore = self._redis.register_script(self._RESTORE)
        self._replace_epoch = self._redis.register_script(self._REPLACE_EPOCH)

    def look(self) -> Head:
        """Return what there is as the version record."""
        try:
            fields = self._ask(lambda: self._redis.hgetall(self._current), self._current)
        except DamagedRecordError:
            fields = None
        return Head(f"Redis key {self._current}", fields)

    def read(self) -> ModelVersion | None:
        """Return the version record, or None when Redis holds none.

        Raises as :meth:`Head.record` does.
        """
        return self.look().record()

    def read_current(self) -> tuple[int, str] | None:
        """Return version and commit, or None when Redis holds none: one short round trip.

        Raises
        ------
        DamagedRecordError
            When they are malformed, or one is missing.
        """
        names = ["version", "commit"]
        found = self._ask(lambda: self._redis.hmget(self._current, names), self._current)
        if found == [None, None]:
            return None
        try:
            version, commit = whole_number(found[0] or b""), found[1].decode()
            if version is not None:
                return version, commit
        except (ValueError, AttributeError):
            pass
        reason = "its version and commit are {!r:.80} and {!r:.80}".format(*found)
        raise damaged_record(f"Redis key {self._current}", reason)

    def read_snapshot_directory(self) -> str | None:
        """Return the snapshot directory of the model's learners, or None when Redis names none."""
        found = (self.look().fields or {}).get(b"store")
        directory = None if found is None else as_text(found)
        usable = directory and "\0" not in directory and Path(directory).is_absolute()
        return directory if usable else None

    def read_state(self, version: int) -> bytes | None:
        """Return the bytes of a version's state, or None when Redis no longer keeps it."""
        key = self._state(version)
        try:
            return cast("bytes | None", self._ask(lambda: self._redis.get(key), key))
        except DamagedRecordError:
            return None

    def read_epoch(self, query: str) -> int:
        """Return the epoch that Redis holds for a query, 0 when it holds none.

        It is a hint: the files decide.
        """
        epoch = self.find_epoch(query).removeprefix(b"=")
        return 0 if len(epoch) > _MOST_EPOCH_DIGITS else whole_number(epoch) or 0

    def find_epoch(self, query: str) -> bytes:
        """Return what there is as a query's epoch, for :meth:`replace_epoch`."""
        key = self._epoch(query)
        try:
            return _shown(self._ask(lambda: self._redis.get(key), key))
        except DamagedRecordError:
            return b"other"

    def replace_epoch(self, query: str, found: bytes, epoch: int) -> bool:
        """Set a query's epoch unless there is no longer what was found; return whether it was."""
        keys = [self._epoch(query)]
        return bool(self._call(lambda: self._replace_epoch(keys=keys, args=[found, epoch])) == 1)

    def restore(
        self, record: ModelVersion, state: bytes, directory: str, over: Head = NOTHING
    ) -> bool:
        """Put a record and its state in place of what was found.

        Parameters
        ----------
        record
        state
            In safetensors.
        directory
            Where the snapshots are.
        over
            What is to be replaced.

        Returns
        -------
        bool
            False when Redis holds something else by now, which stays.
        """
        # Those about the version that Redis is at, too: no publish would ever drop them.
        dropped = (_near(record.version) | _near(over.version)) - {record.version}
        keys = [self._current, *map(self._state, (record.version, *dropped))]
        args: list[str | int | bytes] = [*over.mark, record.version, state, self._versions]
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

    def _ask(self, command: Callable[[], Any], key: str) -> Any:
        """Return what a reading command returns.

        Raises
        ------
        DamagedRecordError
            When the key is of another type.
        """

        def ask() -> Any:
            try:
                return command()
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                raise damaged_record(f"Redis key {key}", "it is a key of another type") from error

        return self._call(ask)

    def _epoch(self, query: str) -> str:
        return self._key(f"epoch:{query}")

    def _state(self, version: int) -> str:
        return self._key(f"state:{version}")

    def _key(self, suffix: str) -> str:
        return f"hbp:{{{self.model}}}:{suffix}"


def _shown(value: bytes | None) -> bytes:
    return b"" if value is None else b"=" + value


def _near(version: int) -> set[int]:
    """Return the versions whose states may be kept when ``version`` is about the current one."""
    return set(range(max(0, version - KEPT_STATES), version + KEPT_STATES + 1))


def _flat(fields: dict[str, str]) -> list[str]:
    return [part for pair in fields.items() for part in pair]
