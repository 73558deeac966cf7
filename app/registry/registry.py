"""The registry of one model: publish, load, restore and roll back, over Redis and files.

Redis says which version is current and hands it to every scorer. The directory of
snapshots, with its chain of records, outlives Redis and decides when the two differ.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.errors import (
    DamagedRecordError,
    ModelNotFoundError,
    RegistryError,
    StaleLearnerError,
    StateError,
    UserError,
    VersionConflictError,
)
from app.model.state import State, state_sha256, state_to_bytes
from app.registry.chain import VersionChain
from app.registry.head import HeadStore
from app.registry.record import HeadRecord
from app.registry.snapshots import Retention, SnapshotStore, verified_state


@dataclass(frozen=True)
class Lease:
    """The right to publish for a query, until a newer learner takes it.

    Attributes
    ----------
    query : str
        Id of the streaming query, one per checkpoint.
    epoch : int
        Fencing number.
    """

    query: str
    epoch: int


@dataclass(frozen=True)
class Staged:
    """A version that is on disk and not current yet."""

    record: HeadRecord
    data: bytes


class ModelRegistry:
    """Versions of one model.

    Every method that writes may be called again after an error, and then carries on.

    Parameters
    ----------
    heads : HeadStore
    directory : Path
        Of the snapshots and the chain: one for all learners of the model.
    retention : Retention, optional
    """

    def __init__(
        self, heads: HeadStore, directory: Path, retention: Retention | None = None
    ) -> None:
        self.heads = heads
        self.directory = directory
        self.snapshots = SnapshotStore(directory)
        self.chain = VersionChain(directory, heads.model)
        self.retention = retention or Retention()

    def recover(self) -> HeadRecord | None:
        """Bring Redis and the chain to the newer of the two, and return the head record.

        Redis behind the chain has lost data: it is restored from the snapshot. So
        is a record in Redis that is damaged, or that another learner's replaced in
        the chain. The chain behind Redis missed its step of a commit: it is
        extended. Returns None when neither knows the model.

        Raises
        ------
        RegistryError
            When the directory belongs to another model, or the two have different
            histories.
        StateError
            When the snapshot to restore from is damaged.
        """
        durable = self.chain.newest()
        try:
            live, readable = self.heads.read(), True
        except DamagedRecordError:
            if durable is None:
                raise
            live, readable = None, False
        if live is not None and (durable is None or live.version > durable.version):
            try:
                durable = self._adopt(live)
            except VersionConflictError:
                # Redis was lost since it was read, and another learner's was sealed instead.
                return self.recover()
        if durable is None:
            return None
        if live != durable or self._state_in_redis(durable) is None:
            data = self.snapshots.read(durable.snapshot, durable.state_sha256)
            if not self.heads.restore(durable, data, self._store, by_force=not readable):
                # Another learner published in between.
                return self.recover()
        return durable

    def create(self, state: State, metadata: Mapping[str, str]) -> HeadRecord:
        """Publish version 0 of a model that does not exist yet; an existing one stays."""
        if self.recover() is None:
            staged = self._stage(None, {}, {"kind": "created"}, state, metadata)
            try:
                self.chain.append(staged.record)
            except VersionConflictError:
                self._discard(staged)
        return self.recover()

    def current(self, known: HeadRecord | None = None) -> HeadRecord:
        """Return the head record, mending what Redis or a crash has lost of it.

        Parameters
        ----------
        known : HeadRecord, optional
            One that is returned as it is while it is still current.

        Raises
        ------
        ModelNotFoundError
            When there is no such model.
        """
        if known is not None and not self.chain.has(known.version + 1):
            try:
                if self.heads.read_current() == (known.version, known.commit):
                    return known
            except DamagedRecordError:
                pass
        record = self.recover()
        if record is None:
            raise ModelNotFoundError(
                f"neither Redis nor {self.directory} holds model {self.heads.model!r}"
            )
        return record

    def load(self, record: HeadRecord) -> tuple[State, dict[str, str]]:
        """Return a version's verified state and its metadata, from Redis or from its snapshot.

        Raises
        ------
        ModelNotFoundError, StateError
            When its snapshot is gone or damaged, and Redis does not hold it either.
        """
        return verified_state(
            self.read_bytes(record), record.state_sha256, f"version {record.version}"
        )

    def read_bytes(self, record: HeadRecord) -> bytes:
        """Return the bytes of a version's state. Errors are those of :meth:`load`."""
        data = self._state_in_redis(record)
        return data or self.snapshots.read(record.snapshot, record.state_sha256)

    def acquire(self, query: str) -> Lease:
        """Become the one learner of a query: every earlier lease on it is void from now on."""
        epoch = self.chain.claim_epoch(query, self.heads.read_epoch(query) + 1)
        self.heads.raise_epoch(query, epoch)
        return Lease(query, epoch)

    def fence(self, lease: Lease) -> None:
        """Raise StaleLearnerError when a newer learner holds the query."""
        # Files first: they know of an epoch that Redis has lost.
        given_out = self.chain.last_epoch(lease.query)
        if given_out <= lease.epoch:
            given_out = self.heads.read_epoch(lease.query)
        if given_out > lease.epoch:
            raise StaleLearnerError(
                f"this learner of query {lease.query} holds epoch {lease.epoch}, but epoch "
                f"{given_out} has been given out: a newer learner runs on the same checkpoint"
            )

    def stage(
        self,
        base: HeadRecord,
        lease: Lease,
        batch: int,
        state: State,
        metadata: Mapping[str, str],
        told: Mapping[str, Any] | None = None,
    ) -> Staged:
        """Write the snapshot of the version after ``base`` durably; nothing is current yet.

        Parameters
        ----------
        base : HeadRecord
        lease : Lease
        batch : int
            Of the lease's query: what the state has learned on top of ``base``.
        state : dict of ndarray
        metadata : mapping of str to str
        told : mapping, optional
            What the history is to tell of the batch.
        """
        applied = base.applied | {lease.query: batch}
        origin = {"kind": "batch", "query": lease.query, "batch": batch, **(told or {})}
        return self._stage(base, applied, origin, state, metadata)

    def commit(self, base: HeadRecord, staged: Staged, lease: Lease | None = None) -> None:
        """Make a staged version current in Redis.

        Raises
        ------
        VersionConflictError
            When ``base`` is no longer current. The staged snapshot is removed, or left
            to :meth:`SnapshotStore.prune` while the winner is not sealed.
        StaleLearnerError
            When a newer learner holds the query.
        """
        record = staged.record
        if lease is not None:
            # Redis that went back to an older dump may hold an epoch that is no longer the newest.
            self.fence(lease)
        try:
            there = self.chain.read(record.version)
            if there is not None and there.commit != record.commit:
                raise VersionConflictError(
                    f"version {record.version} of model {self.heads.model!r} is another learner's"
                )
            self._publish(base, staged, lease)
        except VersionConflictError:
            # When the reply to an earlier call was lost, others may have built on this commit.
            there = self.chain.read(record.version)
            if there is None or there.commit != record.commit:
                self._discard(staged)
                raise

    def seal(self, staged: Staged) -> None:
        """Write a committed version into the chain: now nothing can undo it.

        Raises
        ------
        VersionConflictError
            When Redis was lost since the commit and another learner's version was
            published and sealed instead. The staged snapshot is removed.
        """
        try:
            self.chain.append(staged.record)
        except VersionConflictError:
            self._discard(staged)
            self.recover()
            raise

    def record_head(self, record: HeadRecord) -> None:
        """Write HEAD.json, then remove the snapshot that the retention no longer keeps."""
        self.chain.write_head(record)
        leaving = record.version - self.retention.newest
        if leaving >= 0 and not self.retention.keeps(leaving, record.version):
            # A damaged record names no snapshot; the next start prunes by number.
            with contextlib.suppress(DamagedRecordError):
                old = self.chain.read(leaving)
                if old is not None:
                    self.snapshots.drop(old.snapshot)

    def publish(
        self, base: HeadRecord, origin: Mapping[str, Any], state: State, metadata: Mapping[str, str]
    ) -> HeadRecord:
        """Publish a state that no batch made as the version after ``base``.

        Raises
        ------
        VersionConflictError
            When ``base`` is no longer current.
        """
        staged = self._stage(base, base.applied, origin, state, metadata)
        self.commit(base, staged)
        self.seal(staged)
        self.record_head(staged.record)
        return staged.record

    @property
    def _store(self) -> str:
        return str(self.directory.resolve())

    def _publish(self, base: HeadRecord, staged: Staged, lease: Lease | None) -> None:
        """Compare and set in Redis, giving back to it first what it may have lost."""
        fence = {"query": lease.query, "epoch": lease.epoch} if lease else {}
        while True:
            try:
                if self.heads.publish(staged.record, staged.data, self._store, base=base, **fence):
                    return
            except VersionConflictError:
                if self.recover().commit != base.commit:
                    raise
            else:
                # The head is there and the epoch is not, or it is another's.
                self.fence(lease)
                self.heads.raise_epoch(lease.query, lease.epoch)

    def _discard(self, staged: Staged) -> None:
        """Remove the snapshot of a lost race, unless the winner has the same state."""
        winner = self.chain.read(staged.record.version)
        # Before a winner is sealed it may be any learner, one of the same state among them.
        if winner is not None and winner.snapshot != staged.record.snapshot:
            self.snapshots.drop(staged.record.snapshot)

    def _stage(
        self,
        base: HeadRecord | None,
        applied: Mapping[str, int],
        origin: Mapping[str, Any],
        state: State,
        metadata: Mapping[str, str],
    ) -> Staged:
        version = base.version + 1 if base else 0
        sha256 = state_sha256(state)
        data = state_to_bytes(state, dict(metadata) | {"version": str(version)})
        record = HeadRecord(
            version=version,
            state_sha256=sha256,
            snapshot=self.snapshots.write(version, sha256, data),
            published_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            commit=secrets.token_hex(8),
            parent=base.commit if base else "",
            applied=dict(applied),
            origin=dict(origin),
        )
        return Staged(record, data)

    def _state_in_redis(self, record: HeadRecord) -> bytes | None:
        """Return the bytes that Redis holds of a version, or None when it holds no sound ones."""
        data = self.heads.read_state(record.version)
        try:
            if data is not None:
                verified_state(data, record.state_sha256, f"version {record.version} in Redis")
        except StateError:
            return None
        return data

    def _adopt(self, record: HeadRecord) -> HeadRecord:
        """Extend the chain by a version that Redis has and the chain has not."""
        newest = self.chain.newest()
        told = self.heads.read_store()
        if newest is None and told and Path(told).is_dir() and told != self._store:
            raise UserError(
                f"--snapshots: model {self.heads.model!r} keeps its snapshots in {told}, not in "
                f"{self._store}"
            )
        if newest and record.version == newest.version + 1 and record.parent != newest.commit:
            raise RegistryError(
                f"version {record.version} in Redis does not follow version {newest.version} of "
                f"{self.directory}: the two hold different histories of one model"
            )
        if not self.snapshots.has(record.snapshot):
            data = self._state_in_redis(record)
            if data is None:
                raise ModelNotFoundError(
                    f"neither Redis nor {self.directory} holds the state of "
                    f"version {record.version}"
                )
            self.snapshots.write(record.version, record.state_sha256, data)
        self.chain.append(record)
        self.chain.write_head(record)
        return record
