"""The registry of one model: publish, read, restore and roll back, over Redis and files.

Redis says which version is current and hands it to every scorer. The directory of
snapshots, with its log of versions, outlives Redis and decides when the two differ.
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
from app.registry.redis_store import RedisVersionStore
from app.registry.snapshots import Retention, SnapshotStore, StoredState, verified_state
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog


@dataclass(frozen=True)
class Lease:
    """The right to publish for a query, until a newer learner takes it.

    Attributes
    ----------
    query
        Id of the streaming query, one per checkpoint.
    epoch
        Fencing number.
    """

    query: str
    epoch: int


@dataclass(frozen=True)
class Staged:
    """A version that is on disk and not current yet."""

    record: ModelVersion
    data: bytes


class ModelRegistry:
    """Versions of one model.

    Every method that writes may be called again after an error, and then carries on.

    Parameters
    ----------
    store
    directory
        Holds the snapshots and the version log: one for all learners of the model.
    retention
        The default is :class:`Retention`'s own.
    """

    def __init__(
        self, store: RedisVersionStore, directory: Path, retention: Retention | None = None
    ) -> None:
        self.store = store
        self.directory = directory
        self.snapshots = SnapshotStore(directory)
        self.versions = VersionLog(directory, store.model)
        self.retention = retention or Retention()

    def recover(self) -> ModelVersion | None:
        """Bring Redis and the version log to the newer of the two, and return the version record.

        Redis behind the log has lost data: it is restored from the snapshot. So is a
        record in Redis that is damaged, or that another learner's replaced in the log.
        The log behind Redis missed its step of a commit: it is extended. Returns None
        when neither knows the model.

        Raises
        ------
        RegistryError
            When the directory belongs to another model, or the two have different
            histories.
        NewerFormatError
            When a newer release wrote one of the two.
        StateError
            When the snapshot to restore from is damaged.
        """
        recovered = self.recover_state()
        return recovered[0] if recovered else None

    def recover_state(self) -> tuple[ModelVersion, StoredState] | None:
        """Recover, and return the version record with its state, which was checked on the way.

        Raises as :meth:`recover` does.
        """
        durable = self.versions.newest()
        try:
            live, readable = self.store.read(), True
        except DamagedRecordError:
            if durable is None:
                raise
            live, readable = None, False
        if live is not None and (durable is None or live.version > durable.version):
            try:
                durable = self._adopt(live)
            except VersionConflictError:
                # Redis was lost since it was read, and another learner's was finalized instead.
                return self.recover_state()
        if durable is None:
            return None
        stored = self._state_in_redis(durable) if live == durable else None
        if stored is None:
            stored = self.snapshots.read(durable.snapshot, durable.state_sha256)
            if not self.store.restore(durable, stored.data, self._location, by_force=not readable):
                # Another learner published in between.
                return self.recover_state()
        return durable, stored

    def create(self, state: State, metadata: Mapping[str, str]) -> ModelVersion:
        """Publish version 0 of a model that does not exist yet; an existing one stays."""
        if self.recover() is None:
            staged = self._stage(None, {}, {"kind": "created"}, state, metadata)
            try:
                self.versions.append(staged.record)
            except VersionConflictError:
                self._discard(staged)
        return self.current()

    def current(self, known: ModelVersion | None = None) -> ModelVersion:
        """Return the version record, mending what Redis or a crash has lost of it.

        Parameters
        ----------
        known
            A version that is returned as it is while it is still current.

        Raises
        ------
        ModelNotFoundError
            When there is no such model.
        """
        if known is not None and not self.versions.has(known.version + 1):
            try:
                if self.store.read_current() == (known.version, known.commit):
                    return known
            except DamagedRecordError:
                pass
        record = self.recover()
        if record is None:
            raise ModelNotFoundError(
                f"neither Redis nor {self.directory} holds model {self.store.model!r}"
            )
        return record

    @property
    def model(self) -> str:
        return self.store.model

    def read(self, version: ModelVersion) -> StoredState:
        """Return a version's state, checked once, from Redis or from its snapshot.

        Raises
        ------
        ModelNotFoundError, StateError
            When its snapshot is gone or damaged, and Redis does not hold it either.
        """
        return self._state_in_redis(version) or self.snapshots.read(
            version.snapshot, version.state_sha256
        )

    def acquire(self, query: str) -> Lease:
        """Become the one learner of a query: every earlier lease on it is void from now on."""
        epoch = self.versions.claim_epoch(query, self.store.read_epoch(query) + 1)
        self.store.raise_epoch(query, epoch)
        return Lease(query, epoch)

    def fence(self, lease: Lease) -> None:
        """Raise StaleLearnerError when a newer learner holds the query."""
        # Files first: they know of an epoch that Redis has lost.
        given_out = self.versions.last_epoch(lease.query)
        if given_out <= lease.epoch:
            given_out = self.store.read_epoch(lease.query)
        if given_out > lease.epoch:
            raise StaleLearnerError(
                f"this learner of query {lease.query} holds epoch {lease.epoch}, but epoch "
                f"{given_out} has been given out: a newer learner runs on the same checkpoint"
            )

    def stage(
        self,
        base: ModelVersion,
        lease: Lease,
        batch: int,
        state: State,
        metadata: Mapping[str, str],
        summary: Mapping[str, Any] | None = None,
    ) -> Staged:
        """Write the snapshot of the version after ``base`` durably; nothing is current yet.

        Parameters
        ----------
        base
        lease
        batch
            The batch of the lease's query that the state has learned on top of ``base``.
        state
        metadata
        summary
            What the history is to say of the batch, as JSON values.
        """
        applied = base.applied | {lease.query: batch}
        origin = {"kind": "batch", "query": lease.query, "batch": batch, **(summary or {})}
        return self._stage(base, applied, origin, state, metadata)

    def commit(self, base: ModelVersion, staged: Staged, lease: Lease | None = None) -> None:
        """Make a staged version current in Redis.

        Raises
        ------
        VersionConflictError
            When ``base`` is no longer current. The staged snapshot is removed, or left
            to :meth:`SnapshotStore.prune` while the winner is not finalized.
        StaleLearnerError
            When a newer learner holds the query.
        """
        record = staged.record
        if lease is not None:
            # Redis that went back to an older dump may hold an epoch that is no longer the newest.
            self.fence(lease)
        try:
            there = self.versions.read(record.version)
            if there is not None and there.commit != record.commit:
                raise VersionConflictError(
                    f"version {record.version} of model {self.store.model!r} is another learner's"
                )
            self._publish(base, staged, lease)
        except VersionConflictError:
            # When the reply to an earlier call was lost, others may have built on this commit.
            there = self.versions.read(record.version)
            if there is None or there.commit != record.commit:
                self._discard(staged)
                raise

    def finalize(self, staged: Staged) -> None:
        """Write a committed version into the version log: now nothing can undo it.

        Raises
        ------
        VersionConflictError
            When Redis was lost since the commit and another learner's version was
            published and finalized instead. The staged snapshot is removed.
        """
        try:
            self.versions.append(staged.record)
        except VersionConflictError:
            self._discard(staged)
            self.recover()
            raise

    def write_current(self, record: ModelVersion) -> None:
        """Write HEAD.json, then remove the snapshot that the retention no longer keeps."""
        self.versions.write_current(record)
        leaving = record.version - self.retention.newest
        if leaving >= 0 and not self.retention.keeps(leaving, record.version):
            # A damaged record names no snapshot; the next start prunes by number.
            with contextlib.suppress(DamagedRecordError):
                old = self.versions.read(leaving)
                if old is not None:
                    self.snapshots.drop(old.snapshot)

    def publish(
        self,
        base: ModelVersion,
        origin: Mapping[str, Any],
        state: State,
        metadata: Mapping[str, str],
    ) -> ModelVersion:
        """Publish a state that no batch made as the version after ``base``.

        Raises
        ------
        VersionConflictError
            When ``base`` is no longer current.
        """
        staged = self._stage(base, base.applied, origin, state, metadata)
        self.commit(base, staged)
        self.finalize(staged)
        self.write_current(staged.record)
        return staged.record

    @property
    def _location(self) -> str:
        return str(self.directory.resolve())

    def _publish(self, base: ModelVersion, staged: Staged, lease: Lease | None) -> None:
        """Compare and set in Redis, giving back to it first what it may have lost."""
        query, epoch = (lease.query, lease.epoch) if lease else ("", None)
        while True:
            try:
                if self.store.publish(
                    staged.record, staged.data, self._location, base=base, query=query, epoch=epoch
                ):
                    return
            except VersionConflictError:
                if self.current().commit != base.commit:
                    raise
            else:
                # The version is there and the epoch is not, or it is another's.
                assert lease is not None
                self.fence(lease)
                self.store.raise_epoch(lease.query, lease.epoch)

    def _discard(self, staged: Staged) -> None:
        """Remove the snapshot of a lost race, unless the winner has the same state."""
        winner = self.versions.read(staged.record.version)
        # Before a winner is finalized it may be any learner, one of the same state among them.
        if winner is not None and winner.snapshot != staged.record.snapshot:
            self.snapshots.drop(staged.record.snapshot)

    def _stage(
        self,
        base: ModelVersion | None,
        applied: Mapping[str, int],
        origin: Mapping[str, Any],
        state: State,
        metadata: Mapping[str, str],
    ) -> Staged:
        version = base.version + 1 if base else 0
        sha256 = state_sha256(state)
        data = state_to_bytes(state, dict(metadata) | {"version": str(version)})
        record = ModelVersion(
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

    def _state_in_redis(self, version: ModelVersion) -> StoredState | None:
        """Return the state that Redis holds of a version, or None when it holds no sound one."""
        data = self.store.read_state(version.version)
        if data is None:
            return None
        try:
            return verified_state(data, version.state_sha256, f"version {version.version} in Redis")
        except StateError:
            return None

    def _adopt(self, record: ModelVersion) -> ModelVersion:
        """Extend the version log by a version that Redis has and the log has not."""
        newest = self.versions.newest()
        known = self.store.read_snapshot_directory()
        if newest is None and known and Path(known).is_dir() and known != self._location:
            raise UserError(
                f"--snapshots: model {self.store.model!r} keeps its snapshots in {known}, not in "
                f"{self._location}"
            )
        if newest and record.version == newest.version + 1 and record.parent != newest.commit:
            raise RegistryError(
                f"version {record.version} in Redis does not follow version {newest.version} of "
                f"{self.directory}: the two hold different histories of one model"
            )
        if not self.snapshots.has(record.snapshot):
            stored = self._state_in_redis(record)
            if stored is None:
                raise ModelNotFoundError(
                    f"neither Redis nor {self.directory} holds the state of "
                    f"version {record.version}"
                )
            self.snapshots.write(record.version, record.state_sha256, stored.data)
        self.versions.append(record)
        self.versions.write_current(record)
        return record
