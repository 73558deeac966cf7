"""The registry against a real redis-server: commits, leases, and recovery from loss."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis

from app.errors import (
    CorruptStateError,
    InvalidParameterError,
    ModelNotFoundError,
    RegistryError,
    RegistryUnavailableError,
    StaleLearnerError,
    StateError,
    VersionConflictError,
)
from app.model.state import state_from_bytes, state_sha256, state_to_bytes
from app.registry.embedded import EmbeddedRedis
from app.registry.head import HeadRecord, HeadStore
from app.registry.registry import Lease, ModelRegistry
from app.registry.snapshots import SnapshotStore, verified_state
from app.registry.url import check_redis_url, without_password

METADATA = {"config": '{"beta": 0.99}', "classes": "no,yes"}
SECRET = "hunter2"


def state_of(value: float) -> dict[str, np.ndarray]:
    return {"alpha": np.array([value, 0.5]), "row_count": np.array(3)}


class Place:
    """One model on the shared server, one snapshot directory, and registries over them."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        self.model = f"m-{uuid.uuid4().hex[:8]}"
        self.redis = redis.Redis.from_url(url, socket_timeout=10)
        self._open = contextlib.ExitStack()
        self._open.callback(self.redis.close)
        self.registry = self.open()

    def open(self, directory: Path | None = None, model: str | None = None) -> ModelRegistry:
        heads = HeadStore(self.url, model or self.model)
        self._open.callback(heads.close)
        return ModelRegistry(heads, SnapshotStore(directory or self.directory))

    def close(self) -> None:
        self._open.close()

    def key(self, suffix: str) -> str:
        return f"hbp:{{{self.model}}}:{suffix}"

    def contents(self) -> dict[str, bytes]:
        """Return all that Redis holds of the model."""
        keys = sorted(key.decode() for key in self.redis.scan_iter(self.key("*")))
        return {key: self.redis.dump(key) for key in keys}

    def lose(self) -> None:
        """Empty Redis of the model."""
        for key in self.contents():
            self.redis.delete(key)

    def rewind(self, contents: dict[str, bytes]) -> None:
        """Bring Redis back to what it held, as a restart from an older dump does."""
        self.lose()
        for key, value in contents.items():
            self.redis.restore(key, 0, value)

    def kept_versions(self) -> set[int]:
        return {int(key.rpartition(":")[2]) for key in self.contents() if ":state:" in key}

    @property
    def head_file(self) -> Path:
        return self.directory / "HEAD.json"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def place(server, tmp_path) -> Iterator[Place]:
    place = Place(server.url, tmp_path / "snapshots")
    yield place
    place.close()


@pytest.fixture
def registry(place) -> ModelRegistry:
    """Return the registry of a model at version 0."""
    place.registry.create(state_of(0), METADATA)
    return place.registry


@pytest.fixture
def lease(registry) -> Lease:
    return registry.acquire("q")


def commit(registry: ModelRegistry, lease: Lease, value: float | None = None) -> HeadRecord:
    """Publish the next version up to the commit, as a learner does that dies right after it."""
    base = registry.heads.read()
    batch = base.applied.get(lease.query, -1) + 1
    value = base.version + 1 if value is None else value
    record, data = registry.stage(base, lease, batch, state_of(value), METADATA)
    registry.commit(base, lease, record, data)
    return record


def publish(registry: ModelRegistry, lease: Lease, value: float | None = None) -> HeadRecord:
    record = commit(registry, lease, value)
    registry.record_head(record, lease)
    return record


@contextlib.contextmanager
def announced(place: Place) -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns the versions announced since the block was entered."""
    end = b"end"
    with place.redis.pubsub() as subscriber:
        subscriber.subscribe(place.key("versions"))
        assert subscriber.get_message(timeout=10)["type"] == "subscribe"

        def versions() -> list[str]:
            place.redis.publish(place.key("versions"), end)
            messages = iter(lambda: subscriber.get_message(timeout=10)["data"], end)
            return [message.decode() for message in messages]

        yield versions


@contextlib.contextmanager
def nothing_changes(place: Place) -> Iterator[None]:
    redis_before, head_before = place.contents(), place.registry.snapshots.read_head()
    with announced(place) as versions:
        yield
        assert versions() == []
    assert place.contents() == redis_before
    assert place.registry.snapshots.read_head() == head_before


def test_created_model_is_loaded(place):
    record = place.registry.create(state_of(7), METADATA)
    loaded, state, metadata = place.open().load()

    assert loaded == record
    assert (record.version, record.applied) == (0, {})
    assert record.state_sha256 == state_sha256(state) == state_sha256(state_of(7))
    assert metadata == METADATA | {"version": "0"}
    assert place.registry.snapshots.read_head().record == record


def test_created_model_stays_when_created_again(place, registry, lease):
    published = publish(registry, lease)
    with nothing_changes(place):
        assert registry.create(state_of(99), METADATA) == published


def test_created_model_is_the_one_on_disk_when_redis_lost_it(place, registry, lease):
    published = publish(registry, lease)
    place.lose()

    assert place.open().create(state_of(99), METADATA) == published


def test_absent_model_is_told(place):
    assert place.registry.heads.read() is None
    assert place.registry.heads.read_version() is None
    with pytest.raises(ModelNotFoundError, match=place.model):
        place.registry.load()


def test_models_on_one_server_are_apart(place, registry, tmp_path):
    other = place.open(tmp_path / "other", "other-" + place.model)
    other.create(state_of(5), METADATA)
    publish(other, other.acquire("q"))

    assert registry.load()[0].version == 0


def test_publish_moves_the_version_by_one(place, registry, lease):
    for version in (1, 2, 3):
        record = publish(registry, lease)
        loaded, state, metadata = place.open().load()

        assert loaded == record
        assert loaded.version == version == registry.heads.read_version()
        assert loaded.applied == {"q": version - 1}
        np.testing.assert_array_equal(state["alpha"], state_of(version)["alpha"])
        assert metadata["version"] == str(version)


def test_staged_version_is_on_disk_and_not_current(place, registry, lease):
    with nothing_changes(place):
        record, data = registry.stage(registry.heads.read(), lease, 0, state_of(1), METADATA)

    assert registry.snapshots.read_bytes(record.snapshot) == data
    assert record.version == 1


def test_learners_that_stage_the_same_version_do_not_overwrite_each_other(place, registry, lease):
    base, other = registry.heads.read(), registry.acquire("other")
    record, data = registry.stage(base, lease, 0, state_of(1), METADATA)
    registry.stage(base, other, 0, state_of(2), METADATA)
    registry.commit(base, lease, record, data)
    registry.record_head(record, lease)
    place.lose()

    assert registry.recover() == record
    np.testing.assert_array_equal(registry.load()[1]["alpha"], state_of(1)["alpha"])


def test_batches_of_every_query_are_remembered(registry, lease):
    publish(registry, lease)
    record = publish(registry, registry.acquire("other"))

    assert record.applied == {"q": 0, "other": 0}
    assert registry.heads.read() == record


def test_redis_keeps_the_newest_three_states(place, registry, lease):
    kept = [place.kept_versions()]
    for _ in range(11):
        publish(registry, lease)
        kept.append(place.kept_versions())

    assert kept == [set(range(max(0, n - 2), n + 1)) for n in range(12)]


def test_every_snapshot_stays_on_disk(place, registry, lease):
    for _ in range(5):
        publish(registry, lease)

    names = sorted(path.name for path in place.directory.glob("*.safetensors"))
    assert [int(name[1:11]) for name in names] == list(range(6))


def test_version_10_comes_after_version_9(place, registry, lease):
    for _ in range(9):
        publish(registry, lease)
    at_nine = place.contents()
    ten = publish(registry, lease)

    assert place.registry.recover() == ten
    place.rewind(at_nine)
    assert registry.heads.read_version() == 9
    assert registry.recover() == ten
    assert max(place.directory.glob("*.safetensors")).name == ten.snapshot


def test_channel_announces_each_version(place, registry, lease):
    with announced(place) as versions:
        for _ in range(11):
            publish(registry, lease)

        assert versions() == [str(version) for version in range(1, 12)]


def test_restored_version_is_announced(place, registry, lease):
    publish(registry, lease)
    place.lose()
    with announced(place) as versions:
        registry.recover()

        assert versions() == ["1"]


def test_commit_on_an_older_base_is_refused_and_changes_nothing(place, registry, lease):
    base = registry.heads.read()
    staged = registry.stage(base, lease, 0, state_of(1), METADATA)
    publish(registry, registry.acquire("other"))

    with nothing_changes(place), pytest.raises(VersionConflictError, match="at version 1, not 0"):
        registry.commit(base, lease, *staged)


def test_commit_on_a_lost_redis_is_refused_and_changes_nothing(place, registry, lease):
    base = registry.heads.read()
    staged = registry.stage(base, lease, 0, state_of(1), METADATA)
    place.lose()

    with nothing_changes(place), pytest.raises(VersionConflictError):
        registry.commit(base, lease, *staged)


def test_stale_lease_is_refused_by_the_fence_and_changes_nothing(place, registry, lease):
    newer = registry.acquire("q")

    registry.fence(newer)
    with nothing_changes(place), pytest.raises(StaleLearnerError, match="epoch 1, but epoch 2"):
        registry.fence(lease)


def test_stale_lease_cannot_commit_and_changes_nothing(place, registry, lease):
    base = registry.heads.read()
    staged = registry.stage(base, lease, 0, state_of(1), METADATA)
    newer = registry.acquire("q")

    with nothing_changes(place), pytest.raises(StaleLearnerError, match="epoch 1, but epoch 2"):
        registry.commit(base, lease, *staged)
    assert publish(registry, newer).version == 1


def test_lease_on_another_query_makes_none_stale(registry, lease):
    other = registry.acquire("other")
    for held in (lease, other):
        registry.fence(held)
        publish(registry, held)

    assert registry.heads.read_version() == 2


def test_epochs_grow_by_one(registry):
    assert [registry.acquire("q").epoch for _ in range(11)] == list(range(1, 12))


def test_one_of_two_racing_learners_wins(place, registry):
    learners = [(place.open(), registry.acquire(query)) for query in ("a", "b")]
    for value in range(1, 21):
        base = registry.heads.read()
        barrier = threading.Barrier(2)
        staged = [
            learner.stage(base, lease, value, state_of(value + number / 2), METADATA)
            for number, (learner, lease) in enumerate(learners)
        ]
        outcomes: dict[int, str] = {}

        def race(number: int, base=base, barrier=barrier, staged=staged, outcomes=outcomes) -> None:
            learner, lease = learners[number]
            barrier.wait(10)
            try:
                learner.commit(base, lease, *staged[number])
                outcomes[number] = "won"
            except VersionConflictError:
                outcomes[number] = "lost"

        threads = [threading.Thread(target=race, args=[number]) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(outcomes.values()) == ["lost", "won"]
        winner = min(outcomes, key=lambda number: outcomes[number] != "won")
        record, state, _ = registry.load()
        assert record == staged[winner][0]
        assert record.version == base.version + 1
        np.testing.assert_array_equal(state["alpha"], state_of(value + winner / 2)["alpha"])


def test_commit_whose_reply_is_lost_is_no_conflict(place, registry, lease, monkeypatch):
    base = registry.heads.read()
    record, data = registry.stage(base, lease, 0, state_of(1), METADATA)
    published, read_response = 1, redis.Connection.read_response
    replies_lost = itertools.count()

    def lose_first_reply(connection, *args, **kwargs):
        response = read_response(connection, *args, **kwargs)
        if response == published and next(replies_lost) == 0:
            connection.disconnect()
            raise redis.ConnectionError("Connection reset by peer")
        return response

    with monkeypatch.context() as patch:
        patch.setattr(redis.Connection, "read_response", lose_first_reply)
        with contextlib.suppress(RegistryUnavailableError):
            registry.commit(base, lease, record, data)

    assert next(replies_lost) > 0
    assert registry.recover() == record
    assert registry.snapshots.read_head().record == record


def test_load_takes_the_snapshot_when_redis_no_longer_keeps_the_state(place, registry, lease):
    record = publish(registry, lease)
    place.redis.delete(place.key("state:1"))

    loaded, state, _ = registry.load()
    assert loaded == record
    assert state_sha256(state) == record.state_sha256
    assert verified_state(registry.read_bytes(record), record.state_sha256, "snapshot")


def test_load_refuses_a_state_with_another_hash(place, registry, lease):
    publish(registry, lease)
    place.redis.set(place.key("state:1"), state_to_bytes(state_of(99), METADATA))

    with pytest.raises(CorruptStateError, match="version 1"):
        registry.load()


def test_recover_knows_no_model_where_there_is_none(place):
    assert place.registry.recover() is None
    assert place.contents() == {}
    assert not place.head_file.exists()


def test_recover_changes_nothing_when_all_is_well(place, registry, lease):
    record = publish(registry, lease)
    with nothing_changes(place):
        assert registry.recover() == record


def test_empty_redis_is_restored_from_disk(place, registry, lease):
    publish(registry, lease)
    record = publish(registry, lease)
    place.lose()

    recovered = place.open().recover()
    loaded, state, _ = registry.load()

    assert recovered == loaded == record
    assert state_sha256(state) == record.state_sha256
    assert place.kept_versions() == {2}


def test_flushed_server_is_restored_from_disk(tmp_path):
    with EmbeddedRedis() as server:
        place = Place(server.url, tmp_path)
        place.registry.create(state_of(0), METADATA)
        record = publish(place.registry, place.registry.acquire("q"))
        place.redis.flushall()

        assert place.registry.recover() == record
        assert publish(place.registry, place.registry.acquire("q")).version == 2
        place.close()


def test_redis_behind_the_disk_is_brought_forward(place, registry, lease):
    publish(registry, lease)
    older = place.contents()
    publish(registry, lease)
    record = publish(registry, lease)
    place.rewind(older)
    assert registry.heads.read_version() == 1

    assert registry.recover() == record
    assert registry.heads.read() == record
    assert state_sha256(registry.load()[1]) == record.state_sha256


def test_redis_brought_forward_keeps_the_newest_three_states(place, registry, lease):
    publish(registry, lease)
    older = place.contents()
    for _ in range(6):
        publish(registry, lease)
    place.rewind(older)
    registry.recover()
    lease = registry.acquire("q")
    for _ in range(3):
        publish(registry, lease)

    assert place.kept_versions() == {8, 9, 10}


def test_head_file_behind_redis_is_written_again(place, registry, lease):
    publish(registry, lease)
    record = commit(registry, lease)
    assert registry.snapshots.read_head().record.version == 1

    with_redis = place.contents()
    assert place.open().recover() == record
    durable = registry.snapshots.read_head()
    assert (durable.model, durable.record, durable.epochs) == (place.model, record, {"q": 1})
    assert place.contents() == with_redis


def test_version_committed_by_a_crashed_learner_survives_the_loss_of_redis(place, registry, lease):
    record = commit(registry, lease)
    registry.recover()
    place.lose()

    assert registry.recover() == record


def test_snapshot_that_is_not_here_is_fetched_from_redis(place, registry, lease, tmp_path):
    record = publish(registry, lease)
    elsewhere = place.open(tmp_path / "elsewhere")

    assert elsewhere.recover() == record
    assert elsewhere.snapshots.read_head().record == record
    data = elsewhere.snapshots.read_bytes(record.snapshot)
    assert state_sha256(state_from_bytes(data)[0]) == record.state_sha256

    place.lose()
    assert elsewhere.recover() == record


def test_damaged_state_in_redis_does_not_reach_the_disk(place, registry, lease, tmp_path):
    publish(registry, lease)
    place.redis.set(place.key("state:1"), state_to_bytes(state_of(99), METADATA))

    with pytest.raises(CorruptStateError):
        place.open(tmp_path / "elsewhere").recover()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_state_that_nobody_holds_is_told(place, registry, lease, tmp_path):
    publish(registry, lease)
    place.redis.delete(place.key("state:1"))

    with pytest.raises(ModelNotFoundError, match="version 1"):
        place.open(tmp_path / "elsewhere").recover()
    assert not (tmp_path / "elsewhere" / "HEAD.json").exists()


def test_directory_of_another_model_is_refused(place, registry):
    other = place.open(model="other-" + place.model)

    with nothing_changes(place), pytest.raises(RegistryError, match=f"holds model '{place.model}'"):
        other.recover()
    assert other.heads.read() is None


@pytest.mark.parametrize("where", ["length", "header", "settings", "values"])
def test_damaged_snapshot_is_refused_and_changes_nothing(place, registry, lease, where):
    record = publish(registry, lease)
    snapshot = place.directory / record.snapshot
    data = bytearray(snapshot.read_bytes())
    beta = data.index(b"0.99")
    data[{"length": 0, "header": 9, "settings": beta + 3, "values": -1}[where]] ^= 1
    snapshot.write_bytes(data)
    place.lose()

    with nothing_changes(place), pytest.raises(StateError):
        registry.recover()


def test_cut_snapshot_is_refused_and_changes_nothing(place, registry, lease):
    record = publish(registry, lease)
    snapshot = place.directory / record.snapshot
    snapshot.write_bytes(snapshot.read_bytes()[:-8])
    place.lose()

    with nothing_changes(place), pytest.raises(StateError):
        registry.recover()


def test_missing_snapshot_is_told_and_changes_nothing(place, registry, lease):
    record = publish(registry, lease)
    (place.directory / record.snapshot).unlink()
    place.lose()

    with nothing_changes(place), pytest.raises(ModelNotFoundError, match=record.snapshot):
        registry.recover()


def test_any_flipped_byte_of_the_arrays_or_their_names_is_noticed():
    data, sha256 = state_to_bytes(state_of(1), {}), state_sha256(state_of(1))
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(StateError):
            verified_state(bytes(damaged), sha256, f"byte {position} flipped")


def cut(text: str) -> str:
    return text[: len(text) // 2]


def without(field: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != field})


def with_value(field: str, value: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | {field: value})


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda text: "",
        lambda text: "\x00" * len(text),
        lambda text: "null",
        lambda text: "[]",
        lambda text: "{}",
        without("model"),
        without("epochs"),
        without("version"),
        without("snapshot"),
        with_value("colour", "red"),
        with_value("version", "1"),
        with_value("version", None),
        with_value("snapshot", None),
        with_value("epochs", None),
        with_value("epochs", {"q": "1"}),
        with_value("applied", None),
        with_value("applied", {"q": "0"}),
    ],
    ids=[
        "half", "empty", "zeros", "null", "list", "no-fields", "no-model", "no-epochs",
        "no-version", "no-snapshot", "unknown-field", "version-text", "version-null",
        "snapshot-null", "epochs-null", "epoch-text", "applied-null", "batch-text",
    ],
)  # fmt: skip
def test_unreadable_head_file_is_told_and_changes_nothing(place, registry, lease, damage):
    publish(registry, lease)
    place.lose()
    place.head_file.write_text(damage(place.head_file.read_text()))
    damaged = place.head_file.read_bytes()

    with pytest.raises(RegistryError, match="HEAD.json"):
        registry.recover()
    assert place.contents() == {}
    assert place.head_file.read_bytes() == damaged


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", "nine"), ("applied", "{"), ("applied", "[]"), ("applied", '{"q": "x"}')],
)
def test_unreadable_head_record_is_told(place, registry, field, value):
    place.redis.hset(place.key("head"), field, value)

    with pytest.raises(RegistryError, match="head record"):
        registry.heads.read()


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(HeadRecord)])
def test_head_record_without_a_field_is_told(place, registry, field):
    place.redis.hdel(place.key("head"), field)

    with pytest.raises(RegistryError, match=field):
        registry.heads.read()


def test_head_record_with_an_unreadable_version_is_told_when_recovering(place, registry):
    place.redis.hset(place.key("head"), "version", "nine")

    with pytest.raises(RegistryError):
        registry.recover()


def test_key_of_another_type_is_told(place):
    place.redis.set(place.key("head"), "text")

    with pytest.raises(RegistryError, match="WRONGTYPE"):
        place.registry.heads.read()


def test_epoch_after_a_loss_of_redis_is_above_the_recorded_one(place, registry):
    for _ in range(4):
        lease = registry.acquire("q")
    publish(registry, lease)
    place.lose()
    registry.recover()

    assert lease.epoch == 4
    assert registry.acquire("q").epoch == 5
    assert registry.acquire("never seen").epoch == 1


def test_epoch_is_above_the_one_in_redis_when_that_is_the_higher(registry, lease):
    publish(registry, lease)
    registry.acquire("q")

    assert registry.acquire("q").epoch == 3


def test_epoch_given_out_and_not_yet_recorded_is_not_given_again_after_a_loss(place, registry):
    first = registry.acquire("q")
    place.lose()
    registry.recover()

    assert registry.acquire("q").epoch > first.epoch


def test_stale_lease_stays_stale_after_a_loss_of_redis(place, registry, lease):
    publish(registry, registry.acquire("q"))
    place.lose()
    registry.recover()

    with pytest.raises(StaleLearnerError):
        registry.fence(lease)


def test_only_learner_carries_on_after_a_loss_of_redis(place, registry, lease):
    publish(registry, lease)
    place.lose()
    registry.recover()
    registry.fence(lease)

    assert publish(registry, lease).version == 2


def test_slow_learner_does_not_take_the_head_file_back(place, registry, lease):
    slow = commit(registry, lease)
    newest = publish(registry, registry.acquire("other"))
    registry.record_head(slow, lease)

    assert registry.snapshots.read_head().record == newest
    place.lose()
    assert registry.recover() == newest


def test_slow_learner_does_not_take_a_recorded_epoch_back(place, registry, lease):
    slow = commit(registry, lease)
    newer = registry.acquire("q")
    publish(registry, newer)
    registry.record_head(slow, lease)

    assert registry.snapshots.read_head().epochs == {"q": newer.epoch}


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda heads: heads.read(),
        lambda heads: heads.read_version(),
        lambda heads: heads.read_state(0),
        lambda heads: heads.read_epoch("q"),
        lambda heads: heads.raise_epoch("q"),
        lambda heads: heads.restore(HeadRecord(0, "", "", ""), b""),
        lambda heads: heads.publish(HeadRecord(1, "", "", ""), b"", expected=0, query="q", epoch=1),
    ],
    ids=["read", "version", "state", "epoch", "raise-epoch", "restore", "publish"],
)
def test_unreachable_server_is_told_without_the_password(call):
    port = unused_port()
    heads = HeadStore(f"redis://learner:{SECRET}@127.0.0.1:{port}/0", "m")

    with pytest.raises(RegistryUnavailableError, match=f"127.0.0.1:{port}") as caught:
        call(heads)
    assert SECRET not in str(caught.value)


def test_wrong_password_is_told_and_not_shown(server):
    address = server.url.rpartition("@")[2]
    heads = HeadStore(f"redis://default:{SECRET}@{address}", "m")

    with contextlib.closing(heads), pytest.raises(RegistryError, match="password") as caught:
        heads.read()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://learner:{SECRET}@cache:6380/1",
        f"redis://:{SECRET}@cache",
        f"rediss://learner:{SECRET}@cache",
        f"redis://learner:p@{SECRET}@cache",
        f"redis://cache/0?password={SECRET}",
        f"unix://learner:{SECRET}@/run/redis.sock",
        f"unix:///run/redis.sock?db=1&password={SECRET}",
        f"redis://learner:12/{SECRET}@cache:6380/1",
        f"redis://learner:12#{SECRET}@cache:6380/1",
        f"redis://learner:12?{SECRET}@cache:6380/1",
    ],
)
def test_shown_url_has_no_password(url):
    assert SECRET not in without_password(url)


def test_shown_url_names_the_server():
    assert without_password("redis://learner:pw@cache:6380/1") == "redis://cache:6380/1"
    assert without_password("rediss://cache") == "rediss://cache"


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "redis://cache:6380/1",
        "redis://learner:p%2Fw@cache:6380/1?socket_timeout=5",
        "redis://[::1]:6379/0",
        "rediss://cache/0",
        "unix:///run/redis.sock",
        "unix://learner:pw@/run/redis.sock?db=1",
    ],
)
def test_usable_url_is_taken(url):
    check_redis_url(url)
    HeadStore(url, "m").close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache",
        "cache:6379",
        "//cache:6379",
        f"http://learner:{SECRET}@cache:6379",
        "redis:",
        "redis://",
        "redis:///0",
        f"redis://:{SECRET}@",
        "redis://cache:port",
        "redis://cache:65536",
        "redis://[::1",
        f"redis://learner:{SECRET}/w@cache",
    ],
)
def test_unusable_url_is_refused_and_not_shown(url):
    with pytest.raises(InvalidParameterError, match="redis_url must look like") as caught:
        HeadStore(url, "m")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "REDIS://cache",
        " redis://cache",
        "unix:/run/redis.sock",
        "redis://cache/0?socket_timeout=soon",
    ],
)
def test_url_that_the_client_refuses_is_refused_as_a_setting(url):
    with pytest.raises(InvalidParameterError, match="redis_url"):
        HeadStore(url, "m")


def test_url_with_an_option_that_the_client_does_not_know_is_refused_as_a_setting(server):
    with pytest.raises(InvalidParameterError, match="redis_url"):
        HeadStore(server.url + "?nonsense=1", "m").read()
