"""Whoever can write the keys in Redis: what the version log knows decides, whatever they hold."""

from __future__ import annotations

import dataclasses
import json

import pytest

from app.errors import RegistryError
from app.model.state import state_sha256, state_to_bytes
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.snapshots import Retention
from app.registry.version import ModelVersion
from tests.unit.places import (
    METADATA,
    Place,
    commit,
    nothing_changes,
    publish,
    stage,
    state_of,
)

CALLS = {
    "recover": lambda place: place.open().recover(),
    "create": lambda place: place.open().create(state_of(0), METADATA),
    "current": lambda place: place.open().current(place.records()[-1]),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())

TYPES = {
    "string": lambda client, key: client.set(key, "text"),
    "list": lambda client, key: client.rpush(key, "text"),
    "set": lambda client, key: client.sadd(key, "text"),
    "sorted set": lambda client, key: client.zadd(key, {"text": 1}),
    "hash": lambda client, key: client.hset(key, "name", "text"),
    "stream": lambda client, key: client.xadd(key, {"name": "text"}),
}


def put(place: Place, record: ModelVersion, state: bytes | None = None) -> None:
    """Put a record of anybody's making into Redis, with hashes that fit."""
    key = place.key("head")
    store = place.redis.hget(key, "store") or str(place.directory)
    place.redis.delete(key)
    place.redis.hset(key, mapping={**record.to_fields(), "store": store})
    if state is not None:
        place.redis.set(place.key(f"state:{record.version}"), state)


def next_version(base: ModelVersion, **changes: object) -> tuple[ModelVersion, bytes]:
    """Return a version after ``base`` that no learner has made, and its state."""
    state, version = state_of(99), base.version + 1
    sha256 = state_sha256(state)
    record = dataclasses.replace(
        base,
        version=version,
        state_sha256=sha256,
        snapshot=f"v{version:010d}-{sha256[:16]}.safetensors",
        commit="f" * 16,
        parent=base.commit,
        applied=base.applied | {"q": 1000},
        origin={"kind": "batch", "query": "q", "batch": 1000},
    )
    data = state_to_bytes(state, METADATA | {"version": str(version)})
    return dataclasses.replace(record, **changes), data


class TestAnotherHistory:
    @pytest.fixture
    def record(self, place, registry, lease, tmp_path) -> ModelVersion:
        """Return version 1, while Redis holds version 5 of another model of that name."""
        record = publish(registry, lease)
        other = Place(place.url, tmp_path / "other")
        other.registry.create(state_of(0), METADATA)
        held = other.registry.acquire("q")
        for _ in range(5):
            newest = publish(other.registry, held)
        state = other.redis.get(other.key("state:5"))
        place.redis.delete(place.key("head"))
        put(place, newest, state)
        other.close()
        return record

    @every_call
    def test_longer_one_is_refused_and_nothing_changes(self, place, record, call):
        message = (
            rf"version 5 \(commit \w+\) of model '{place.model}', and {place.directory} ends at "
            rf"version 1 \(commit {record.commit}\).* different histories .*"
            rf"delete the keys hbp:\{{{place.model}\}}:\*"
        )
        snapshots = place.snapshots()

        with nothing_changes(place), pytest.raises(RegistryError, match=message):
            call(place)
        assert place.snapshots() == snapshots

    def test_remedy_is_one(self, place, record):
        place.lose()

        assert place.open().recover() == place.registry.store.read() == record


class TestNextVersion:
    """What is ahead of the version log counts only if it was staged."""

    def test_version_that_nobody_staged_is_refused(self, place, registry, lease):
        record = publish(registry, lease)
        put(place, *next_version(record))

        with nothing_changes(place), pytest.raises(RegistryError, match="different histories"):
            place.open().recover()

    @pytest.mark.parametrize(
        "changes",
        [
            {"applied": {"q": 1000}},
            {"origin": {"kind": "batch", "query": "q", "batch": 1000}},
            {"published_at": "2099-01-01T00:00:00.000+00:00"},
            {"metadata_sha256": ""},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_staged_version_with_a_forged_field_is_refused(self, place, registry, lease, changes):
        record = publish(registry, lease)
        staged = commit(registry, lease)
        put(place, dataclasses.replace(staged.record, **changes))

        with nothing_changes(place), pytest.raises(RegistryError, match="different histories"):
            place.open().recover()
        place.lose()
        assert place.open().recover() == record

    def test_batches_are_not_taken_for_learned(self, place, registry, lease):
        record = publish(registry, lease)
        put(place, dataclasses.replace(record, applied={"q": 1000}))

        recovered = place.open().recover()
        assert recovered == record == registry.store.read()
        assert not recovered.has_learned("q", 1)

    def test_damaged_staged_record_is_as_good_as_none(self, place, registry, lease):
        commit(registry, lease)
        [path] = place.directory.glob("staged/*")
        path.write_text("[" * 100_000)

        with nothing_changes(place), pytest.raises(RegistryError, match="different histories"):
            place.open().recover()


class TestPaths:
    @pytest.fixture
    def outside(self, tmp_path):
        outside = tmp_path / "thesis.tex"
        outside.write_text("all of it")
        return outside

    def test_file_that_a_record_names_is_never_touched(self, place, registry, lease, outside):
        record = publish(registry, lease)
        put(place, *next_version(record, snapshot=str(outside)))
        store = RedisVersionStore(place.url, place.model)
        short = ModelRegistry(store, place.directory, Retention(newest=1, every=0))
        held = short.acquire("q")
        for _ in range(3):
            publish(short, held)
        store.close()

        assert outside.read_text() == "all of it"
        assert [each.version for each in place.records()] == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("query", ["../..", "/etc", "a/b", ""])
    def test_query_that_a_record_names_is_never_a_path(self, place, registry, lease, query):
        record = publish(registry, lease)
        origin = {"kind": "batch", "query": query, "batch": 0}
        put(place, *next_version(record, origin=origin, applied={query: 0}))

        assert place.open().recover() == record == registry.store.read()


class TestMetadata:
    SWAPPED = METADATA | {"classes": "yes,no"}

    @pytest.fixture
    def record(self, place, registry, lease) -> ModelVersion:
        """Return the newest version, whose state in Redis has its classes swapped."""
        record = publish(registry, lease)
        swapped = state_to_bytes(state_of(1), self.SWAPPED | {"version": "1"})
        place.redis.set(place.key("state:1"), swapped)
        return record

    def test_swapped_classes_are_never_read(self, place, registry, record):
        assert registry.read(record).metadata["classes"] == "no,yes"
        assert place.open().recover_state()[1].metadata["classes"] == "no,yes"

    def test_swapped_classes_are_put_right(self, place, registry, record):
        place.open().recover()

        assert b"no,yes" in place.redis.get(place.key("state:1"))


@pytest.mark.timeout(20)
class TestNumbers:
    """A number that Python reads, and a script in Redis compares as text."""

    @pytest.mark.parametrize("text", ["01", "+1", " 1", "1 ", "0_1", "1.0", "\u0661", "1" * 400])
    def test_version_in_another_form_is_damage(self, place, registry, lease, text):
        record = publish(registry, lease)
        base, staged = stage(registry, lease)
        place.redis.hset(place.key("head"), "version", text)
        registry.commit(base, staged, lease)
        registry.finalize(staged)

        assert place.open().recover() == staged.record == registry.store.read()
        assert staged.record.parent == record.commit

    @pytest.mark.parametrize("text", ["01", "+1", " 1", "9" * 18, "9" * 400])
    def test_version_in_another_form_is_put_right(self, place, registry, lease, text):
        record = publish(registry, lease)
        place.redis.hset(place.key("head"), "version", text)

        assert registry.current(record) == record == registry.store.read()

    @pytest.mark.parametrize(
        "epoch", ["99999999999999999999", "9007199254740993", "9" * 17, "9" * 400, "01", "-1", ""]
    )
    @pytest.mark.parametrize("lost", [False, True], ids=["", "lost"])
    def test_forged_epoch_keeps_no_learner_from_its_work(self, place, registry, lease, epoch, lost):
        publish(registry, lease)
        place.redis.set(place.key("epoch:q"), epoch)
        # A run that is at work.
        registry.fence(lease)
        publish(registry, lease)
        assert place.redis.get(place.key("epoch:q")) == b"1"

        place.redis.set(place.key("epoch:q"), epoch)
        successor = place.open()
        held = successor.acquire("q")
        if lost:
            place.lose()
        assert publish(successor, held).version == 3
        again = place.open().acquire("q")
        assert again.epoch == held.epoch + 1 < 10**18
        assert publish(successor, again).version == 4
        with pytest.raises(RegistryError, match="newer learner"):
            registry.fence(lease)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("of_type", TYPES)
class TestTypes:
    @pytest.mark.parametrize("key", ["head", "state:1", "epoch:q"])
    def test_key_of_another_type_is_as_good_as_lost(self, place, registry, lease, of_type, key):
        record = publish(registry, lease)
        place.redis.delete(place.key(key))
        TYPES[of_type](place.redis, place.key(key))

        assert place.open().recover() == record == registry.store.read()
        assert registry.read(record).data == place.redis.get(place.key("state:1"))
        assert publish(registry, lease).version == 2
        assert publish(place.open(), place.open().acquire("q")).version == 3

    @pytest.mark.parametrize("key", ["head", "state:2", "epoch:q"])
    def test_learner_at_work_goes_on(self, place, registry, lease, of_type, key):
        publish(registry, lease)
        base, staged = stage(registry, lease)
        place.redis.delete(place.key(key))
        TYPES[of_type](place.redis, place.key(key))
        registry.fence(lease)
        registry.commit(base, staged, lease)
        registry.finalize(staged)

        assert place.open().recover() == staged.record == registry.store.read()


@pytest.mark.timeout(20)
class TestAnotherProgramWrites:
    """All the time: then it is said so, and nobody waits for good."""

    def test_while_a_version_is_restored(self, place, registry, lease, monkeypatch):
        publish(registry, lease)
        place.lose()
        restore = registry.store.restore

        def too_late(*args, **kwargs):
            place.redis.hincrby(place.key("head"), "commit", 1)
            return restore(*args, **kwargs)

        monkeypatch.setattr(registry.store, "restore", too_late)
        with pytest.raises(RegistryError, match="another program writes them"):
            registry.recover()

    def test_while_a_version_is_published(self, place, registry, lease, monkeypatch):
        base, staged = stage(registry, lease)
        send = registry.store.publish

        def too_late(*args, **kwargs):
            place.redis.hset(place.key("head"), "version", "00")
            return send(*args, **kwargs)

        monkeypatch.setattr(registry.store, "publish", too_late)
        with pytest.raises(RegistryError, match="another program writes them"):
            registry.commit(base, staged, lease)

    def test_while_an_epoch_is_told(self, place, registry, lease, monkeypatch):
        replace = registry.store.replace_epoch

        def too_late(*args):
            place.redis.append(place.key("epoch:q"), "x")
            return replace(*args)

        monkeypatch.setattr(registry.store, "replace_epoch", too_late)
        with pytest.raises(RegistryError, match="another program writes it"):
            registry.acquire("q")


class TestStaged:
    def test_record_is_staged_until_it_is_finalized(self, place, registry, lease):
        base, staged = stage(registry, lease)
        name = f"0000000001-{staged.record.commit}.json"
        assert place.staged() == [name]
        written = json.loads((place.directory / "staged" / name).read_bytes())
        assert written == staged.record.to_json() | {"model": place.model}

        registry.commit(base, staged, lease)
        assert place.staged() == [name]
        registry.finalize(staged)
        assert place.staged() == []

    def test_bystander_that_finalizes_it_removes_it(self, place, registry, lease):
        staged = commit(registry, lease)
        assert place.open().recover() == staged.record

        assert place.staged() == []
        registry.finalize(staged)

    def test_lost_race_leaves_nothing(self, place, registry, lease):
        base, staged = stage(registry, lease, 0.25)
        publish(place.open(), registry.acquire("other"), 0.75)
        with pytest.raises(RegistryError):
            registry.commit(base, staged, lease)

        assert place.staged() == []

    def test_what_crashes_left_is_pruned_once_its_version_is_finalized(
        self, place, registry, lease
    ):
        _, left = stage(registry, lease, 0.25)
        publish(registry, lease)
        _, ahead = stage(registry, lease)
        registry.prune(1)

        assert place.staged() == [f"0000000002-{ahead.record.commit}.json"]
        assert left.record.version == 1
