"""One learner a query: an epoch is given out once, and whoever holds an older one is a zombie."""

from __future__ import annotations

import threading

import pytest

from app.errors import RegistryError, StaleLearnerError
from app.registry.epochs import Epochs, Lease
from tests.unit.places import (
    METADATA,
    commit,
    nothing_changes,
    publish,
    redis_stays,
    stage,
    state_of,
)


class TestAcquire:
    def test_epochs_grow_by_one(self, place, registry):
        leases = [place.open().acquire("q") for _ in range(11)]

        assert leases == [Lease("q", epoch) for epoch in range(1, 12)]
        assert registry.store.read_epoch("q") == Epochs(place.directory).last("q") == 11

    def test_queries_have_epochs_of_their_own(self, registry):
        registry.acquire("q")
        registry.acquire("q")

        assert registry.acquire("never-seen") == Lease("never-seen", 1)

    @pytest.mark.parametrize("query", ["", "..", "a/b", "a b", "../q", "q" * 129])
    def test_query_that_cannot_be_part_of_a_path_is_refused(self, place, registry, query):
        with nothing_changes(place), pytest.raises(RegistryError, match="id of a query"):
            registry.acquire(query)

    def test_epoch_is_not_given_again_after_a_loss_of_redis(self, place, registry):
        for _ in range(4):
            registry.acquire("q")
        place.lose()

        assert registry.acquire("q").epoch == 5

    def test_epoch_is_not_given_again_after_a_loss_of_the_files(self, place, registry):
        for _ in range(4):
            registry.acquire("q")
        for path in (place.directory / "epochs" / "q").iterdir():
            path.unlink()

        assert registry.acquire("q").epoch == 5

    @pytest.mark.parametrize("left", ["", "text", "-3", "1.5"])
    def test_epoch_is_a_number_although_redis_holds_none(self, place, registry, left):
        registry.acquire("q")
        place.redis.set(place.key("epoch:q"), left)

        assert registry.acquire("q").epoch == 2
        assert registry.store.read_epoch("q") == 2

    def test_learners_that_start_at_once_get_different_epochs(self, place, registry):
        registries = [place.open() for _ in range(8)]
        barrier = threading.Barrier(len(registries))
        epochs = []

        def acquire(registry) -> None:
            barrier.wait(10)
            epochs.extend(registry.acquire("q").epoch for _ in range(5))

        threads = [
            threading.Thread(target=acquire, args=[each], daemon=True) for each in registries
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(set(epochs)) == 40
        assert registry.store.read_epoch("q") == Epochs(place.directory).last("q") == max(epochs)


class TestFence:
    def test_only_the_newest_lease_passes(self, place, registry, lease):
        newer = place.open().acquire("q")

        registry.fence(newer)
        with nothing_changes(place), pytest.raises(StaleLearnerError, match="epoch 1, but epoch 2"):
            registry.fence(lease)

    def test_lease_on_another_query_makes_none_stale(self, registry, lease):
        other = registry.acquire("other")
        for held in (lease, other, lease):
            registry.fence(held)
            publish(registry, held)

        assert registry.store.read_current()[0] == 3

    @pytest.mark.parametrize("lost", ["redis", "files"])
    def test_either_store_alone_tells_of_the_newer_lease(self, place, registry, lease, lost):
        newer = registry.acquire("q")
        if lost == "redis":
            place.lose()
        else:
            for path in (place.directory / "epochs" / "q").iterdir():
                path.unlink()

        registry.fence(newer)
        with pytest.raises(StaleLearnerError, match="epoch 1, but epoch 2"):
            registry.fence(lease)

    def test_only_learner_carries_on_after_a_loss_of_redis(self, place, registry, lease):
        publish(registry, lease)
        place.lose()
        registry.fence(lease)

        assert publish(registry, lease).version == 2
        assert registry.store.read_epoch("q") == 1


class TestZombie:
    """A learner that a newer one has replaced, and that does not know it."""

    def test_zombie_cannot_commit_and_changes_nothing(self, place, registry, lease):
        base, staged = stage(registry, lease, 0.25)
        newer = registry.acquire("q")

        with nothing_changes(place), pytest.raises(StaleLearnerError, match="epoch 1, but epoch 2"):
            registry.commit(base, staged, lease)
        assert publish(registry, newer, 0.75).version == 1

    def test_zombie_leaves_the_snapshot_of_the_newer_learner(self, place, registry, lease):
        base, staged = stage(registry, lease, 1)
        newer = registry.acquire("q")
        _, same = stage(registry, newer, 1)
        with pytest.raises(StaleLearnerError):
            registry.commit(base, staged, lease)
        registry.commit(base, same, newer)
        registry.finalize(same)
        place.lose()

        assert registry.recover() == same.record

    @pytest.mark.parametrize("lost", ["redis", "epoch"])
    def test_zombie_stays_one_when_redis_has_lost_the_epoch(self, place, registry, lease, lost):
        base, staged = stage(registry, lease, 0.25)
        newer = registry.acquire("q")
        if lost == "redis":
            place.lose()
            registry.recover()
        else:
            place.redis.delete(place.key("epoch:q"))

        with nothing_changes(place), pytest.raises(StaleLearnerError, match="epoch 1, but epoch 2"):
            registry.commit(base, staged, lease)
        record = publish(registry, newer, 0.75)
        assert (record.version, record.applied) == (1, {"q": 0})

    def test_commit_done_before_the_newer_lease_stays_although_its_learner_is_refused(
        self, place, registry, lease
    ):
        base, staged = stage(registry, lease)
        registry.commit(base, staged, lease)
        newer = registry.acquire("q")

        # The reply was lost, and this is the second call.
        with redis_stays(place), pytest.raises(StaleLearnerError):
            registry.commit(base, staged, lease)
        assert place.open().recover() == staged.record
        assert publish(registry, newer).applied == {"q": 1}

    def test_zombie_is_refused_although_redis_holds_its_epoch_again(self, place, registry, lease):
        base, staged = stage(registry, lease, 0.25)
        older = place.contents()
        newer = registry.acquire("q")
        place.rewind(older)
        assert registry.store.read_epoch("q") == lease.epoch

        with nothing_changes(place), pytest.raises(StaleLearnerError, match="epoch 1, but epoch 2"):
            registry.commit(base, staged, lease)
        assert publish(registry, newer, 0.75).version == 1


class TestEpochGivenBack:
    """Redis has kept the version and lost the epoch: evicted, deleted, or never replicated."""

    @pytest.mark.parametrize("left", [None, "0", "1", "text"])
    def test_holder_of_the_newest_lease_gives_the_epoch_back(self, place, registry, left):
        registry.acquire("q")
        lease = registry.acquire("q")
        publish(registry, lease)
        if left is None:
            place.redis.delete(place.key("epoch:q"))
        else:
            place.redis.set(place.key("epoch:q"), left)

        assert publish(registry, lease).version == 2
        assert place.redis.get(place.key("epoch:q")) == b"2"

    def test_epoch_given_back_fences_as_before(self, place, registry, lease):
        base, staged = stage(registry, lease, 0.25)
        newer = registry.acquire("q")
        place.redis.delete(place.key("epoch:q"))
        winner = commit(registry, newer, 0.75)
        assert winner.record.parent == base.commit

        with pytest.raises(StaleLearnerError):
            registry.fence(lease)
        again = registry.stage(winner.record, lease, 0, state_of(3), METADATA)
        with redis_stays(place), pytest.raises(StaleLearnerError):
            registry.commit(winner.record, again, lease)
        assert registry.snapshots.has(staged.record.snapshot)

    def test_epoch_of_one_query_is_given_back_alone(self, place, registry, lease):
        other = registry.acquire("other")
        for query in ("q", "other"):
            place.redis.delete(place.key(f"epoch:{query}"))
        publish(registry, other)

        assert registry.store.read_epoch("other") == 1
        assert place.redis.get(place.key("epoch:q")) is None

    def test_newer_lease_is_not_taken_back(self, registry):
        first, *_, newest = (registry.acquire("q") for _ in range(3))

        registry.leases.tell(newest)
        with pytest.raises(StaleLearnerError):
            registry.leases.tell(first)
        assert registry.store.read_epoch("q") == 3

    def test_state_that_no_batch_made_needs_no_epoch(self, place, registry, lease):
        registry.acquire("q")
        place.redis.delete(place.key("epoch:q"))
        base = registry.current()

        record = registry.publish(base, {"kind": "rollback", "to": 0}, state_of(0), METADATA)
        assert record.version == 1
        assert place.redis.get(place.key("epoch:q")) is None
