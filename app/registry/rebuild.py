"""Time travel: any version again, bit for bit, from a snapshot and the rows learned since."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import CorruptStateError, ModelNotFoundError, StateError, UserError
from app.model.state import State, config_from_metadata, state_sha256
from app.registry.conflict import retry_on_conflict
from app.registry.feedback_log import FeedbackLog
from app.registry.registry import ModelRegistry
from app.registry.snapshots import SnapshotStore
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog


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
        target = self._record(version)
        # From the target back to a version whose state needs no learning.
        to_learn = [target]
        while (start := self._start_below(to_learn[-1])) is None:
            to_learn.append(self._record(to_learn[-1].version - 1))
        state, metadata = start
        # The version that the state belongs to, not the one it was made from.
        metadata = metadata | {"version": str(version)}
        if target.origin["kind"] != "batch":
            return self._checked(state, target), metadata

        from app.model.classifier import HBPClassifier

        model = HBPClassifier.from_config(config_from_metadata(metadata))
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
            kept = self._snapshots.read(record.snapshot, record.state_sha256)
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


def roll_back(registry: ModelRegistry, rebuilder: Rebuilder, version: int) -> ModelVersion:
    """Publish an old version's state as a new version, and return its record.

    Batches learned since stay applied: their rows are left out on purpose, and
    not learned again. A learner that is at work goes on from the new version.

    Raises
    ------
    UserError
        When there is no such version.
    HedgestreamError
        When its state cannot be had.
    """
    state, metadata = rebuilder.state_of(version)

    def attempt() -> ModelVersion:
        base = registry.current()
        return registry.publish(base, {"kind": "rollback", "to": version}, state, metadata)

    return retry_on_conflict(attempt)
