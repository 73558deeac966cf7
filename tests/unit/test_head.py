"""The head record in Redis: read whole or not at all, and moved by scripts that compare first."""

from __future__ import annotations

import dataclasses

import pytest

from app.errors import (
    DamagedRecordError,
    RegistryError,
    RegistryUnavailableError,
    VersionConflictError,
)
from app.registry.head import KEPT_STATES, HeadStore
from app.registry.record import HeadRecord
from tests.unit.heads import STORE, data, publish, record
from tests.unit.places import announced, redis_stays


@pytest.fixture
def heads(place) -> HeadStore:
    """Return the heads of a model at version 5."""
    place.registry.heads.restore(record(5), data(5), STORE)
    return place.registry.heads


class TestRead:
    def test_nothing_is_read_where_there_is_nothing(self, place):
        heads = place.registry.heads

        assert heads.read() is None
        assert heads.read_current() is None
        assert heads.read_store() is None
        assert heads.read_state(0) is None
        assert heads.read_epoch("q") == 0

    def test_what_was_written_is_read(self, heads):
        assert heads.read() == record(5)
        assert heads.read_current() == (5, "commit-5")
        assert heads.read_store() == STORE
        assert heads.read_state(5) == data(5)

    def test_keys_carry_the_model_in_braces(self, place, heads):
        heads.raise_epoch("q", 3)

        names = ("epoch:q", "head", "state:5")
        assert list(place.contents()) == [f"hbp:{{{place.model}}}:{name}" for name in names]

    @pytest.mark.parametrize("field", [*(f.name for f in dataclasses.fields(HeadRecord)), "seal"])
    def test_record_without_a_field_is_told(self, place, heads, field):
        place.redis.hdel(place.key("head"), field)

        with pytest.raises(DamagedRecordError, match=field):
            heads.read()

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
            ("seal", "0"),
        ],
    )
    def test_unreadable_record_is_told(self, place, heads, field, value):
        place.redis.hset(place.key("head"), field, value)

        with pytest.raises(DamagedRecordError, match="head record"):
            heads.read()

    @pytest.mark.parametrize(("field", "value"), [("version", "nine"), ("commit", b"\xff\xfe")])
    def test_unreadable_version_or_commit_is_told(self, place, heads, field, value):
        place.redis.hset(place.key("head"), field, value)
        with pytest.raises(DamagedRecordError):
            heads.read_current()

        place.redis.hdel(place.key("head"), field)
        with pytest.raises(DamagedRecordError):
            heads.read_current()

    def test_key_of_another_type_is_told(self, place):
        place.redis.set(place.key("head"), "text")

        with pytest.raises(RegistryError, match="WRONGTYPE") as caught:
            place.registry.heads.read()
        assert not isinstance(caught.value, RegistryUnavailableError)


class TestCompareAndSet:
    def test_head_moves_from_its_base(self, place, heads):
        with announced(place) as versions:
            assert publish(heads, record(6), record(5))
            assert versions() == ["6"]

        assert heads.read() == record(6)
        assert heads.read_state(6) == data(6)

    @pytest.mark.parametrize(
        "base",
        [record(4), record(6), record(5, "another"), record(4, "commit-5"), record(50, "commit-5")],
        ids=["earlier", "later", "another commit", "another version", "longer version"],
    )
    def test_version_and_commit_must_be_those_of_the_base(self, place, heads, base):
        message = f"no longer at version {base.version}"
        with redis_stays(place), pytest.raises(VersionConflictError, match=message):
            publish(heads, record(6), base)

    def test_nothing_is_published_where_there_is_nothing(self, place):
        with redis_stays(place), pytest.raises(VersionConflictError):
            publish(place.registry.heads, record(6), record(5))

    def test_same_commit_again_is_done_already(self, place, heads):
        heads.raise_epoch("q", 1)
        assert publish(heads, record(6), record(5), query="q", epoch=1)
        # Even when a newer learner has come since.
        heads.raise_epoch("q", 2)

        with redis_stays(place):
            assert publish(heads, record(6), record(5), query="q", epoch=1)

    @pytest.mark.parametrize("known", [None, 1, 3], ids=["none", "lower", "higher"])
    def test_epoch_must_be_the_one_held(self, place, heads, known):
        if known:
            heads.raise_epoch("q", known)

        with redis_stays(place):
            assert not publish(heads, record(6), record(5), query="q", epoch=2)
        heads.raise_epoch("other", 2)
        with redis_stays(place):
            assert not publish(heads, record(6), record(5), query="q", epoch=2)

    def test_base_is_compared_before_the_epoch(self, place, heads):
        with redis_stays(place), pytest.raises(VersionConflictError):
            publish(heads, record(6), record(4), query="q", epoch=2)

    def test_version_9_comes_before_version_10(self, place, heads):
        for version in range(6, 13):
            publish(heads, record(version), record(version - 1))
            with pytest.raises(VersionConflictError):
                publish(heads, record(version, "late"), record(version - 1))

        assert heads.read() == record(12)
        assert place.kept_states() == {10, 11, 12}


class TestRestore:
    @pytest.mark.parametrize("version", [5, 6, 10, 50])
    def test_earlier_version_gives_way(self, place, heads, version):
        with announced(place) as versions:
            assert heads.restore(record(version, "new"), data(version), STORE)
            assert versions() == [str(version)]

        assert heads.read() == record(version, "new")
        assert place.kept_states() == {version}

    @pytest.mark.parametrize("version", [0, 4])
    def test_later_version_stays(self, place, heads, version):
        with redis_stays(place):
            assert not heads.restore(record(version), data(version), STORE)

    def test_10_is_later_than_9(self, place, heads):
        heads.restore(record(10), data(10), STORE)

        with redis_stays(place):
            assert not heads.restore(record(9), data(9), STORE)

    @pytest.mark.parametrize("version", [0, 4, 5, 6])
    def test_any_version_gives_way_to_force(self, place, heads, version):
        assert heads.restore(record(version, "new"), data(version), STORE, by_force=True)

        assert heads.read() == record(version, "new")
        assert place.kept_states() == {version}

    @pytest.mark.parametrize("left", ["", "nine", None])
    def test_record_without_a_version_gives_way(self, place, heads, left):
        if left is None:
            place.redis.hdel(place.key("head"), "version")
        else:
            place.redis.hset(place.key("head"), "version", left)
        assert heads.restore(record(0), data(0), STORE)

        assert heads.read() == record(0)

    @pytest.mark.parametrize("version", [6, 9, 40])
    def test_no_state_of_before_stays_for_good(self, place, heads, version):
        for earlier in (6, 7):
            publish(heads, record(earlier), record(earlier - 1))
        assert place.kept_states() == {5, 6, 7}
        heads.restore(record(version), data(version), STORE, by_force=True)
        for later in range(version + 1, version + KEPT_STATES):
            publish(heads, record(later), record(later - 1))

        assert place.kept_states() == set(range(version, version + KEPT_STATES))
