"""Redis is lost before a commit is finalized: two learners hold one version, and one gets it."""

from __future__ import annotations

import numpy as np
import pytest

from app.errors import VersionConflictError
from app.registry.epochs import Lease
from app.registry.registry import ModelRegistry
from app.registry.staged import Staged
from tests.unit.places import Place, commit, publish


class Two:
    """Two learners that have both committed the version after 0, each on a Redis of its own time.

    Parameters
    ----------
    place : Place
    values : tuple of float
        Of the state that each has learned.
    """

    def __init__(self, place: Place, values: tuple[float, float] = (0.25, 0.75)) -> None:
        self.place = place
        self.base = place.registry.current()
        self.registries: list[ModelRegistry] = [place.open(), place.open()]
        self.leases: list[Lease] = []
        self.staged: list[Staged] = []
        for registry, query, value in zip(self.registries, "ab", values, strict=True):
            self.leases.append(registry.acquire(query))
            self.staged.append(commit(registry, self.leases[-1], value))
            if len(self.staged) == 1:
                place.lose()

    def commits(self) -> list[str]:
        return [record.commit for record in self.place.records()]


@pytest.fixture
def two(place, registry) -> Two:
    return Two(place)


both_orders = pytest.mark.parametrize("first", [0, 1], ids=["earlier commit", "later commit"])


@both_orders
class TestSecondToSeal:
    def test_second_to_seal_is_refused_and_the_chain_does_not_fork(self, two, first):
        second = 1 - first
        two.registries[first].finalize(two.staged[first])
        with pytest.raises(VersionConflictError, match="version 1"):
            two.registries[second].finalize(two.staged[second])

        assert two.commits() == [two.base.commit, two.staged[first].record.commit]
        for registry in (*two.registries, two.place.open()):
            assert registry.recover() == two.staged[first].record

    def test_redis_ends_at_the_version_of_the_chain(self, two, first):
        winner, loser = two.staged[first], two.staged[1 - first]
        two.registries[first].finalize(winner)
        with pytest.raises(VersionConflictError):
            two.registries[1 - first].finalize(loser)

        assert two.place.registry.store.read() == winner.record
        assert two.place.redis.get(two.place.key("state:1")) == winner.data
        state = two.place.open().read(winner.record).state
        np.testing.assert_array_equal(state["alpha"], [(0.25, 0.75)[first], 0.5])

    def test_refused_one_learns_again_on_top_of_the_winner(self, two, first):
        second = 1 - first
        two.registries[first].finalize(two.staged[first])
        with pytest.raises(VersionConflictError):
            two.registries[second].finalize(two.staged[second])
        record = publish(two.registries[second], two.leases[second])

        assert (record.version, record.parent) == (2, two.staged[first].record.commit)
        assert record.applied == {"a": 0, "b": 0}
        assert two.place.open().recover() == record

    def test_refused_one_may_call_again_and_is_refused_again(self, two, first):
        two.registries[first].finalize(two.staged[first])
        for _ in range(3):
            with pytest.raises(VersionConflictError):
                two.registries[1 - first].finalize(two.staged[1 - first])
            two.registries[first].finalize(two.staged[first])

        assert two.commits() == [two.base.commit, two.staged[first].record.commit]

    def test_snapshot_of_the_refused_one_is_removed(self, two, first):
        two.registries[first].finalize(two.staged[first])
        with pytest.raises(VersionConflictError):
            two.registries[1 - first].finalize(two.staged[1 - first])

        assert two.place.snapshots() == [two.base.snapshot, two.staged[first].record.snapshot]

    def test_snapshot_stays_when_both_have_the_same_state(self, place, registry, first):
        two = Two(place, values=(0.5, 0.5))
        two.registries[first].finalize(two.staged[first])
        with pytest.raises(VersionConflictError):
            two.registries[1 - first].finalize(two.staged[1 - first])
        place.lose()

        assert place.open().recover() == two.staged[first].record

    def test_refused_one_is_refused_although_redis_is_lost_once_more(self, two, first):
        two.registries[first].finalize(two.staged[first])
        two.place.lose()
        with pytest.raises(VersionConflictError):
            two.registries[1 - first].finalize(two.staged[1 - first])

        assert two.place.registry.store.read() == two.staged[first].record

    def test_history_of_the_winner_may_be_long_already(self, two, first):
        two.registries[first].finalize(two.staged[first])
        for _ in range(4):
            newest = publish(two.registries[first], two.leases[first])
        with pytest.raises(VersionConflictError):
            two.registries[1 - first].finalize(two.staged[1 - first])

        assert two.place.registry.store.read() == newest == two.place.records()[-1]
        assert len(two.commits()) == 6


def test_version_in_redis_is_finalized_by_a_bystander_and_the_earlier_commit_refused(two):
    assert two.place.open().current() == two.staged[1].record
    with pytest.raises(VersionConflictError):
        two.registries[0].finalize(two.staged[0])
    two.registries[1].finalize(two.staged[1])

    assert two.commits() == [two.base.commit, two.staged[1].record.commit]
    assert two.place.registry.store.read() == two.staged[1].record


def test_earlier_commit_that_is_finalized_takes_redis_back(two):
    two.registries[0].finalize(two.staged[0])
    assert two.place.registry.store.read() == two.staged[1].record

    assert two.place.open().current() == two.staged[0].record
    assert two.place.registry.store.read() == two.staged[0].record


def test_single_learner_seals_although_redis_was_lost(place, registry, lease):
    staged = commit(registry, lease)
    place.lose()
    registry.finalize(staged)

    assert place.open().recover() == staged.record == registry.store.read()


def test_single_learner_seals_although_redis_was_lost_and_restored(place, registry, lease):
    base = registry.current()
    staged = commit(registry, lease)
    place.lose()
    assert place.open().recover() == base
    registry.finalize(staged)

    assert place.open().recover() == staged.record == registry.store.read()
    assert publish(registry, lease).version == 2
