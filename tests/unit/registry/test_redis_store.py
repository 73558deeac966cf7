"""The version record in Redis: read whole or not at all, moved by scripts that compare first."""

from __future__ import annotations

import dataclasses

import pytest

from app.errors import DamagedRecordError, VersionConflictError
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
        set_epoch(store, 3)

        names = ("epoch:q", "head", "state:5")
        assert list(place.contents()) == [f"hbp:{{{place.model}}}:{name}" for name in names]

    @pytest.mark.parametrize("field", [*NAMES, "checksum", "record_sha256"])
    def test_record_without_a_field_is_reported(self, place, store, field):
        place.redis.hdel(place.key("head"), field)

        with pytest.raises(DamagedRecordError, match=field):
            store.read()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("version", "nine"),
            ("version", b"\xff\xfe"),
            ("version", "05"),
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

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("commit", b"\xff\xfe"),
            *(
                ("version", text)
                for text in ("nine", "05", "+5", " 5", "5\n", "0_5", "5.0", "\u0665")
            ),
        ],
    )
    def test_unreadable_version_or_commit_is_reported(self, place, store, field, value):
        place.redis.hset(place.key("head"), field, value)
        with pytest.raises(DamagedRecordError):
            store.read_current()

        place.redis.hdel(place.key("head"), field)
        with pytest.raises(DamagedRecordError):
            store.read_current()

    def test_key_of_another_type_is_damage(self, place, store):
        for key in ("head", "state:5", "epoch:q"):
            place.redis.delete(place.key(key))
            place.redis.lpush(place.key(key), "text")

        for read in (store.read, store.read_current):
            with pytest.raises(DamagedRecordError, match="head .* key of another type"):
                read()
        assert store.read_snapshot_directory() is None
        assert store.read_state(5) is None
        assert store.read_epoch("q") == 0

    @pytest.mark.parametrize("directory", ["", "snapshots", "/snap\0shots"])
    def test_directory_that_is_none_is_as_good_as_lost(self, place, store, directory):
        place.redis.hset(place.key("head"), "store", directory)

        assert store.read_snapshot_directory() is None

    @pytest.mark.parametrize(
        ("epoch", "hint"),
        [("9" * 17, 10**17 - 1), ("9" * 18, 0), ("03", 0), ("+3", 0), ("\u0663", 0)],
    )
    def test_epoch_is_a_hint_only_as_one_writes_it(self, place, store, epoch, hint):
        place.redis.set(place.key("epoch:q"), epoch)

        assert store.read_epoch("q") == hint


def set_epoch(store: RedisVersionStore, epoch: int, query: str = "q") -> None:
    assert store.replace_epoch(query, store.find_epoch(query), epoch)


class TestEpoch:
    @pytest.mark.parametrize("there", [None, "", "1", "=1", "text", b"\xff"])
    def test_what_was_found_is_replaced(self, place, store, there):
        if there is not None:
            place.redis.set(place.key("epoch:q"), there)
        set_epoch(store, 7)

        assert store.read_epoch("q") == 7

    def test_key_of_another_type_is_replaced(self, place, store):
        place.redis.lpush(place.key("epoch:q"), "1")
        set_epoch(store, 7)

        assert store.read_epoch("q") == 7

    @pytest.mark.parametrize("found", [None, "", "6", "other"])
    def test_what_has_changed_since_it_was_found_stays(self, place, store, found):
        if found is not None:
            place.redis.set(place.key("epoch:q"), found)
        seen = store.find_epoch("q")
        place.redis.set(place.key("epoch:q"), 8)

        with redis_stays(place):
            assert not store.replace_epoch("q", seen, 7)


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
        set_epoch(store, 1)
        assert publish(store, record(6), record(5), query="q", epoch=1)
        # Even when a newer learner has come since.
        set_epoch(store, 2)

        with redis_stays(place):
            assert publish(store, record(6), record(5), query="q", epoch=1)

    @pytest.mark.parametrize("known", [None, 1, 3], ids=["none", "lower", "higher"])
    def test_epoch_must_be_the_one_held(self, place, store, known):
        if known:
            set_epoch(store, known)

        with redis_stays(place):
            assert not publish(store, record(6), record(5), query="q", epoch=2)
        set_epoch(store, 2, "other")
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
    @pytest.mark.parametrize("version", [0, 4, 5, 6, 10, 50])
    def test_what_was_found_gives_way(self, place, store, version):
        with announced(place) as versions:
            assert store.restore(record(version, "new"), data(version), STORE, store.look())
            assert versions() == [str(version)]

        assert store.read() == record(version, "new")
        assert place.kept_states() == {version}

    def test_nothing_gives_way_where_there_was_nothing(self, place, store):
        with redis_stays(place):
            assert not store.restore(record(6), data(6), STORE)

    @pytest.mark.parametrize("change", ["version", "commit", "lost", "text"])
    def test_what_has_changed_since_it_was_found_stays(self, place, store, change):
        found, key = store.look(), place.key("head")
        if change in ("lost", "text"):
            place.redis.delete(key)
        else:
            place.redis.hset(key, change, "9")
        if change == "text":
            place.redis.set(key, "text")

        with redis_stays(place):
            assert not store.restore(record(6), data(6), STORE, found)

    @pytest.mark.parametrize("left", ["", "nine", "05", b"\xff", None])
    def test_record_without_a_version_gives_way(self, place, store, left):
        if left is None:
            place.redis.hdel(place.key("head"), "version")
        else:
            place.redis.hset(place.key("head"), "version", left)
        assert store.restore(record(0), data(0), STORE, store.look())

        assert store.read() == record(0)

    def test_key_of_another_type_gives_way(self, place, store):
        for key in ("head", "state:0"):
            place.redis.delete(place.key(key))
            place.redis.lpush(place.key(key), "text")
        assert store.restore(record(0), data(0), STORE, store.look())

        assert store.read() == record(0)
        assert store.read_state(0) == data(0)

    @pytest.mark.parametrize("version", [6, 9, 40])
    def test_no_state_of_before_stays_for_good(self, place, store, version):
        for earlier in (6, 7):
            publish(store, record(earlier), record(earlier - 1))
        assert place.kept_states() == {5, 6, 7}
        store.restore(record(version), data(version), STORE, store.look())
        for later in range(version + 1, version + KEPT_STATES):
            publish(store, record(later), record(later - 1))

        assert place.kept_states() == set(range(version, version + KEPT_STATES))


def test_publish_over_keys_of_another_type_is_refused_and_changes_nothing(place, store):
    place.redis.lpush(place.key("epoch:q"), "1")
    assert not publish(store, record(6), record(5), query="q", epoch=1)
    assert store.read() == record(5)
    place.redis.delete(place.key("head"))
    place.redis.set(place.key("head"), "text")
    with pytest.raises(VersionConflictError):
        publish(store, record(6), record(5))

    assert place.redis.get(place.key("head")) == b"text"
    assert place.redis.lrange(place.key("epoch:q"), 0, -1) == [b"1"]
