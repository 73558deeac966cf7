"""Redis is away, or refuses: what passes is an outage, and what stays is not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from app.errors import RegistryError, RegistryUnavailableError
from app.redis_io.embedded import EmbeddedRedis
from app.registry.redis_store import RedisVersionStore
from tests.unit.places import Place, redis_stays
from tests.unit.version_records import STORE, data, publish, record

SECRET = "hunter2"


@pytest.mark.redis
@pytest.mark.redis
class TestRefusals:
    """What passes is waited for, see OutageRetry; what does not is raised at once."""

    @pytest.fixture
    def own(self, tmp_path) -> Iterator[Place]:
        """Return a model at version 5 on a server that the test may change."""
        with EmbeddedRedis() as server:
            place = Place(server.url, tmp_path)
            place.registry.store.restore(record(5), data(5), STORE)
            yield place
            place.close()

    def test_server_without_memory_is_waited_for(self, own):
        own.redis.set("ballast", bytes(2_000_000))
        own.redis.config_set("maxmemory-policy", "noeviction")
        own.redis.config_set("maxmemory", "1mb")
        store = own.registry.store

        for write in (
            lambda: publish(store, record(6), record(5)),
            lambda: store.replace_epoch("q", b"", 1),
        ):
            with redis_stays(own), pytest.raises(RegistryUnavailableError):
                write()
        own.redis.config_set("maxmemory", 0)
        assert publish(store, record(6), record(5))

    def test_server_that_fails_over_is_waited_for(self, own):
        # A replica of a server that it cannot reach: what a failed master comes back as.
        own.redis.replicaof("127.0.0.1", unused_port())
        store = own.registry.store

        for write in (
            lambda: publish(store, record(6), record(5)),
            lambda: store.replace_epoch("q", b"", 1),
        ):
            with pytest.raises(RegistryUnavailableError):
                write()
        assert store.read() == record(5)
        own.redis.replicaof("NO", "ONE")
        assert publish(store, record(6), record(5))

    def test_replica_without_its_master_is_waited_for(self, own):
        own.redis.config_set("replica-serve-stale-data", "no")
        own.redis.replicaof("127.0.0.1", unused_port())

        with pytest.raises(RegistryUnavailableError):
            own.registry.store.read()
        own.redis.replicaof("NO", "ONE")
        assert own.registry.store.read() == record(5)

    def test_server_that_no_replica_follows_is_waited_for(self, own):
        own.redis.config_set("min-replicas-to-write", 1)
        with pytest.raises(RegistryUnavailableError):
            own.registry.store.replace_epoch("q", b"", 1)

    @pytest.mark.parametrize(
        "refusal",
        [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "NOREPLICAS Not enough good replicas to write.",
            "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk",
            "BUSY Redis is busy running a script.",
            "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
        ],
        ids=lambda text: text.split()[0],
    )
    def test_refusal_that_passes_is_an_outage(self, place, monkeypatch, refusal):
        with replying(place, monkeypatch, refusal) as store:
            with pytest.raises(RegistryUnavailableError):
                store.replace_epoch("q", b"", 1)

    @pytest.mark.parametrize(
        "refusal",
        [
            "ERR unknown command",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "NOPERM this user has no permissions to access the key OOMPH",
            "NOPERM this user has no permissions to access the key hbp:{LOADING}:head",
        ],
        ids=["unknown", "rights", "type", "slot", "alike", "key"],
    )
    def test_refusal_that_stays_is_no_outage(self, place, monkeypatch, refusal):
        with replying(place, monkeypatch, refusal) as store:
            with pytest.raises(RegistryError, match="refused") as caught:
                store.replace_epoch("q", b"", 1)
        assert not isinstance(caught.value, RegistryUnavailableError)

    def test_user_without_the_right_is_reported_and_not_waited_for(self, own):
        own.redis.execute_command(
            "ACL", "SETUSER", "scorer", "on", f">{SECRET}", "~*", "+get", "+hgetall", "+hmget"
        )
        address = own.url.rpartition("@")[2]
        store = RedisVersionStore(f"redis://scorer:{SECRET}@{address}", own.model)
        with contextlib.closing(store):
            assert store.read() == record(5)
            with pytest.raises(RegistryError) as caught:
                store.replace_epoch("q", b"", 1)
        assert not isinstance(caught.value, RegistryUnavailableError)
        assert SECRET not in str(caught.value)

    def test_wrong_password_is_reported_and_not_shown(self, server):
        address = server.url.rpartition("@")[2]
        store = RedisVersionStore(f"redis://default:{SECRET}@{address}", "m")

        with contextlib.closing(store), pytest.raises(RegistryError) as caught:
            store.read()
        assert not isinstance(caught.value, RegistryUnavailableError)
        assert SECRET not in str(caught.value)


@contextlib.contextmanager
def replying(place: Place, monkeypatch, refusal: str) -> Iterator[RedisVersionStore]:
    """Yield store whose server replies to a script as one of a newer Redis, or of a cluster."""
    with monkeypatch.context() as patch:
        patch.setattr(RedisVersionStore, "_REPLACE_EPOCH", f'return redis.error_reply("{refusal}")')
        store = RedisVersionStore(place.url, place.model)
    with contextlib.closing(store):
        yield store


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TestUnreachable:
    @pytest.mark.parametrize(
        "call",
        [
            lambda store: store.read(),
            lambda store: store.read_current(),
            lambda store: store.read_snapshot_directory(),
            lambda store: store.read_state(0),
            lambda store: store.read_epoch("q"),
            lambda store: store.replace_epoch("q", b"", 1),
            lambda store: store.restore(record(0), b"", STORE),
            lambda store: publish(store, record(1), record(0), query="q", epoch=1),
        ],
        ids=["read", "current", "store", "state", "epoch", "replace-epoch", "restore", "publish"],
    )
    def test_unreachable_server_is_reported_without_the_password(self, call):
        port = unused_port()
        store = RedisVersionStore(f"redis://learner:{SECRET}@127.0.0.1:{port}/0", "m")

        with pytest.raises(RegistryUnavailableError, match=f"127.0.0.1:{port}") as caught:
            call(store)
        assert SECRET not in str(caught.value)

    def test_server_that_does_not_answer_is_given_up_in_time(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            with contextlib.closing(RedisVersionStore(url, "m", timeout=0.05)) as store:
                with pytest.raises(RegistryUnavailableError):
                    store.read()

    def test_connection_that_the_server_closed_is_opened_again(self, place):
        store = place.registry.store
        store.restore(record(5), data(5), STORE)
        for client in place.redis.client_list(_type="normal"):
            if client["addr"] != place.redis.client_info()["addr"]:
                place.redis.client_kill(client["addr"])

        assert store.read() == record(5)

    @pytest.mark.redis
    @pytest.mark.redis
    def test_script_that_the_server_forgot_is_sent_again(self, tmp_path):
        with EmbeddedRedis() as server:
            place = Place(server.url, tmp_path)
            store = place.registry.store
            store.restore(record(5), data(5), STORE)
            publish(store, record(6), record(5))
            place.redis.script_flush()

            assert publish(store, record(7), record(6))
            place.close()
