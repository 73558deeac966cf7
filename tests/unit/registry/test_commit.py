"""A commit compares and sets: a lost race is a conflict, and a lost reply is none."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import redis

from app.errors import RegistryUnavailableError, VersionConflictError
from tests.unit.places import (
    METADATA,
    announced,
    commit,
    nothing_changes,
    publish,
    redis_stays,
    stage,
    state_of,
)

PUBLISHED = 1
"""What the script that publishes replies."""


class TestConflict:
    def test_commit_on_an_older_base_is_refused_and_changes_nothing(self, place, registry, lease):
        base, staged = stage(registry, lease)
        publish(registry, registry.acquire("other"), value=0.75)

        with nothing_changes(place), pytest.raises(VersionConflictError, match="version 1"):
            registry.commit(base, staged, lease)

    def test_commit_on_another_commit_of_the_same_version_is_refused(self, place, registry, lease):
        # Redis says version 1, and so does the learner, but they mean two.
        ours = commit(registry, lease, 0.25)
        place.lose()
        theirs = commit(place.open(), place.open().acquire("other"), 0.75)
        assert registry.store.read_current() == (1, theirs.record.commit)
        staged = registry.stage(ours.record, lease, 1, state_of(2), METADATA)

        with redis_stays(place), pytest.raises(VersionConflictError):
            registry.commit(ours.record, staged, lease)
        assert [record.commit for record in place.records()[1:]] == [theirs.record.commit]

    @pytest.mark.parametrize(
        "harm",
        [
            lambda place: place.lose(),
            lambda place: place.redis.delete(place.key("head")),
            lambda place: place.redis.hset(place.key("head"), "version", "nine"),
            lambda place: place.redis.hdel(place.key("head"), "commit"),
        ],
        ids=["everything lost", "record lost", "version damaged", "commit lost"],
    )
    def test_commit_on_a_redis_that_lost_the_base_brings_it_back_first(
        self, place, registry, lease, harm
    ):
        publish(registry, lease)
        base, staged = stage(registry, lease)
        harm(place)
        registry.commit(base, staged, lease)

        assert registry.store.read() == staged.record
        registry.finalize(staged)
        assert registry.recover() == staged.record == place.records()[-1]

    def test_commit_on_a_redis_that_lags_brings_it_forward_first(self, place, registry, lease):
        before = place.contents()
        publish(registry, lease)
        base, staged = stage(registry, lease)
        place.rewind(before)
        registry.commit(base, staged, lease)

        assert registry.store.read() == staged.record

    def test_commit_of_a_version_that_another_finalized_is_refused_although_redis_lags(
        self, place, registry, lease
    ):
        before = place.contents()
        base, staged = stage(registry, lease, 0.25)
        publish(registry, registry.acquire("other"), 0.75)
        place.rewind(before)

        with nothing_changes(place), pytest.raises(VersionConflictError, match="another learner's"):
            registry.commit(base, staged, lease)

    def test_snapshot_of_a_lost_race_is_removed(self, place, registry, lease):
        base, staged = stage(registry, lease, 0.25)
        winner = publish(registry, registry.acquire("other"), 0.75)
        with pytest.raises(VersionConflictError):
            registry.commit(base, staged, lease)

        assert place.snapshots() == [base.snapshot, winner.snapshot]

    @pytest.mark.parametrize("finalized", [False, True], ids=["committed", "finalized"])
    def test_snapshot_of_a_lost_race_stays_when_the_winner_has_the_same_state(
        self, place, registry, lease, finalized
    ):
        base, staged = stage(registry, lease, 1)
        other = place.open()
        winner = commit(other, other.acquire("other"), 1)
        assert winner.record.snapshot == staged.record.snapshot
        if finalized:
            other.finalize(winner)
        with pytest.raises(VersionConflictError):
            registry.commit(base, staged, lease)
        other.finalize(winner)
        place.lose()

        assert registry.recover() == winner.record

    def test_state_that_no_batch_made_is_refused_on_an_older_base(self, place, registry, lease):
        base = registry.current()
        publish(registry, lease)

        with nothing_changes(place), pytest.raises(VersionConflictError):
            registry.publish(base, {"kind": "rollback", "to": 0}, state_of(0), METADATA)

    def test_one_of_two_racing_learners_wins(self, place, registry):
        learners = [(place.open(), registry.acquire(query)) for query in ("a", "b")]
        for value in range(1, 21):
            base = registry.current()
            barrier = threading.Barrier(2)
            staged = [
                learner.stage(base, lease, value, state_of(value + number / 2), METADATA)
                for number, (learner, lease) in enumerate(learners)
            ]
            outcomes: dict[int, str] = {}

            def race(
                number: int, base=base, barrier=barrier, staged=staged, outcomes=outcomes
            ) -> None:
                learner, lease = learners[number]
                barrier.wait(10)
                try:
                    learner.commit(base, staged[number], lease)
                    learner.finalize(staged[number])
                    outcomes[number] = "won"
                except VersionConflictError:
                    outcomes[number] = "lost"

            threads = [
                threading.Thread(target=race, args=[number], daemon=True) for number in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert sorted(outcomes.values()) == ["lost", "won"]
            winner = min(outcomes, key=lambda number: outcomes[number] != "won")
            record = registry.current()
            state = registry.read(record).state
            assert record == staged[winner].record == place.records()[-1]
            assert record.version == base.version + 1
            np.testing.assert_array_equal(state["alpha"], state_of(value + winner / 2)["alpha"])


class TestLostReply:
    """A commit whose reply was lost may be called again, and says that it is done."""

    # The client asks again once by itself, and then tells that Redis is away.
    @pytest.mark.parametrize(("replies_lost", "calls"), [(1, 1), (2, 2), (3, 2), (4, 3)])
    def test_same_commit_again_is_no_conflict(
        self, place, registry, lease, monkeypatch, replies_lost, calls
    ):
        base, staged = stage(registry, lease)
        read_response, lost = redis.Connection.read_response, []

        def lose_first_replies(connection, *args, **kwargs):
            response = read_response(connection, *args, **kwargs)
            if response == PUBLISHED and len(lost) < replies_lost:
                lost.append(response)
                connection.disconnect()
                raise redis.ConnectionError("Connection reset by peer")
            return response

        with announced(place) as versions:
            with monkeypatch.context() as patch:
                patch.setattr(redis.Connection, "read_response", lose_first_replies)
                for _ in range(calls - 1):
                    with pytest.raises(RegistryUnavailableError):
                        registry.commit(base, staged, lease)
                registry.commit(base, staged, lease)
            assert versions() == ["1"]

        assert len(lost) == replies_lost
        assert registry.store.read() == staged.record
        assert registry.recover() == staged.record == place.records()[-1]

    @pytest.mark.parametrize("finalized", [False, True], ids=["committed", "finalized"])
    def test_same_commit_again_is_no_conflict_when_another_has_built_on_it(
        self, place, registry, lease, finalized
    ):
        base, staged = stage(registry, lease)
        registry.commit(base, staged, lease)
        other = place.open()
        theirs = commit(other, other.acquire("other"))
        if finalized:
            other.finalize(theirs)
        assert (theirs.record.version, theirs.record.parent) == (2, staged.record.commit)

        with redis_stays(place):
            registry.commit(base, staged, lease)
            registry.finalize(staged)
        assert registry.store.read() == theirs.record
        assert registry.snapshots.has(staged.record.snapshot)

    def test_same_commit_again_publishes_when_redis_was_lost_and_restored(
        self, place, registry, lease
    ):
        base, staged = stage(registry, lease)
        registry.commit(base, staged, lease)
        place.lose()
        assert place.open().recover() == base
        registry.commit(base, staged, lease)

        assert registry.store.read() == staged.record

    def test_commit_that_never_arrived_is_a_conflict_when_another_was_first(
        self, place, registry, lease
    ):
        base, staged = stage(registry, lease, 0.25)
        theirs = commit(place.open(), registry.acquire("other"), 0.75)

        for _ in range(2):
            with redis_stays(place), pytest.raises(VersionConflictError):
                registry.commit(base, staged, lease)
        assert registry.store.read() == theirs.record == place.records()[-1]

    def test_publish_may_be_finalized_and_recorded_again(self, place, registry, lease):
        staged = commit(registry, lease)
        registry.finalize(staged)
        registry.write_current(staged.record)

        with nothing_changes(place):
            registry.commit(place.records()[0], staged, lease)
            registry.finalize(staged)
            registry.write_current(staged.record)
