"""Any version's state, bit for bit: a copy of it, or a snapshot and the rows learned since."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from app.errors import (
    CorruptStateError,
    HedgestreamError,
    ModelNotFoundError,
    StateError,
    UserError,
)
from app.model.state import State, config_from_metadata, state_sha256, state_to_bytes
from app.registry.feedback_log import FeedbackLog
from app.registry.redis_store import RedisVersionStore
from app.registry.snapshots import Retention, SnapshotStore, StoredState, verified_state
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog

if TYPE_CHECKING:
    from app.model import HBPClassifier

logger = logging.getLogger(__name__)


class Rebuilder:
    """Reconstructs versions of one model.

    Parameters
    ----------
    versions
    snapshots
    feedback
    on_version
        Called with each version that was learned again, once its hash is the recorded one.
    """

    def __init__(
        self,
        versions: VersionLog,
        snapshots: SnapshotStore,
        feedback: FeedbackLog,
        on_version: Callable[[ModelVersion], None] = lambda record: None,
    ) -> None:
        self._versions = versions
        self._snapshots = snapshots
        self._feedback = feedback
        self._on_version = on_version

    def state_of(self, version: int) -> tuple[State, dict[str, str]]:
        """Return a version's state and metadata, from its snapshot or else rebuilt.

        Raises
        ------
        UserError
            When there is no such version.
        ModelNotFoundError
            When what it is to be rebuilt from is gone.
        CorruptStateError
            When the rebuilt state has another hash than the recorded one.
        """
        kept = self._kept(self._record(version))
        return kept if kept is not None else self.rebuild(version)

    def rebuild(self, version: int) -> tuple[State, dict[str, str]]:
        """Return a version's state, learned again from the nearest state kept before it.

        Raises as :meth:`state_of` does.
        """
        return self.remade(self._record(version))

    def remade(self, target: ModelVersion) -> tuple[State, dict[str, str]]:
        """Return the same of a version that may not be in the version log yet.

        Raises as :meth:`state_of` does.
        """
        # From the target back to a version whose state needs no learning.
        to_learn = [target]
        while (start := self._start_below(to_learn[-1])) is None:
            to_learn.append(self._record(to_learn[-1].version - 1))
        state, metadata = start
        # The version that the state belongs to, not the one it was made from.
        metadata = metadata | {"version": str(target.version)}
        if target.origin["kind"] != "batch":
            return self._checked(state, target), metadata

        model = _model_of(metadata)
        model.set_state(state)
        for record in reversed(to_learn):
            rows = self._feedback.read(record.origin["query"], record.origin["batch"])
            model.partial_fit(rows.features, rows.labels)
            self._checked(model.get_state(), record)
            self._on_version(record)
        return model.get_state(), metadata

    def _start_below(self, record: ModelVersion) -> tuple[State, dict[str, str]] | None:
        """Return the state to make ``record`` from, or None when that must be learned too."""
        kind = record.origin["kind"]
        if kind == "rollback":
            return self.state_of(record.origin["to"])
        if kind != "batch":
            # Nothing comes before it, so it is had from its own snapshot or not at all.
            kept = self._kept(record)
            if kept is None:
                raise ModelNotFoundError(
                    f"the snapshot of version {record.version} is gone or damaged, and nothing is "
                    "left to rebuild it from"
                )
            return kept
        before = self._record(record.version - 1)
        if before.origin["kind"] == "rollback":
            return self.state_of(before.version)
        return self._kept(before)

    def _kept(self, record: ModelVersion) -> tuple[State, dict[str, str]] | None:
        try:
            kept = self._snapshots.read(record)
        except (ModelNotFoundError, StateError):
            return None
        return kept.state, kept.metadata

    def _record(self, version: int) -> ModelVersion:
        record = self._versions.read(version)
        if record is None:
            newest = self._versions.newest()
            there = f"0 to {newest.version}" if newest else "none"
            raise UserError(f"--to: there is no version {version}; there are {there}")
        return record

    def _checked(self, state: State, record: ModelVersion) -> State:
        found = state_sha256(state)
        if found != record.state_sha256:
            raise CorruptStateError(
                f"version {record.version} was rebuilt with SHA-256 {found}, but was published "
                f"with {record.state_sha256}: the recorded rows, the processor or the version "
                "of TensorFlow are not the same"
            )
        return state


class States:
    """The states of one model, each had from wherever it is whole.

    Parameters
    ----------
    store
    versions
    snapshots
    retention
    """

    def __init__(
        self,
        store: RedisVersionStore,
        versions: VersionLog,
        snapshots: SnapshotStore,
        retention: Retention,
    ) -> None:
        self._store = store
        self._versions = versions
        self._snapshots = snapshots
        self._retention = retention

    def read(self, record: ModelVersion) -> StoredState:
        """Return a version's state: from Redis, from its snapshot, or rebuilt.

        Raises as :meth:`on_disk` does.
        """
        return self.in_redis(record) or self.on_disk(record)

    def in_redis(self, record: ModelVersion) -> StoredState | None:
        """Return the state that Redis holds of a version, or None when it holds no sound one."""
        stored = self.copy_in_redis(record)
        if stored is None or record.metadata_sha256:
            return stored
        # The record does not vouch for the metadata: only the file does.
        try:
            on_disk = self._snapshots.read(record)
        except (ModelNotFoundError, StateError):
            return None
        return stored if stored.metadata == on_disk.metadata else None

    def copy_in_redis(self, record: ModelVersion) -> StoredState | None:
        """Return the same as far as the record vouches for it, which one before 3 does not."""
        data = self._store.read_state(record.version)
        if data is None:
            return None
        try:
            return verified_state(data, record, f"version {record.version} in Redis")
        except StateError:
            return None

    def on_disk(self, record: ModelVersion) -> StoredState:
        """Return the state in a version's snapshot; one gone or damaged is written again.

        Raises
        ------
        ModelNotFoundError, StateError
            When it is, and cannot be rebuilt.
        """
        try:
            return self._snapshots.read(record)
        except (ModelNotFoundError, StateError) as error:
            rows = FeedbackLog.of(self._snapshots.directory)
            rebuilder = Rebuilder(self._versions, self._snapshots, rows)
            try:
                data = state_to_bytes(*rebuilder.remade(record))
                stored = verified_state(data, record, f"version {record.version}, rebuilt,")
            except HedgestreamError as failure:
                raise type(error)(f"{error}; nor can it be rebuilt: {failure}") from failure
            logger.warning("%s; the version was rebuilt from the rows recorded", error)
        newest = self._versions.newest()
        if newest is None or self._retention.keeps(record.version, newest.version):
            self._snapshots.write(record.version, record.state_sha256, stored.data)
        return stored

    def mend(self, record: ModelVersion, stored: StoredState) -> None:
        """Write a snapshot again that is gone, or cut."""
        if self._snapshots.size(record.snapshot) != len(stored.data):
            logger.warning("snapshot %s is gone or cut; it is written again", record.snapshot)
            self._snapshots.write(record.version, record.state_sha256, stored.data)


def _model_of(metadata: Mapping[str, str]) -> HBPClassifier:
    from app.model.classifier import HBPClassifier

    return HBPClassifier.from_config(config_from_metadata(metadata))
