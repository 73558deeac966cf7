"""The version record in Redis: read whole or not at all, moved by scripts that compare first."""

from __future__ import annotations

import dataclasses

import pytest

from app.errors import (
    DamagedRecordError,
    RegistryError,
    RegistryUnavailableError,
    VersionConflictError,
)
from app.registry.redis_store import KEPT_STATES, RedisVersionStore
from app.registry.version import ModelVersion
from tests.unit.places import announced, redis_stays
from tests.unit.version_records import STORE, data, publish, record

NAMES = [field.name for field in dataclasses.fields(ModelVersion)]


@pytest.fixture
def store(place) -> RedisVersionStore:
    """Return the store of a model at version 5."""
    place.registry.store.restore(record(5), data(5), STORE)
    return place.registry.store


class TestRead:
    def test_nothing_is_read_where_there_is_nothing(self, place):
        store = place.registry.store

        assert store.read() is None
        assert store.read_current() is None
        assert store.read_snapshot_directory() is None
        assert store.read_state(0) is None
        assert store.read_epoch("q") == 0

    def test_what_was_written_is_read(self, store):
        assert store.read() == record(5)
        assert store.read_current() == (5, "commit-5")
        assert store.read_snapshot_directory() == STORE
        assert store.read_state(5) == data(5)

    def test_keys_carry_the_model_in_braces(self, place, store):
        store.raise_epoch("q", 3)

        names = ("epoch:q", "head", "state:5")
        assert list(place.contents()) == [f"hbp:{{{place.model}}}:{name}" for name in names]

    @pytest.mark.parametrize("field", [*NAMES, "checksum"])
    def test_record_without_a_field_is_reported(self, place, store, field):
        place.redis.hdel(place.key("head"), field)

        with pytest.raises(DamagedRecordError, match=field):
            store.read()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", "nine"),
            ("version", b"\xff\xfe"),
            ("commit", b"\xff\xfe"),
            ("applied", "{"),
            ("applied", "[]"),
            ("applied", '{"q": "x"}'),
            ("origin", "null"),
            ("checksum", "0"),
        ],
    )
    def test_unreadable_record_is_reported(self, place, store, field, value):
        place.redis.hset(place.key("head"), field, value)

        with pytest.raises(
            DamagedRecordError,
            match=f"Redis key hbp:{{{place.model}}}:head is not a whole version record",
        ):
            store.read()

    @pytest.mark.parametrize(("field", "value"), [("version", "nine"), ("commit", b"\xff\xfe")])
    def test_unreadable_version_or_commit_is_reported(self, place, store, field, value):
        place.redis.hset(place.key("head"), field, value)
        with pytest.raises(DamagedRecordError):
            store.read_current()

        place.redis.hdel(place.key("head"), field)
        with pytest.raises(DamagedRecordError):
            store.read_current()

    def test_key_of_another_type_is_reported(self, place):
        place.redis.set(place.key("head"), "text")

        with pytest.raises(RegistryError, match="WRONGTYPE") as caught:
            place.registry.store.read()
        assert not isinstance(caught.value, RegistryUnavailableError)


class TestCompareAndSet:
    def test_current_version_moves_from_its_base(self, place, store):
        with announced(place) as versions:
            assert publish(store, record(6), record(5))
            assert versions() == ["6"]

        assert store.read() == record(6)
        assert store.read_state(6) == data(6)

    @pytest.mark.parametrize(
        "base",
        [record(4), record(6), record(5, "another"), record(4, "commit-5"), record(50, "commit-5")],
        ids=["earlier", "later", "another commit", "another version", "longer version"],
    )
    def test_version_and_commit_must_be_those_of_the_base(self, place, store, base):
        message = f"no longer at version {base.version}"
        with redis_stays(place), pytest.raises(VersionConflictError, match=message):
            publish(store, record(6), base)

    def test_nothing_is_published_where_there_is_nothing(self, place):
        with redis_stays(place), pytest.raises(VersionConflictError):
            publish(place.registry.store, record(6), record(5))

    def test_same_commit_again_is_done_already(self, place, store):
        store.raise_epoch("q", 1)
        assert publish(store, record(6), record(5), query="q", epoch=1)
        # Even when a newer learner has come since.
        store.raise_epoch("q", 2)

        with redis_stays(place):
            assert publish(store, record(6), record(5), query="q", epoch=1)

    @pytest.mark.parametrize("known", [None, 1, 3], ids=["none", "lower", "higher"])
    def test_epoch_must_be_the_one_held(self, place, store, known):
        if known:
            store.raise_epoch("q", known)

        with redis_stays(place):
            assert not publish(store, record(6), record(5), query="q", epoch=2)
        store.raise_epoch("other", 2)
        with redis_stays(place):
            assert not publish(store, record(6), record(5), query="q", epoch=2)

    def test_base_is_compared_before_the_epoch(self, place, store):
        with redis_stays(place), pytest.raises(VersionConflictError):
            publish(store, record(6), record(4), query="q", epoch=2)

    def test_version_9_comes_before_version_10(self, place, store):
        for version in range(6, 13):
            publish(store, record(version), record(version - 1))
            with pytest.raises(VersionConflictError):
                publish(store, record(version, "late"), record(version - 1))

        assert store.read() == record(12)
        assert place.kept_states() == {10, 11, 12}


class TestRestore:
    @pytest.mark.parametrize("version", [5, 6, 10, 50])
    def test_earlier_version_gives_way(self, place, store, version):
        with announced(place) as versions:
            assert store.restore(record(version, "new"), data(version), STORE)
            assert versions() == [str(version)]

        assert store.read() == record(version, "new")
        assert place.kept_states() == {version}

    @pytest.mark.parametrize("version", [0, 4])
    def test_later_version_stays(self, place, store, version):
        with redis_stays(place):
            assert not store.restore(record(version), data(version), STORE)

    def test_10_is_later_than_9(self, place, store):
        store.restore(record(10), data(10), STORE)

        with redis_stays(place):
            assert not store.restore(record(9), data(9), STORE)

    @pytest.mark.parametrize("version", [0, 4, 5, 6])
    def test_any_version_gives_way_to_force(self, place, store, version):
        assert store.restore(record(version, "new"), data(version), STORE, by_force=True)

        assert store.read() == record(version, "new")
        assert place.kept_states() == {version}

    @pytest.mark.parametrize("left", ["", "nine", None])
    def test_record_without_a_version_gives_way(self, place, store, left):
        if left is None:
            place.redis.hdel(place.key("head"), "version")
        else:
            place.redis.hset(place.key("head"), "version", left)
        assert store.restore(record(0), data(0), STORE)

        assert store.read() == record(0)

    @pytest.mark.parametrize("version", [6, 9, 40])
    def test_no_state_of_before_stays_for_good(self, place, store, version):
        for earlier in (6, 7):
            publish(store, record(earlier), record(earlier - 1))
        assert place.kept_states() == {5, 6, 7}
        store.restore(record(version), data(version), STORE, by_force=True)
        for later in range(version + 1, version + KEPT_STATES):
            publish(store, record(later), record(later - 1))

        assert place.kept_states() == set(range(version, version + KEPT_STATES))
