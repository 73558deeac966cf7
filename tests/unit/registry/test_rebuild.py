"""Any version again, bit for bit, and an old version as the newest."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import redis

from app.config.model import ModelConfig
from app.errors import (
    CorruptStateError,
    InvalidRowsError,
    ModelNotFoundError,
    RegistryError,
    UserError,
)
from app.model import HBPClassifier
from app.model.state import State, config_to_metadata, state_sha256
from app.redis_io.embedded import EmbeddedRedis
from app.registry.feedback_log import FeedbackLog, LearnedRows
from app.registry.rebuild import Rebuilder
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.rollback import roll_back
from app.registry.snapshots import SnapshotStore
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog
from tests.unit.registry.rivals import Overtaken, publish_batch

MODEL = "m"
ROWS = 3
# Updates of two rows and batches of three: a row waits from one version to the next.
CONFIG = ModelConfig(
    n_features=3, n_classes=2, n_hidden_layers=2, n_hidden_units=4, update_batch_size=2
)
METADATA = config_to_metadata(CONFIG) | {"contract": "{}"}

CREATED, ROLLED_BACK, TO = 0, 5, 2
BATCHES = {1: ("q", 0), 2: ("q", 1), 3: ("q", 2), 4: ("q", 3)}
BATCHES |= {6: ("q", 4), 7: ("q", 5), 8: ("p", 0), 9: ("q", 6), 10: ("q", 7)}
NEWEST = 10
# What is learned to reach a version from nothing but version 0.
LEARNED = {0: [], 1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3, 4], 5: [1, 2], 6: [1, 2, 6]}
LEARNED |= {version: [1, 2, *range(6, version + 1)] for version in range(7, 11)}


class Place:
    """A model's directory, and what is rebuilt from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.versions = VersionLog(directory, MODEL)
        self.snapshots = SnapshotStore(directory)
        self.feedback = FeedbackLog(directory / "feedback")
        self.learned: list[int] = []
        self.rebuilder = Rebuilder(
            self.versions, self.snapshots, self.feedback, lambda r: self.learned.append(r.version)
        )

    def keep(self, *versions: int) -> None:
        """Remove all snapshots but those of some versions."""
        for record in self.versions.records():
            if record.version not in versions:
                self.snapshots.drop(record.snapshot)

    def snapshot(self, version: int) -> Path:
        return self.directory / self.versions.read(version).snapshot

    def registry(self, url: str) -> ModelRegistry:
        return ModelRegistry(RedisVersionStore(url, MODEL), self.directory)


def rows_of(version: int) -> LearnedRows:
    rng = np.random.default_rng(version)
    features = rng.normal(size=(ROWS, CONFIG.n_features))
    ids = [f"{version}-{row}" for row in range(ROWS)]
    return LearnedRows(ids, features, (features[:, 0] > 0).astype(np.int32))


@pytest.fixture(scope="module", autouse=True)
def one_compilation() -> Iterator[None]:
    """Compile the one model of this module once: what it is given is its whole state."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HBPClassifier, "from_config", functools.cache(HBPClassifier.from_config))
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def published(tmp_path_factory, server, one_compilation) -> Path:
    """Publish versions 0 to 10 as a learner does, a rollback among them, all snapshots kept."""
    place = Place(tmp_path_factory.mktemp("published"))
    registry = place.registry(server.url)
    model = HBPClassifier.from_config(CONFIG)
    current = registry.create(model.get_state(), METADATA)
    leases = {query: registry.acquire(query) for query in ("q", "p")}
    for version in range(1, NEWEST + 1):
        if version == ROLLED_BACK:
            current = roll_back(registry, place.rebuilder, TO)
            model.set_state(registry.read(current).state)
            continue
        query, batch = BATCHES[version]
        rows = rows_of(version)
        place.feedback.write(query, batch, rows)
        model.partial_fit(rows.features, rows.labels)
        staged = registry.stage(current, leases[query], batch, model.get_state(), METADATA)
        registry.commit(current, staged, leases[query])
        registry.finalize(staged)
        current = staged.record
    registry.write_current(current)
    registry.store.close()
    return place.directory


@pytest.fixture
def place(published, tmp_path) -> Place:
    shutil.copytree(published, tmp_path / "snapshots")
    return Place(tmp_path / "snapshots")


def assert_is_version(place: Place, published: Path, version: int, found: State) -> None:
    record = place.versions.read(version)
    expected = SnapshotStore(published).read(record).state
    assert state_sha256(found) == record.state_sha256
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }


class TestRebuild:
    def test_versions_differ(self, place):
        hashes = {record.version: record.state_sha256 for record in place.versions.records()}

        assert hashes[ROLLED_BACK] == hashes[TO]
        assert len(set(hashes.values())) == NEWEST

    @pytest.mark.parametrize("version", range(NEWEST + 1))
    def test_version_is_rebuilt_from_version_0(self, place, published, version):
        place.keep(CREATED)
        state, metadata = place.rebuilder.rebuild(version)

        assert_is_version(place, published, version, state)
        assert metadata == METADATA | {"version": str(version)}
        assert place.learned == LEARNED[version]

    @pytest.mark.parametrize(
        ("kept", "version", "learned"),
        [
            ([0, 7], 10, [8, 9, 10]),
            ([0, 9], 10, [10]),
            ([0, 5], 10, [6, 7, 8, 9, 10]),
            ([0, 2, 4], 10, [6, 7, 8, 9, 10]),
            ([0, 1, 4], 6, [2, 6]),
            ([3, 10], 4, [4]),
            ([2], 5, []),
        ],
    )
    def test_version_is_rebuilt_from_the_nearest_snapshot_before(
        self, place, published, kept, version, learned
    ):
        place.keep(*kept)
        state, _ = place.rebuilder.rebuild(version)

        assert_is_version(place, published, version, state)
        assert place.learned == learned

    def test_kept_version_is_rebuilt_all_the_same(self, place, published):
        state, _ = place.rebuilder.rebuild(NEWEST)

        assert_is_version(place, published, NEWEST, state)
        assert place.learned == [NEWEST]

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b""])
    def test_damaged_snapshot_is_passed_over_for_an_earlier_one(self, place, published, damage):
        place.keep(6, 8)
        path = place.snapshot(8)
        path.write_bytes(damage(path.read_bytes()))
        state, _ = place.rebuilder.rebuild(NEWEST)

        assert_is_version(place, published, NEWEST, state)
        assert place.learned == [7, 8, 9, 10]

    def test_state_is_that_of_the_snapshot_when_it_is_kept(self, place, published):
        state, metadata = place.rebuilder.state_of(7)

        assert_is_version(place, published, 7, state)
        assert metadata == METADATA | {"version": "7"}
        assert place.learned == []

    def test_state_is_rebuilt_when_its_snapshot_is_not_kept(self, place, published):
        place.keep(6)
        state, metadata = place.rebuilder.state_of(7)

        assert_is_version(place, published, 7, state)
        assert metadata == METADATA | {"version": "7"}
        assert place.learned == [7]


class TestWhatCannotBeRebuilt:
    def test_missing_rows_are_reported(self, place):
        place.keep(CREATED)
        path = place.feedback.path(*BATCHES[3])
        path.unlink()

        with pytest.raises(ModelNotFoundError, match=str(path)):
            place.rebuilder.rebuild(4)
        assert place.learned == [1, 2]

    def test_damaged_rows_are_reported(self, place):
        place.keep(CREATED)
        path = place.feedback.path(*BATCHES[3])
        path.write_bytes(path.read_bytes()[:-9])

        with pytest.raises(RegistryError, match=f"{path} holds no labelled rows"):
            place.rebuilder.rebuild(4)

    @pytest.mark.parametrize(
        "altered",
        [
            lambda rows: (rows.features * (1 + 1e-6), rows.labels),
            lambda rows: (rows.features, 1 - rows.labels),
            lambda rows: (rows.features[::-1], rows.labels[::-1]),
            lambda rows: (rows.features[:-1], rows.labels[:-1]),
        ],
        ids=["features", "labels", "order", "fewer"],
    )
    @pytest.mark.parametrize("version", [3, 4])
    def test_altered_rows_are_named_by_the_version_they_made(self, place, altered, version):
        place.keep(CREATED)
        rows = rows_of(3)
        self.replace_rows(place, 3, *altered(rows))

        with pytest.raises(CorruptStateError, match="version 3 was rebuilt with SHA-256"):
            place.rebuilder.rebuild(version)
        assert place.learned == [1, 2]

    def test_rows_that_the_model_does_not_take_are_reported(self, place):
        rows = rows_of(3)
        self.replace_rows(place, 3, rows.features, rows.labels + 7)

        with pytest.raises(InvalidRowsError):
            place.rebuilder.rebuild(3)

    def replace_rows(self, place: Place, version: int, features, labels) -> None:
        place.feedback.path(*BATCHES[version]).unlink()
        ids = rows_of(version).event_ids[: len(labels)]
        place.feedback.write(*BATCHES[version], LearnedRows(ids, features.copy(), labels.copy()))

    @pytest.mark.parametrize("version", [NEWEST + 1, -1, 1000])
    def test_unknown_version_is_reported(self, place, version):
        for use in (place.rebuilder.rebuild, place.rebuilder.state_of):
            with pytest.raises(UserError, match=f"no version {version}; there are 0 to 10"):
                use(version)

    def test_version_of_an_empty_directory_is_reported(self, tmp_path):
        with pytest.raises(UserError, match="no version 0; there are none"):
            Place(tmp_path).rebuilder.rebuild(0)

    @pytest.mark.parametrize("version", [0, 3, 5, 10])
    def test_model_without_its_first_snapshot_is_reported(self, place, version):
        place.keep()

        with pytest.raises(ModelNotFoundError, match="the snapshot of version 0 is gone"):
            place.rebuilder.rebuild(version)

    def test_snapshot_put_in_the_place_of_another_is_not_taken(self, place, published):
        place.keep(CREATED)
        shutil.copy(published / place.versions.read(4).snapshot, place.snapshot(6))
        state, _ = place.rebuilder.rebuild(7)

        assert_is_version(place, published, 7, state)
        assert place.learned == LEARNED[7]


class TestRollBack:
    @pytest.fixture
    def registry(self, place, server) -> Iterator[ModelRegistry]:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()
        with contextlib.closing(RedisVersionStore(server.url, MODEL)) as store:
            registry = ModelRegistry(store, place.directory)
            registry.recover()
            yield registry

    @pytest.mark.parametrize("to", [0, 3, 5, 9, 10])
    @pytest.mark.parametrize("kept", [range(NEWEST + 1), [0, 10]], ids=["kept", "rebuilt"])
    def test_old_state_is_published_as_a_new_version(self, place, registry, published, to, kept):
        place.keep(*kept)
        before = registry.current()
        record = roll_back(registry, place.rebuilder, to)

        assert record.version == NEWEST + 1
        assert record.origin == {"kind": "rollback", "to": to}
        assert record.state_sha256 == place.versions.read(to).state_sha256
        assert record.parent == before.commit
        assert record == registry.store.read() == VersionLog(place.directory, MODEL).newest()
        stored = registry.read(record)
        state, metadata = stored.state, stored.metadata
        assert_is_version(place, published, to, state)
        assert metadata == METADATA | {"version": "11"}

    def test_batches_learned_since_stay_applied(self, place, registry):
        record = roll_back(registry, place.rebuilder, 1)

        assert record.applied == place.versions.read(NEWEST).applied == {"q": 7, "p": 0}
        assert registry.versions.find("q", 7).version == NEWEST

    def test_rolled_back_version_is_rebuilt_like_any_other(self, place, registry, published):
        roll_back(registry, place.rebuilder, ROLLED_BACK)
        roll_back(registry, place.rebuilder, NEWEST + 1)
        place.keep(CREATED)
        state, _ = place.rebuilder.rebuild(NEWEST + 2)

        assert_is_version(place, published, TO, state)

    def test_nothing_is_published_when_there_is_no_such_state(self, place, registry):
        place.keep(NEWEST)
        for version, error in ((11, UserError), (3, ModelNotFoundError)):
            with pytest.raises(error):
                roll_back(registry, place.rebuilder, version)

        assert registry.current() == place.versions.newest() == place.versions.read(NEWEST)
        assert [path.name for path in place.directory.glob("*.safetensors")] == [
            place.snapshot(NEWEST).name
        ]

    def test_learner_that_publishes_in_between_is_not_undone(self, place, registry):
        rivals = [registry, registry]
        overtaken = Overtaken(registry.store, place.directory, rivals)
        record = roll_back(overtaken, place.rebuilder, 3)

        assert (rivals, record.version) == ([], NEWEST + 3)
        assert record.applied == {"q": 9, "p": 0}
        assert record.state_sha256 == place.versions.read(3).state_sha256
        assert [r.origin["kind"] for r in place.versions.records(11)] == [
            "batch",
            "batch",
            "rollback",
        ]
        snapshots = {path.name for path in place.directory.glob("*.safetensors")}
        assert snapshots == {each.snapshot for each in place.versions.records()}

    def test_rollbacks_and_batches_race_and_none_is_lost(self, place, registry, server):
        n, barrier = 8, threading.Barrier(2)

        def learn() -> list[ModelVersion]:
            barrier.wait(10)
            return [publish_batch(place.registry(server.url)) for _ in range(n)]

        def undo() -> list[ModelVersion]:
            barrier.wait(10)
            return [roll_back(registry, place.rebuilder, 3) for _ in range(n)]

        with ThreadPoolExecutor(2) as threads:
            learning, undoing = threads.submit(learn), threads.submit(undo)
            batches, rollbacks = learning.result(), undoing.result()

        records = list(place.versions.records(NEWEST + 1))
        assert records == sorted(batches + rollbacks, key=lambda record: record.version)
        assert len(records) == 2 * n
        assert [record.applied["q"] for record in batches] == list(range(8, 8 + n))
        assert all(one.commit == two.parent for one, two in itertools.pairwise(records))
        assert registry.store.read() == records[-1]
