"""Snapshots: which are kept, and that one is read whole and unaltered or not at all."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from app.errors import CorruptStateError, ModelNotFoundError, StateError
from app.model.state import metadata_sha256, state_sha256, state_to_bytes
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.snapshots import Retention, SnapshotStore
from app.registry.version import ModelVersion
from tests.unit.version_records import record

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


def state_of(value: float) -> dict[str, np.ndarray]:
    return {"alpha": np.array([value, 0.5]), "row_count": np.array(3)}


@pytest.fixture
def store(tmp_path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots")


def write(store: SnapshotStore, version: int, value: float | None = None) -> ModelVersion:
    """Write a version's snapshot; return its record."""
    state, metadata = state_of(version if value is None else value), {"version": str(version)}
    sha256 = state_sha256(state)
    return record(
        version,
        state_sha256=sha256,
        snapshot=store.write(version, sha256, state_to_bytes(state, metadata)),
        metadata_sha256=metadata_sha256(metadata),
    )


def versions_in(directory: Path) -> list[int]:
    return sorted(int(path.name[1:11]) for path in directory.glob("*.safetensors"))


class TestStore:
    def test_snapshot_comes_back_as_it_was_written(self, store):
        written = write(store, 12)
        name, stored = written.snapshot, store.read(written)

        assert store.has(name)
        assert store.size(name) == len(stored.data)
        assert re.fullmatch(r"v0000000012-[0-9a-f]{16}\.safetensors", name)
        assert stored.data == (store.directory / name).read_bytes()
        np.testing.assert_array_equal(stored.state["alpha"], [12, 0.5])
        assert stored.metadata == {"version": "12"}

    def test_states_that_race_for_a_version_have_files_of_their_own(self, store):
        one, other = write(store, 1, 0.25), write(store, 1, 0.75)

        for written, value in ((one, 0.25), (other, 0.75)):
            assert store.read(written).state["alpha"][0] == value

    def test_missing_snapshot_is_reported(self, store):
        written = write(store, 1)
        store.drop(written.snapshot)

        assert not store.has(written.snapshot)
        assert store.size(written.snapshot) == 0
        with pytest.raises(ModelNotFoundError, match=written.snapshot):
            store.read(written)

    def test_snapshot_may_be_dropped_again(self, store):
        name = write(store, 1).snapshot
        store.drop(name)
        store.drop(name)

    @pytest.mark.parametrize("kept", [0, 7, 100, -1])
    def test_truncated_snapshot_is_refused_by_name(self, store, kept):
        written = write(store, 1)
        path = store.directory / written.snapshot
        path.write_bytes(path.read_bytes()[:kept])

        with pytest.raises(StateError, match=path.name):
            store.read(written)

    def test_snapshot_with_any_byte_flipped_is_refused(self, store):
        written = write(store, 1)
        path = store.directory / written.snapshot
        whole = path.read_bytes()
        for position in range(len(whole)):
            flipped = bytearray(whole)
            flipped[position] ^= 1
            path.write_bytes(flipped)

            with pytest.raises(StateError, match=path.name):
                store.read(written)

    def test_snapshot_of_another_state_is_refused(self, store):
        written = write(store, 1)
        promised = dataclasses.replace(written, state_sha256=state_sha256(state_of(2)))

        message = f"{written.snapshot} holds a state with SHA-256"
        with pytest.raises(CorruptStateError, match=message):
            store.read(promised)

    def test_snapshot_with_another_metadata_is_refused(self, store):
        written = write(store, 1)
        path = store.directory / written.snapshot
        path.write_bytes(state_to_bytes(state_of(1), {"version": "1", "classes": "yes,no"}))

        with pytest.raises(CorruptStateError, match=f"{path.name} holds metadata with SHA-256"):
            store.read(written)
        earlier = dataclasses.replace(written, metadata_sha256="")
        assert store.read(earlier).metadata["classes"] == "yes,no"

    def test_directory_in_place_of_a_snapshot_is_damage(self, store):
        written = write(store, 1)
        store.drop(written.snapshot)
        (store.directory / written.snapshot).mkdir()

        with pytest.raises(StateError, match=written.snapshot):
            store.read(written)


class TestRetention:
    @pytest.mark.parametrize(
        ("retention", "kept"),
        [
            (Retention(1, 0), [25]),
            (Retention(3, 0), [23, 24, 25]),
            (Retention(3, 10), [0, 10, 20, 23, 24, 25]),
            (Retention(6, 5), [0, 5, 10, 15, 20, 21, 22, 23, 24, 25]),
            (Retention(1, 1), list(range(26))),
            (Retention(26, 0), list(range(26))),
        ],
    )
    def test_newest_and_every_so_many_are_kept(self, store, retention, kept):
        for version in range(26):
            write(store, version)
        store.prune(retention, 25)

        assert [version for version in range(26) if retention.keeps(version, 25)] == kept
        assert versions_in(store.directory) == kept

    @pytest.mark.parametrize("current", [0, 1, 9, 10, 99, 100, 101])
    def test_current_version_is_always_kept(self, store, current):
        for version in {0, current}:
            write(store, version)
        store.prune(Retention(1, 0), current)

        assert versions_in(store.directory) == [current]

    def test_what_a_learner_stages_at_this_moment_is_kept(self, store):
        for version in range(4):
            write(store, version)
        store.prune(Retention(1, 0), 2)

        assert versions_in(store.directory) == [2, 3]

    def test_files_that_are_no_snapshots_are_left_alone(self, store):
        name = write(store, 0).snapshot
        others = ["HEAD.json", f".{name}.0badcafe.tmp", f"{name}.bak", "v0.safetensors"]
        for other in others:
            (store.directory / other).touch()
        (store.directory / "versions").mkdir()
        store.prune(Retention(1, 0), 5)

        assert {path.name for path in store.directory.iterdir()} == {*others, "versions"}

    def test_missing_directory_holds_nothing_to_prune(self, store):
        store.prune(Retention(), 5)

        assert not store.directory.exists()


class TestLeaving:
    """The one snapshot that leaves when a version becomes the newest."""

    def history(self, directory: Path, retention: Retention) -> ModelRegistry:
        """Return a registry whose version log and snapshots hold versions 0 to 20."""
        registry = ModelRegistry(RedisVersionStore(NOBODY_LISTENS, "m"), directory, retention)
        for version in range(21):
            registry.versions.append(write(registry.snapshots, version))
        return registry

    @pytest.mark.parametrize(
        ("retention", "version", "leaving"),
        [
            (Retention(3, 0), 20, [17]),
            (Retention(3, 0), 12, [9]),
            (Retention(1, 0), 20, [19]),
            (Retention(3, 0), 3, [0]),
            (Retention(3, 0), 2, []),
            (Retention(50, 0), 20, []),
            (Retention(5, 5), 20, []),
            (Retention(5, 5), 19, [14]),
            (Retention(3, 10), 3, []),
        ],
    )
    def test_exactly_the_one_that_leaves_is_dropped(self, tmp_path, retention, version, leaving):
        registry = self.history(tmp_path, retention)
        registry.write_current(registry.versions.read(version))

        assert versions_in(tmp_path) == [v for v in range(21) if v not in leaving]

    def test_one_that_is_gone_already_is_no_matter(self, tmp_path):
        registry = self.history(tmp_path, Retention(3, 0))
        registry.snapshots.drop(registry.versions.read(17).snapshot)
        [path] = tmp_path.glob("versions/*/0000000016.json")
        path.unlink()
        for version in (19, 20):
            registry.write_current(registry.versions.read(version))

        assert versions_in(tmp_path) == [v for v in range(21) if v != 17]

    def test_step_by_step_what_is_left_is_what_pruning_leaves(self, tmp_path):
        retention = Retention(4, 6)
        registry = self.history(tmp_path, retention)
        for version in range(21):
            registry.write_current(registry.versions.read(version))
        left = versions_in(tmp_path)
        registry.snapshots.prune(retention, 20)

        assert left == versions_in(tmp_path) == [0, 6, 12, 17, 18, 19, 20]
