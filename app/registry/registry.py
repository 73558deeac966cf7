"""The registry of one model: publish, read, restore and roll back, over Redis and files.

Redis says which version is current and hands it to every scorer. The directory of
snapshots, with its log of versions, outlives Redis and decides when the two differ.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.errors import (
    DamagedRecordError,
    ModelNotFoundError,
    RegistryError,
    StateError,
    UserError,
    VersionConflictError,
)
from app.model.state import State, metadata_sha256, state_sha256, state_to_bytes
from app.registry.conflict import Tries
from app.registry.epochs import Epochs, Lease, Leases
from app.registry.rebuild import States
from app.registry.redis_store import Head, RedisVersionStore
from app.registry.snapshots import Retention, SnapshotStore, StoredState
from app.registry.staged import Staged, StagedRecords
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog


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
        self.staged = StagedRecords(directory, store.model)
        self.leases = Leases(Epochs(directory), store)
        self.retention = retention or Retention()
        self.states = States(store, self.versions, self.snapshots, self.retention)

    def recover(self) -> ModelVersion | None:
        """Bring Redis and the version log together, and return the version record.

        The log decides. A version that Redis has and the log has not missed the last step of
        its commit: the log is extended by it if it was staged on top of the newest one. All
        else that Redis holds beside the newest version, or in place of it, is replaced by
        that version and its state; but of versions beyond those that the log knows of it is
        another model's Redis, and stays. Returns None when neither knows the model.

        Raises
        ------
        RegistryError
            When the directory belongs to another model, or Redis holds another history.
        NewerFormatError
            When a newer release wrote one of the two.
        StateError, ModelNotFoundError
            When the snapshot to restore from is damaged or gone, and cannot be rebuilt.
        """
        recovered = self.recover_state()
        return recovered[0] if recovered else None

    def recover_state(self) -> tuple[ModelVersion, StoredState] | None:
        """Recover, and return the version record with its state, which was checked on the way.

        Raises as :meth:`recover` does.
        """
        tries = Tries(self.model)
        while True:
            head = self.store.look()
            # After Redis, which was at most one version ahead of it then.
            durable = self.versions.newest()
            try:
                return self._recover_from(head, durable)
            except VersionConflictError:
                tries.again(self._newest_version())

    def _recover_from(
        self, head: Head, durable: ModelVersion | None
    ) -> tuple[ModelVersion, StoredState] | None:
        """Recover once. Raise VersionConflictError when others have changed what was found."""
        try:
            live = head.record()
        except DamagedRecordError:
            if durable is None:
                raise
            live = None
        if durable is None:
            if live is None:
                return None
            durable = self._join(live)
        elif live and live.version > durable.version:
            if live.parent != durable.commit or not self.staged.holds(live):
                self._check_unchanged(durable)
                raise self._another_history(live, durable)
            durable = self._adopt(live, self.read(live))
        stored = self.states.in_redis(durable) if live == durable else None
        if stored is not None:
            self.states.mend(durable, stored)
            return durable, stored
        try:
            stored = self.states.on_disk(durable)
        except (ModelNotFoundError, StateError):
            self._check_unchanged(durable)
            raise
        if not self.store.restore(durable, stored.data, self._location, over=head):
            raise VersionConflictError(f"model {self.model!r} in Redis has changed meanwhile")
        return durable, stored

    def _check_unchanged(self, durable: ModelVersion) -> None:
        if self.versions.newest() != durable:
            raise VersionConflictError(f"{self.directory} has a newer version meanwhile")

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
        """Return a version's state, checked once: from Redis, from its snapshot, or rebuilt.

        Raises
        ------
        ModelNotFoundError, StateError
            When its snapshot is gone or damaged, Redis does not hold it either, and it cannot
            be rebuilt.
        """
        return self.states.read(version)

    def acquire(self, query: str) -> Lease:
        """Become the one learner of a query: every earlier lease on it is void from now on."""
        return self.leases.acquire(query)

    def fence(self, lease: Lease) -> None:
        """Raise StaleLearnerError when a newer learner holds the query."""
        self.leases.check(lease)

    def stage(
        self,
        base: ModelVersion,
        lease: Lease,
        batch: int,
        state: State,
        metadata: Mapping[str, str],
        summary: Mapping[str, Any] | None = None,
    ) -> Staged:
        """Write the version after ``base`` durably, snapshot and record; nothing is current yet.

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
            When ``base`` is no longer current. What was staged is removed, or left
            to :meth:`prune` while the winner is not finalized.
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
            published and finalized instead. What was staged is removed.
        """
        try:
            self.versions.append(staged.record)
        except VersionConflictError:
            self._discard(staged)
            self.recover()
            raise
        self.staged.drop(staged.record)

    def prune(self, current: int) -> None:
        """Remove what is not kept, and what crashes have left, when ``current`` is current."""
        self.snapshots.prune(self.retention, current)
        self.staged.prune(current)

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

    def _newest_version(self) -> int:
        newest = self.versions.newest()
        return newest.version if newest else -1

    def _publish(self, base: ModelVersion, staged: Staged, lease: Lease | None) -> None:
        """Compare and set in Redis, giving back to it first what it may have lost."""
        query, epoch = (lease.query, lease.epoch) if lease else ("", None)
        tries = Tries(self.model)
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
                self.leases.tell(lease)
            tries.again(self._newest_version())

    def _discard(self, staged: Staged) -> None:
        """Remove what lost a race, but a snapshot that is the winner's as well."""
        winner = self.versions.read(staged.record.version)
        # Before a winner is finalized it may be any learner, one of the same state among them.
        if winner is not None:
            self.staged.drop(staged.record)
            if winner.snapshot != staged.record.snapshot:
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
        metadata = dict(metadata) | {"version": str(version)}
        data = state_to_bytes(state, metadata)
        record = ModelVersion(
            version=version,
            state_sha256=sha256,
            snapshot=self.snapshots.write(version, sha256, data),
            published_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            commit=secrets.token_hex(8),
            parent=base.commit if base else "",
            applied=dict(applied),
            origin=dict(origin),
            metadata_sha256=metadata_sha256(metadata),
        )
        # As it will be read: what could not be read again is not published.
        record = ModelVersion.from_json(json.loads(json.dumps(record.to_json())))
        # The first one needs no Redis to be chosen.
        if base is not None:
            self.staged.write(record)
        return Staged(record, data)

    def _join(self, record: ModelVersion) -> ModelVersion:
        """Begin the version log with the one that Redis has, where there is no other."""
        known = self.store.read_snapshot_directory()
        if known and Path(known).is_dir() and known != self._location:
            raise UserError(
                f"--snapshots: model {self.model!r} keeps its snapshots in {known}, not in "
                f"{self._location}"
            )
        try:
            stored = self.states.copy_in_redis(record) or self.snapshots.read(record)
        except ModelNotFoundError:
            raise ModelNotFoundError(
                f"neither Redis nor {self.directory} holds the state of version {record.version}"
            ) from None
        return self._adopt(record, stored)

    def _adopt(self, record: ModelVersion, stored: StoredState) -> ModelVersion:
        """Extend the version log by a version that Redis has and the log has not."""
        self.states.mend(record, stored)
        self.versions.append(record)
        self.versions.write_current(record)
        self.staged.drop(record)
        return record

    def _another_history(self, live: ModelVersion, durable: ModelVersion) -> RegistryError:
        return RegistryError(
            f"Redis holds version {live.version} (commit {live.commit}) of model {self.model!r}, "
            f"and {self.directory} ends at version {durable.version} (commit {durable.commit}) "
            "and knows nothing of it: the two hold different histories of one model. Name the "
            f"Redis that belongs to the directory, or delete the keys hbp:{{{self.model}}}:* of "
            "this one, which is then restored from the directory"
        )
