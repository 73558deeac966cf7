"""The registry of one model: publish, load and restore, over Redis and the snapshots."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import ModelNotFoundError, RegistryError, StaleLearnerError
from app.model.state import State, state_sha256, state_to_bytes
from app.registry.head import HeadRecord, HeadStore, stale_learner_message
from app.registry.snapshots import DurableHead, SnapshotStore, verified_state


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


class ModelRegistry:
    """Versions of one model: Redis says which is current, snapshots outlive Redis.

    Parameters
    ----------
    heads : HeadStore
    snapshots : SnapshotStore
    """

    def __init__(self, heads: HeadStore, snapshots: SnapshotStore) -> None:
        self.heads = heads
        self.snapshots = snapshots

    def recover(self) -> HeadRecord | None:
        """Bring Redis and HEAD.json to the newer of the two, and return the head record.

        Redis behind HEAD.json has lost data: it is restored from the snapshot.
        HEAD.json behind Redis missed its step of a commit: it is written again.
        Returns None when neither knows the model.

        Raises
        ------
        RegistryError
            When the snapshot directory belongs to another model.
        StateError
            When the snapshot that HEAD.json names is damaged.
        """
        durable = self.snapshots.read_head()
        if durable is not None and durable.model != self.heads.model:
            raise RegistryError(
                f"{self.snapshots.directory} holds model {durable.model!r}, "
                f"not {self.heads.model!r}"
            )
        if durable is not None:
            record = durable.record
            live = self.heads.read_version()
            if live is None or live < record.version:
                data = self.snapshots.read_bytes(record.snapshot)
                verified_state(data, record.state_sha256, record.snapshot)
                self.heads.restore(record, data)
            for query, epoch in durable.epochs.items():
                self.heads.restore_epoch(query, epoch)
        record = self.heads.read()
        if record is not None and (durable is None or record.version > durable.record.version):
            self._adopt(record, durable)
        return record

    def create(self, state: State, metadata: Mapping[str, str]) -> HeadRecord:
        """Publish version 0 of a model that does not exist yet; an existing one stays."""
        record, data = self._prepare(0, state, metadata, {})
        self.heads.restore(record, data)
        return self.recover()

    def load(self) -> tuple[HeadRecord, State, dict[str, str]]:
        """Return the current version: its record, its verified state and its metadata.

        Raises
        ------
        ModelNotFoundError
            When Redis holds no such model.
        CorruptStateError
            When the bytes do not have the hash that the record promises.
        """
        while (record := self.heads.read()) is not None:
            data = self.heads.read_state(record.version)
            if data is None and self.heads.read_version() == record.version:
                data = self.snapshots.read_bytes(record.snapshot)
            if data is not None:
                origin = f"version {record.version} of model {self.heads.model!r}"
                return record, *verified_state(data, record.state_sha256, origin)
        raise ModelNotFoundError(f"Redis holds no model {self.heads.model!r}")

    def read_bytes(self, record: HeadRecord) -> bytes:
        """Return the bytes of a version's state, from Redis or from its snapshot."""
        return self.heads.read_state(record.version) or self.snapshots.read_bytes(record.snapshot)

    def acquire(self, query: str) -> Lease:
        """Become the one learner of a query: every earlier lease on it is void from now on."""
        durable = self.snapshots.read_head()
        known = durable.epochs.get(query, 0) if durable else 0
        lease = Lease(query, self.heads.raise_epoch(query, known))
        # At once: after a loss of Redis the same epoch must not be given out again.
        if durable is not None:
            self.record_head(durable.record, lease)
        return lease

    def fence(self, lease: Lease) -> None:
        """Raise StaleLearnerError when a newer learner holds the query."""
        current = self.heads.read_epoch(lease.query)
        if current > lease.epoch:
            raise StaleLearnerError(stale_learner_message(lease.query, lease.epoch, current))

    def stage(
        self, base: HeadRecord, lease: Lease, batch: int, state: State, metadata: Mapping[str, str]
    ) -> tuple[HeadRecord, bytes]:
        """Write the snapshot of the version after ``base`` durably; nothing is current yet."""
        applied = base.applied | {lease.query: batch}
        return self._prepare(base.version + 1, state, metadata, applied)

    def commit(self, base: HeadRecord, lease: Lease, record: HeadRecord, data: bytes) -> None:
        """Make a staged version current.

        Raises
        ------
        VersionConflictError
            When ``base`` is no longer current.
        StaleLearnerError
            When a newer learner holds the query.
        """
        self.heads.publish(
            record, data, expected=base.version, query=lease.query, epoch=lease.epoch
        )

    def record_head(self, record: HeadRecord, lease: Lease) -> None:
        """Bring HEAD.json to a version and an epoch; it never goes back."""
        durable = self.snapshots.read_head()
        epochs = dict(durable.epochs) if durable else {}
        epochs[lease.query] = max(lease.epoch, epochs.get(lease.query, 0))
        if durable is not None and durable.record.version > record.version:
            record = durable.record
        self.snapshots.write_head(DurableHead(self.heads.model, record, epochs))

    def _prepare(
        self, version: int, state: State, metadata: Mapping[str, str], applied: dict[str, int]
    ) -> tuple[HeadRecord, bytes]:
        sha256 = state_sha256(state)
        data = state_to_bytes(state, dict(metadata) | {"version": str(version)})
        snapshot = self.snapshots.write(version, sha256, data)
        published_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return HeadRecord(version, sha256, snapshot, published_at, applied), data

    def _adopt(self, record: HeadRecord, durable: DurableHead | None) -> None:
        """Write HEAD.json, and the snapshot if it is not here, for a version found in Redis."""
        if not (self.snapshots.directory / record.snapshot).exists():
            data = self.heads.read_state(record.version)
            if data is None:
                raise ModelNotFoundError(
                    f"neither Redis nor {self.snapshots.directory} holds the state of "
                    f"version {record.version}"
                )
            verified_state(data, record.state_sha256, f"version {record.version} in Redis")
            name = self.snapshots.write(record.version, record.state_sha256, data)
            record = dataclasses.replace(record, snapshot=name)
        epochs = durable.epochs if durable else {}
        self.snapshots.write_head(DurableHead(self.heads.model, record, epochs))
