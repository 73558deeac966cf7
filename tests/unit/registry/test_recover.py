"""Redis may vanish, lag or lie: it is brought to what the version log says, never the reverse."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from app.errors import (
    ModelNotFoundError,
    RegistryError,
    UserError,
)
from app.model.state import state_sha256, state_to_bytes
from app.redis_io.embedded import EmbeddedRedis
from app.redis_io.retry import OutageRetry
from tests.unit.places import (
    METADATA,
    Place,
    announced,
    commit,
    nothing_changes,
    publish,
    stage,
    state_of,
)


class TestNothingLost:
    def test_no_model_is_known_where_there_is_none(self, place):
        assert place.registry.recover() is None
        assert place.contents() == {}
        assert place.history() == {}

    def test_nothing_changes_when_all_is_well(self, place, registry, lease):
        record = publish(registry, lease)
        with nothing_changes(place):
            assert registry.recover() == record

    def test_current_version_in_hand_is_the_current_one(self, place, registry, lease):
        record = publish(registry, lease)
        with nothing_changes(place):
            assert registry.current(record) is record
            assert registry.current() == record

    def test_version_in_hand_gives_way_to_a_later_one(self, place, registry, lease):
        known = registry.current()
        record = commit(place.open(), lease).record
        assert registry.current(known) == record

        known, before = record, place.contents()
        record = publish(place.open(), lease)
        # Redis lags: only the version log says so.
        place.rewind(before)
        assert registry.current(known) == record


class TestRedisLost:
    def test_empty_redis_is_restored(self, place, registry, lease):
        publish(registry, lease)
        record = publish(registry, lease)
        place.lose()

        recovered = place.open().recover()
        state = registry.read(recovered).state

        assert recovered == registry.store.read() == record
        assert state_sha256(state) == record.state_sha256
        assert place.kept_states() == {2}
        assert registry.store.read_snapshot_directory() == str(place.directory)

    def test_restored_version_is_announced(self, place, registry, lease):
        publish(registry, lease)
        place.lose()
        with announced(place) as versions:
            registry.recover()

            assert versions() == ["1"]

    @pytest.mark.redis
    def test_flushed_server_is_restored(self, tmp_path):
        with EmbeddedRedis() as server:
            place = Place(server.url, tmp_path)
            place.registry.create(state_of(0), METADATA)
            record = publish(place.registry, place.registry.acquire("q"))
            place.redis.flushall()

            assert place.registry.recover() == record
            assert publish(place.registry, place.registry.acquire("q")).version == 2
            place.close()

    @pytest.mark.redis
    def test_killed_server_is_restored_and_the_learner_goes_on(self, tmp_path):
        with EmbeddedRedis() as server:
            place = Place(server.url, tmp_path)
            patiently = OutageRetry(30, lambda message: None)
            place.registry.create(state_of(0), METADATA)
            lease = place.registry.acquire("q")
            base, staged = stage(place.registry, lease)
            os.kill(place.redis.info("server")["process_id"], signal.SIGKILL)
            patiently(lambda: place.registry.commit(base, staged, lease))
            place.registry.finalize(staged)

            assert place.open().recover() == staged.record == place.records()[-1]
            place.close()

    @pytest.mark.parametrize("back", [1, 2, 5])
    def test_redis_behind_the_version_log_is_brought_forward(self, place, registry, lease, back):
        dumps = [place.contents()]
        for _ in range(6):
            record = publish(registry, lease)
            dumps.append(place.contents())
        place.rewind(dumps[6 - back])
        assert registry.store.read_current()[0] == 6 - back

        assert place.open().recover() == record
        assert registry.store.read() == record
        assert state_sha256(registry.read(record).state) == record.state_sha256

    def test_redis_brought_forward_keeps_the_newest_three_states(self, place, registry, lease):
        publish(registry, lease)
        older = place.contents()
        for _ in range(6):
            publish(registry, lease)
        place.rewind(older)
        registry.recover()
        for _ in range(3):
            publish(registry, lease)

        assert place.kept_states() == {8, 9, 10}

    def test_redis_that_lags_is_never_believed(self, place, registry, lease):
        first = publish(registry, lease)
        older = place.contents()
        newest = publish(registry, lease)
        for known in (None, first, newest):
            place.rewind(older)
            assert place.open().current(known) == newest
            assert registry.store.read() == newest

    def test_another_learners_version_in_redis_gives_way_to_the_finalized_one(
        self, place, registry, lease
    ):
        before = place.contents()
        finalized = publish(registry, lease, 0.25)
        newer = place.contents()
        place.rewind(before)
        # As if it had been committed before the other was finalized.
        other = place.open()
        staged = other.stage(place.records()[0], other.acquire("p"), 0, state_of(0.75), METADATA)
        other.store.publish(staged.record, staged.data, "", base=place.records()[0])
        assert registry.store.read_current() == (1, staged.record.commit)

        assert registry.current(finalized) == finalized
        assert place.contents()[place.key("head")] == newer[place.key("head")]
        assert place.redis.get(place.key("state:1")) == registry.read(finalized).data

    def test_lost_state_of_the_current_version_is_put_back(self, place, registry, lease):
        record = publish(registry, lease)
        place.redis.delete(place.key("state:1"))
        registry.recover()

        assert state_of(1)["alpha"].tobytes() in place.redis.get(place.key("state:1"))
        assert registry.store.read() == record

    def test_damaged_state_of_the_current_version_is_put_right(self, place, registry, lease):
        publish(registry, lease)
        whole = place.redis.get(place.key("state:1"))
        place.redis.set(place.key("state:1"), state_to_bytes(state_of(99), METADATA))
        registry.recover()

        assert place.redis.get(place.key("state:1")) == whole

    def test_later_version_is_not_taken_back_by_who_looked_too_early(self, place, registry, lease):
        old = publish(registry, lease)
        record = publish(registry, lease)
        data = registry.read(old).data
        with nothing_changes(place):
            assert not registry.store.restore(old, data, str(place.directory))
        assert registry.recover() == record


class TestVersionLogBehind:
    """The learner died after its commit, before it finalized the version."""

    def test_committed_version_is_finalized_by_whoever_comes_next(self, place, registry, lease):
        first = publish(registry, lease)
        record = commit(registry, lease).record
        assert place.records()[-1] == first

        before = place.contents()
        assert place.open().recover() == record
        assert place.records()[-1] == record
        assert json.loads(place.history()["HEAD.json"])["commit"] == record.commit
        assert place.contents() == before

    def test_committed_version_then_survives_the_loss_of_redis(self, place, registry, lease):
        record = commit(registry, lease).record
        registry.recover()
        place.lose()

        assert registry.recover() == record

    def test_version_that_redis_lost_before_anyone_finalized_it_was_never_committed(
        self, place, registry, lease
    ):
        base = registry.current()
        commit(registry, lease, 0.25)
        place.lose()

        assert place.open().recover() == base
        assert publish(place.open(), registry.acquire("q"), 0.75).version == 1

    def test_slow_learner_does_not_take_the_history_back(self, place, registry, lease):
        slow = commit(registry, lease)
        newest = publish(place.open(), registry.acquire("other"))
        registry.finalize(slow)
        registry.write_current(slow.record)
        assert json.loads(place.history()["HEAD.json"])["version"] == 1

        place.lose()
        assert place.open().recover() == newest == place.records()[-1]
        assert registry.current(slow.record) == newest

    def test_version_of_another_history_is_refused(self, place, registry, lease, tmp_path):
        publish(registry, lease)
        other = Place(place.url, tmp_path / "other")
        other.registry.create(state_of(0), METADATA)
        held = other.registry.acquire("q")
        for _ in range(2):
            publish(other.registry, held)
        fields = other.redis.hgetall(other.key("head"))
        place.redis.hset(place.key("head"), mapping=fields)
        other.close()

        with nothing_changes(place), pytest.raises(RegistryError, match="different histories"):
            registry.recover()


class TestAnotherDirectory:
    def test_snapshot_that_is_not_here_is_fetched_from_redis(
        self, place, registry, lease, tmp_path
    ):
        record = publish(registry, lease)
        # Another machine: this one's directory is not there.
        shutil.rmtree(place.directory)
        elsewhere = place.open(tmp_path / "elsewhere")

        assert elsewhere.recover() == elsewhere.versions.newest() == record
        assert elsewhere.snapshots.read(record)
        place.lose()
        assert elsewhere.recover() == record

    def test_second_directory_of_a_model_is_refused(self, place, registry, lease, tmp_path):
        publish(registry, lease)

        with nothing_changes(place), pytest.raises(UserError, match=str(place.directory)):
            place.open(tmp_path / "elsewhere").recover()
        assert not (tmp_path / "elsewhere").exists()

    def test_damaged_state_in_redis_does_not_reach_the_disk(self, place, registry, lease, tmp_path):
        publish(registry, lease)
        shutil.rmtree(place.directory)
        place.redis.set(place.key("state:1"), state_to_bytes(state_of(99), METADATA))

        with pytest.raises(ModelNotFoundError, match="version 1"):
            place.open(tmp_path / "elsewhere").recover()
        assert not (tmp_path / "elsewhere").exists()

    def test_state_that_nobody_holds_is_reported(self, place, registry, lease, tmp_path):
        publish(registry, lease)
        shutil.rmtree(place.directory)
        place.redis.delete(place.key("state:1"))

        with pytest.raises(ModelNotFoundError, match="version 1"):
            place.open(tmp_path / "elsewhere").recover()
        assert not (tmp_path / "elsewhere").exists()

    def test_directory_of_another_model_is_refused(self, place, registry):
        other = place.open(model="other-" + place.model)

        message = f"holds model '{place.model}'"
        with nothing_changes(place), pytest.raises(RegistryError, match=message):
            other.recover()
        assert other.store.read() is None
