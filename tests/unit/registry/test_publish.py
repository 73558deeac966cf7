"""Versions are published one upon another: which is current, and who may make the next."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from app.errors import (
    ModelNotFoundError,
    StateError,
)
from app.model.state import state_sha256, state_to_bytes
from tests.unit.places import (
    METADATA,
    announced,
    nothing_changes,
    publish,
    stage,
    state_of,
)


class TestCreate:
    def test_created_model_is_loaded(self, place):
        record = place.registry.create(state_of(7), METADATA)
        other = place.open()
        stored = other.read(other.current())

        assert other.current() == record
        assert (record.version, record.parent, record.applied) == (0, "", {})
        assert record.origin == {"kind": "created"}
        assert record.state_sha256 == state_sha256(stored.state) == state_sha256(state_of(7))
        assert stored.metadata == METADATA | {"version": "0"}
        assert place.records() == [record]

    def test_created_model_stays_when_created_again(self, place, registry, lease):
        published = publish(registry, lease)
        with nothing_changes(place):
            assert registry.create(state_of(99), METADATA) == published

    def test_created_model_is_the_one_on_disk_when_redis_lost_it(self, place, registry, lease):
        published = publish(registry, lease)
        place.lose()

        assert place.open().create(state_of(99), METADATA) == published

    @pytest.mark.parametrize("values", [(1, 1), (1, 2)], ids=["same state", "different states"])
    def test_two_that_create_at_once_get_one_model(self, place, values):
        for number in range(20):
            directory = place.directory / str(number)
            creators = [place.open(directory, f"{place.model}-{number}") for _ in values]
            barrier = threading.Barrier(2)
            records = {}

            def create(creator, value, barrier=barrier, records=records) -> None:
                barrier.wait(10)
                records[creator] = creator.create(state_of(value), METADATA)

            threads = [
                threading.Thread(target=create, args=pair, daemon=True)
                for pair in zip(creators, values, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            one, other = (records[creator] for creator in creators)
            assert one == other == creators[0].versions.read(0)
            assert [path.name for path in directory.glob("*.safetensors")] == [one.snapshot]

    def test_loser_of_the_creation_leaves_the_snapshot_of_a_winner_with_the_same_state(self, place):
        loser, winner = place.registry, place.open()
        append, created = loser.versions.append, []

        def be_overtaken(record):
            created.append(winner.create(state_of(1), METADATA))
            append(record)

        loser.versions.append = be_overtaken
        record = loser.create(state_of(1), METADATA)
        place.lose()

        assert [record] == created
        assert place.open().recover() == record

    def test_absent_model_is_reported(self, place):
        assert place.registry.store.read() is None
        assert place.registry.store.read_current() is None
        with pytest.raises(ModelNotFoundError, match=place.model):
            place.registry.current()

    def test_models_on_one_server_are_apart(self, place, registry, tmp_path):
        other = place.open(tmp_path / "other", "other-" + place.model)
        other.create(state_of(5), METADATA)
        publish(other, other.acquire("q"))

        assert registry.current().version == 0
        assert other.current().version == 1


class TestPublish:
    def test_version_moves_by_one(self, place, registry, lease):
        parent = registry.current()
        for version in (1, 2, 3):
            record = publish(registry, lease)
            other = place.open()
            stored = other.read(record)

            assert other.current() == record == place.records()[-1]
            assert (record.version, record.parent) == (version, parent.commit)
            assert registry.store.read_current() == (version, record.commit)
            assert record.applied == {"q": version - 1}
            assert record.origin == {"kind": "batch", "query": "q", "batch": version - 1}
            np.testing.assert_array_equal(stored.state["alpha"], state_of(version)["alpha"])
            assert stored.metadata["version"] == str(version)
            parent = record

    def test_each_publish_has_a_commit_of_its_own(self, registry, lease):
        records = [registry.current(), *(publish(registry, lease, value=7) for _ in range(5))]

        assert len({record.commit for record in records}) == 6

    def test_history_says_what_the_publisher_gives_it(self, registry, lease):
        base = registry.current()
        staged = registry.stage(base, lease, 3, state_of(1), METADATA, {"record": {"rows": 5}})

        assert staged.record.origin == {
            "kind": "batch", "query": "q", "batch": 3, "record": {"rows": 5},
        }  # fmt: skip

    def test_state_that_no_batch_made_applies_no_batch(self, place, registry, lease):
        base = publish(registry, lease)
        record = registry.publish(base, {"kind": "rollback", "to": 0}, state_of(0), METADATA)

        assert (record.version, record.applied) == (2, {"q": 0})
        assert record.origin == {"kind": "rollback", "to": 0}
        assert place.open().current() == record == place.records()[-1]

    def test_staged_version_is_on_disk_and_not_current(self, place, registry, lease):
        with nothing_changes(place):
            _, staged = stage(registry, lease)

        record = staged.record
        assert registry.snapshots.read(record).data == staged.data
        assert record.version == 1

    def test_learners_that_stage_one_version_do_not_overwrite_each_other(
        self, place, registry, lease
    ):
        base, staged = stage(registry, lease, value=0.25)
        stage(registry, registry.acquire("other"), value=0.75)
        registry.commit(base, staged, lease)
        registry.finalize(staged)
        place.lose()

        assert registry.recover() == staged.record
        state = registry.read(staged.record).state
        np.testing.assert_array_equal(state["alpha"], state_of(0.25)["alpha"])

    def test_batches_of_every_query_are_remembered(self, registry, lease):
        publish(registry, lease)
        record = publish(registry, registry.acquire("other"))

        assert record.applied == {"q": 0, "other": 0}
        assert registry.store.read() == record

    def test_redis_keeps_the_newest_three_states(self, place, registry, lease):
        kept = [place.kept_states()]
        for _ in range(11):
            publish(registry, lease)
            kept.append(place.kept_states())

        assert kept == [set(range(max(0, n - 2), n + 1)) for n in range(12)]

    def test_version_10_comes_after_version_9(self, place, registry, lease):
        for _ in range(9):
            publish(registry, lease)
        at_nine = place.contents()
        ten = publish(registry, lease)

        assert place.open().recover() == ten
        place.rewind(at_nine)
        assert registry.store.read_current()[0] == 9
        assert registry.recover() == ten
        assert place.snapshots()[-1] == ten.snapshot

    def test_channel_announces_each_version(self, place, registry, lease):
        with announced(place) as versions:
            for _ in range(11):
                publish(registry, lease)

            assert versions() == [str(version) for version in range(1, 12)]


class TestLoad:
    def test_snapshot_is_taken_when_redis_no_longer_keeps_the_state(self, place, registry, lease):
        record = publish(registry, lease)
        place.redis.delete(place.key("state:1"))

        state = registry.read(record).state
        assert state_sha256(state) == record.state_sha256
        assert registry.read(record).data == (place.directory / record.snapshot).read_bytes()

    def test_redis_is_asked_when_the_snapshot_is_gone(self, place, registry, lease):
        record = publish(registry, lease)
        registry.snapshots.drop(record.snapshot)

        state = registry.read(record).state
        assert state_sha256(state) == record.state_sha256

    @pytest.mark.parametrize("damaged", [state_to_bytes(state_of(99), METADATA), b"", b"bytes"])
    def test_damaged_state_in_redis_is_passed_over(self, place, registry, lease, damaged):
        record = publish(registry, lease)
        place.redis.set(place.key("state:1"), damaged)

        state = registry.read(record).state
        np.testing.assert_array_equal(state["alpha"], state_of(1)["alpha"])

    def test_damage_in_both_places_is_refused(self, place, registry, lease):
        record = publish(registry, lease)
        for damaged in (state_to_bytes(state_of(99), METADATA), b"bytes"):
            place.redis.set(place.key("state:1"), damaged)
            (place.directory / record.snapshot).write_bytes(damaged)

            with pytest.raises(StateError, match=record.snapshot):
                registry.read(record)

    def test_older_version_is_loaded_as_well(self, registry, lease):
        records = [registry.current(), *(publish(registry, lease) for _ in range(5))]

        for version, record in enumerate(records):
            np.testing.assert_array_equal(registry.read(record).state["alpha"], [version, 0.5])
