"""A Redis of the user's own: TLS on the way to it, and users who may do what they must."""

from __future__ import annotations

import contextlib
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
import redis

from app.config.model import ModelConfig
from app.errors import RegistryError, RegistryUnavailableError
from app.model import HBPClassifier
from app.model.state import State, config_to_metadata
from app.redis_io.embedded import EmbeddedRedis
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.version import ModelVersion
from app.scoring.live_model import InitialModel, LiveModel, ModelSource
from tests.integration.redis_servers import (
    Authority,
    add_user,
    documented_rights,
    tls_in_front_of,
    url_as,
)
from tests.integration.streams import read_predictions, small_csv, small_replay

CONFIG = ModelConfig(n_features=2, n_classes=2, n_hidden_layers=1, n_hidden_units=2)
METADATA = config_to_metadata(CONFIG)
PASSWORD = "hunter2"
REFUSED = "no permissions|user executing the script"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture(scope="module")
def admin(server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, socket_timeout=10) as client:
        yield client


@pytest.fixture
def model() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def first_state() -> State:
    return HBPClassifier.from_config(CONFIG).get_state()


def later_state(state: State) -> State:
    return state | {"alpha": state["alpha"] + np.float32(0.5)}


@contextlib.contextmanager
def registry_at(url: str, model: str, directory: Path) -> Iterator[ModelRegistry]:
    with contextlib.closing(RedisVersionStore(url, model)) as heads:
        yield ModelRegistry(heads, directory)


def publish(registry: ModelRegistry, base: ModelVersion, state: State) -> ModelVersion:
    return registry.publish(base, {"kind": "rollback", "to": 0}, state, METADATA)


@contextlib.contextmanager
def scorer_at(url: str, registry: ModelRegistry, known: ModelVersion) -> Iterator[tuple]:
    """Yield a worker's model that knows ``known``, and its source; an outage is an error."""
    initial = InitialModel(known, registry.read(known).data)
    source = ModelSource(
        redis_url=url,
        model=registry.model,
        min_version=known,
        snapshots=str(registry.directory),
        fail_on_outage=True,
    )
    with contextlib.closing(LiveModel(source, initial)) as live:
        yield live, source


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "ca.pem")


@pytest.fixture(scope="module")
def ports(server, authority) -> Iterator[dict[str, int]]:
    certificates = {"tls": "127.0.0.1", "another host": "cache.example"}
    with contextlib.ExitStack() as stack:
        yield {"plain": urlsplit(server.url).port} | {
            name: stack.enter_context(tls_in_front_of(server.url, authority.server_context(host)))
            for name, host in certificates.items()
        }


class TestTls:
    @staticmethod
    def url(server, port: int, scheme: str = "rediss", **options: object) -> str:
        password = urlsplit(server.url).password
        return f"{scheme}://default:{password}@127.0.0.1:{port}/0?{urlencode(options)}"

    def test_a_model_is_published_loaded_and_followed(
        self, server, ports, authority, model, first_state, tmp_path
    ):
        url = self.url(server, ports["tls"], ssl_ca_certs=authority.path)
        with registry_at(url, model, tmp_path) as registry:
            first = registry.create(first_state, METADATA)
            with scorer_at(url, registry, first) as (live, source):
                second = publish(registry, first, later_state(first_state))
                # What is loaded now comes from Redis.
                registry.snapshots.drop(second.snapshot)
                assert not live.refresh(source)
                assert live.version == second.version == 1
            loaded = registry.read(second).state
            np.testing.assert_array_equal(loaded["alpha"], later_state(first_state)["alpha"])
            assert registry.recover() == second

    @pytest.mark.parametrize(
        ("port", "scheme", "trusted", "told"),
        [
            ("tls", "rediss", "another", "CERTIFICATE_VERIFY_FAILED"),
            ("tls", "rediss", None, "CERTIFICATE_VERIFY_FAILED"),
            ("tls", "rediss", "missing", "No such file"),
            ("tls", "rediss", "empty", "no certificate"),
            ("tls", "redis", None, "closed|reset"),
            ("another host", "rediss", "right", "not valid for '127.0.0.1'"),
            ("plain", "rediss", "right", "Timeout|SSL|closed"),
        ],
    )
    def test_without_trust_nothing_is_asked_and_no_password_is_told(
        self, port, scheme, trusted, told, server, ports, authority, tmp_path
    ):
        files = {
            "right": authority.path,
            "another": Authority(tmp_path / "another.pem").path,
            "missing": tmp_path / "missing.pem",
            "empty": tmp_path / "empty.pem",
        }
        files["empty"].touch()
        options = {"ssl_ca_certs": files[trusted]} if trusted else {}
        url = self.url(server, ports[port], scheme, **options)
        # A server that does not know TLS waits for more of what it takes for a command.
        timeout = 0.5 if port == "plain" else 10.0
        with (
            contextlib.closing(RedisVersionStore(url, "m", timeout)) as heads,
            pytest.raises(RegistryUnavailableError, match=told) as caught,
        ):
            heads.read()
        shown = "".join(traceback.format_exception(caught.value))
        assert f"{scheme}://127.0.0.1:{ports[port]}/0 cannot be reached" in shown
        assert urlsplit(server.url).password not in shown


@dataclass(frozen=True)
class Users:
    """A model's learner and scorer.

    Attributes
    ----------
    learner, scorer : str
        Their URLs.
    """

    model: str
    learner: str
    scorer: str


@pytest.fixture
def users(server, admin, model) -> Users:
    for user in ("learner", "scorer"):
        add_user(admin, user, PASSWORD, model)
    return Users(model, *(url_as(server.url, user, PASSWORD) for user in ("learner", "scorer")))


def learn(url: str, model: str, directory: Path, state: State) -> None:
    """Ask of Redis whatever a learner may ask."""
    with registry_at(url, model, directory) as registry:
        registry.store.read_snapshot_directory()
        first = registry.create(state, METADATA)
        lease = registry.acquire("q")
        registry.fence(lease)
        staged = registry.stage(first, lease, 0, later_state(state), METADATA)
        registry.commit(first, staged, lease)
        registry.finalize(staged)
        assert registry.current(staged.record) == staged.record
        registry.read(staged.record)


def follow(url: str, learner_url: str, model: str, directory: Path, state: State) -> None:
    """Ask of Redis whatever a scorer may ask."""
    with registry_at(learner_url, model, directory) as registry:
        first = registry.create(state, METADATA)
        publish(registry, first, later_state(state))
        with scorer_at(url, registry, first) as (live, source):
            live.refresh(source)
            assert live.version == 1


def contents(admin: redis.Redis, model: str) -> dict[bytes, bytes]:
    return {key: admin.dump(key) for key in admin.scan_iter(f"hbp:{{{model}}}:*")}


def allowed(client: redis.Redis, commands: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return those of ``commands`` that the server does not refuse."""
    found = []
    for command in commands:
        try:
            client.execute_command(*command)
        except redis.exceptions.NoPermissionError:
            continue
        found.append(command)
    return found


def rights_that_matter(user: str) -> list[str]:
    return [rule for rule in documented_rights(user) if rule[0] in "+~&"]


class TestDocumentedUsers:
    def test_a_whole_replay_is_refused_nothing_it_needs(self, users, admin, tmp_path):
        admin.execute_command("ACL", "LOG", "RESET")
        summary = small_replay(
            small_csv(tmp_path / "rows.csv", 200),
            tmp_path / "w",
            redis_url=users.learner,
            executor_redis_url=users.scorer,
            model=users.model,
            on_registry_outage="fail",
        )
        assert (summary.version, summary.run.rows_learned, summary.run.rows_stale) == (2, 200, 0)
        predictions = read_predictions(tmp_path / "w")
        # Each version was read by the scorer, and not by the driver for it.
        assert (predictions["model_version"] == predictions["batch_id"]).all()
        refused = {entry["object"] for entry in admin.acl_log()}
        # How the client introduces itself, before anything else.
        assert {name.partition("|")[0] for name in refused} <= {"client"}

    def test_redis_that_lost_everything_is_mended(self, users, admin, first_state, tmp_path):
        learn(users.learner, users.model, tmp_path, first_state)
        admin.delete(*contents(admin, users.model))
        with registry_at(users.learner, users.model, tmp_path) as registry:
            restored = registry.current()
            assert registry.store.read() == restored
            assert (restored.version, len(contents(admin, users.model))) == (1, 2)

    @pytest.mark.parametrize("right", rights_that_matter("learner"))
    def test_a_learner_needs_every_right(self, right, users, admin, server, first_state, tmp_path):
        learn(users.learner, users.model, tmp_path / "with", first_state)
        add_user(admin, "learner", PASSWORD, f"{users.model}-2", without=right)
        # A script that another learner has left there need not be loaded.
        admin.script_flush()
        with pytest.raises(RegistryError, match=REFUSED) as caught:
            learn(users.learner, f"{users.model}-2", tmp_path / "without", first_state)
        assert not isinstance(caught.value, RegistryUnavailableError)

    @pytest.mark.parametrize("right", rights_that_matter("scorer"))
    def test_a_scorer_needs_every_right(self, right, users, admin, first_state, tmp_path):
        learner, model = users.learner, users.model
        follow(users.scorer, learner, model, tmp_path / "with", first_state)
        add_user(admin, "learner", PASSWORD, f"{model}-2")
        add_user(admin, "scorer", PASSWORD, f"{model}-2", without=right)
        with pytest.raises(RegistryError, match=REFUSED) as caught:
            follow(users.scorer, learner, f"{model}-2", tmp_path / "without", first_state)
        assert not isinstance(caught.value, RegistryUnavailableError)

    @pytest.mark.parametrize("user", ["learner", "scorer"])
    def test_neither_reaches_another_model_or_the_server(self, user, users, admin):
        own, other = f"hbp:{{{users.model}}}", f"hbp:{{{users.model}-2}}"
        for place in (own, other):
            admin.hset(f"{place}:head", "version", 7)
            admin.set(f"{place}:state:7", "bytes")
        before = contents(admin, "*")
        with redis.Redis.from_url(getattr(users, user)) as client:
            assert allowed(
                client,
                [
                    ("GET", f"{other}:state:7"),
                    ("HGETALL", f"{other}:head"),
                    ("HMGET", f"{other}:head", "version"),
                    ("HSET", f"{other}:head", "version", "8"),
                    ("SET", f"{other}:state:8", "x"),
                    ("SET", "anything", "x"),
                    ("DEL", f"{other}:head"),
                    ("DEL", f"{own}:head", f"{other}:head"),
                    ("RENAME", f"{own}:head", f"{other}:head"),
                    ("EXPIRE", f"{own}:head", "0"),
                    ("PUBLISH", f"{other}:versions", "8"),
                    ("SUBSCRIBE", f"{other}:versions"),
                    ("EVAL", "return 1", "0"),
                    ("SCRIPT", "FLUSH"),
                    ("SCRIPT", "KILL"),
                    ("FLUSHALL",),
                    ("FLUSHDB",),
                    ("KEYS", "*"),
                    ("SCAN", "0"),
                    ("CONFIG", "GET", "requirepass"),
                    ("CONFIG", "SET", "save", "1 1"),
                    ("ACL", "LIST"),
                    ("ACL", "SETUSER", user, "allkeys"),
                    ("CLIENT", "LIST"),
                    ("MONITOR",),
                    ("REPLICAOF", "NO", "ONE"),
                    ("SHUTDOWN", "NOSAVE"),
                ],
            ) == []  # fmt: skip
        assert contents(admin, "*") == before

    def test_a_scorer_changes_nothing_of_its_own_model(self, users, admin):
        own = f"hbp:{{{users.model}}}"
        admin.hset(f"{own}:head", "version", 7)
        sha = admin.script_load("return 1")
        before = contents(admin, users.model)
        with redis.Redis.from_url(users.scorer) as client:
            assert client.hmget(f"{own}:head", "version") == [b"7"]
            assert allowed(
                client,
                [
                    ("HSET", f"{own}:head", "version", "8"),
                    ("HDEL", f"{own}:head", "version"),
                    ("SET", f"{own}:state:8", "x"),
                    ("DEL", f"{own}:head"),
                    ("UNLINK", f"{own}:head"),
                    ("SET", f"{own}:epoch:q", "9"),
                    ("GET", f"{own}:epoch:q"),
                    ("PUBLISH", f"{own}:versions", "8"),
                    ("EVALSHA", sha, "0"),
                    ("SCRIPT", "LOAD", "return 1"),
                ],
            ) == []  # fmt: skip
        assert contents(admin, users.model) == before

    def test_a_script_of_a_learner_reaches_no_other_model(self, users, admin):
        other = f"hbp:{{{users.model}-2}}:head"
        admin.hset(other, "version", 7)
        with redis.Redis.from_url(users.learner) as client:
            for call in (f"'HSET', '{other}', 'version', 8", f"'HGET', '{other}', 'version'"):
                sha = client.script_load(f"return redis.call({call})")
                with pytest.raises(redis.ResponseError, match=REFUSED):
                    client.evalsha(sha, 0)
        assert admin.hget(other, "version") == b"7"
