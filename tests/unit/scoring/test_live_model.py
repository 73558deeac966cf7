"""A scorer's live model follows Redis, and loads nothing from there that was altered."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pytest

from app.config.model import ModelConfig
from app.errors import HedgestreamError, NewerFormatError, RegistryUnavailableError
from app.model.classifier import HBPClassifier
from app.model.forward.scorer import Scorer
from app.model.state import config_to_metadata, metadata_sha256, state_sha256, state_to_bytes
from app.registry.redis_store import RedisVersionStore
from app.registry.version import ModelVersion, snapshot_name
from app.scoring.live_model import InitialModel, LiveModel, ModelSource
from tests.unit.damages import TO_JSON, TO_STATE
from tests.unit.places import Place
from tests.unit.version_records import as_fields, in_newer_format

CONFIG = ModelConfig(n_features=3, n_classes=2, n_hidden_layers=2, n_hidden_units=4)
METADATA = config_to_metadata(CONFIG) | {"classes": "no,yes"}
NEWEST = 3
ROWS = np.array([[0.1, -0.2, 0.3], [1.0, 2.0, -1.0]], "float32")

DAMAGES = 60


def state_of(version: int) -> dict[str, np.ndarray]:
    state = HBPClassifier.from_config(CONFIG).get_state()
    return state | {"head_bias_0": state["head_bias_0"] + np.array([0, version], "float32")}


class Published:
    """A model at version 3, which can be brought back to what it was."""

    def __init__(self, place: Place) -> None:
        registry = place.registry
        self.place = place
        self.records = [registry.create(state_of(0), METADATA)]
        self.initial = InitialModel(self.records[0], registry.read(self.records[0]).data)
        while len(self.records) <= NEWEST:
            base, origin = self.records[-1], {"kind": "rollback", "to": 0}
            state = state_of(base.version + 1)
            self.records.append(registry.publish(base, origin, state, METADATA))
        self._keys = place.contents()
        scorer = Scorer(CONFIG)
        self._expected = [scorer.predict_proba(state_of(v), ROWS) for v in range(NEWEST + 1)]

    def restore(self) -> None:
        self.place.rewind(self._keys)

    def source(self, **changes: object) -> ModelSource:
        """Return the source of a query that began at version 0, and holds it still."""
        source = ModelSource(
            redis_url=self.place.url,
            model=self.place.model,
            min_version=self.records[0],
            snapshots=str(self.place.directory),
            fail_on_outage=False,
        )
        return dataclasses.replace(source, **changes)

    def assert_serves(self, live: LiveModel, version: int, what: object = "") -> None:
        assert live.version == version, what
        found = live.predict_proba(ROWS)
        np.testing.assert_array_equal(found, self._expected[version], str(what))


@pytest.fixture(scope="module")
def published(server, tmp_path_factory) -> Iterator[Published]:
    with contextlib.closing(Place(server.url, tmp_path_factory.mktemp("model"))) as place:
        yield Published(place)


@pytest.fixture
def live(published) -> Iterator[LiveModel]:
    """Return a scorer at version 0, while Redis is at version 3."""
    published.restore()
    with contextlib.closing(LiveModel(published.source(), published.initial)) as live:
        published.assert_serves(live, 0)
        yield live


def test_newest_version_is_loaded(published, live):
    assert not live.refresh(published.source())
    published.assert_serves(live, NEWEST)


def test_altered_state_is_never_loaded(published, live):
    key = published.place.key(f"state:{NEWEST}")
    sound = published.place.redis.get(key)
    others = [published.place.redis.get(published.place.key(f"state:{v}")) for v in (1, 2)]
    for seed in range(DAMAGES):
        rng = random.Random(seed)
        harm = rng.choice(TO_STATE)
        altered = harm(sound, rng, rng.choice(others))
        published.place.redis.set(key, altered)
        if altered != sound:
            assert live.refresh(published.source()), (seed, harm)
            published.assert_serves(live, 0, (seed, harm))

    published.restore()
    assert not live.refresh(published.source())
    published.assert_serves(live, NEWEST)


def test_altered_head_is_never_believed(published, live):
    client, key = published.place.redis, published.place.key("head")
    fields = {name: value for name, value in client.hgetall(key).items() if name != b"store"}
    for seed in range(DAMAGES):
        rng = random.Random(seed)
        name, harm = rng.choice(sorted(fields)), rng.choice(TO_JSON)
        altered = harm(fields[name], rng, rng.choice(sorted(fields.values())))
        published.restore()
        client.hset(key, name, altered)
        if altered != fields[name]:
            assert live.refresh(published.source()), (seed, name, harm)
            published.assert_serves(live, 0, (seed, name, harm))

    published.restore()
    assert not live.refresh(published.source())


def test_a_record_of_a_newer_format_is_not_followed(published, live):
    fields = as_fields(in_newer_format(published.records[NEWEST]))
    published.place.redis.hset(published.place.key("head"), mapping=fields)

    assert live.refresh(published.source())
    published.assert_serves(live, 0)
    with pytest.raises(NewerFormatError):
        live.refresh(published.source(fail_on_outage=True))


def test_state_of_another_version_is_never_loaded(published, live):
    client = published.place.redis
    key = published.place.key(f"state:{NEWEST}")
    client.set(key, client.get(published.place.key("state:1")))

    assert live.refresh(published.source())
    published.assert_serves(live, 0)


FORGED_STATES = {
    "settings": lambda state: (state, config_to_metadata(dataclasses.replace(CONFIG, beta=0.5))),
    "no settings": lambda state: (state, {}),
    "shape": lambda state: (state | {"alpha": np.ones(7, "float32")}, METADATA),
    "names": lambda state: ({"alpha": state["alpha"]}, METADATA),
}


@pytest.mark.parametrize("forge", FORGED_STATES.values(), ids=FORGED_STATES.keys())
@pytest.mark.parametrize("vouched", [True, False], ids=["3", "before"])
def test_state_of_another_model_is_never_loaded_although_its_hashes_fit(
    published, live, forge, vouched
):
    state, metadata = forge(state_of(NEWEST))
    sha256 = state_sha256(state)
    record = dataclasses.replace(
        published.records[NEWEST],
        state_sha256=sha256,
        snapshot=snapshot_name(NEWEST, sha256),
        metadata_sha256=metadata_sha256(metadata) if vouched else "",
    )
    client, key = published.place.redis, published.place.key
    client.hset(key("head"), mapping=record.to_fields())
    client.set(key(f"state:{NEWEST}"), state_to_bytes(state, metadata))

    assert live.refresh(published.source())
    published.assert_serves(live, 0)


@pytest.mark.timeout(30)
def test_redis_that_names_another_version_at_each_look_is_not_followed_for_good(
    published, live, monkeypatch
):
    newest = published.records[NEWEST]
    data = published.place.registry.read(newest).data
    others = itertools.count()

    def another() -> ModelVersion:
        return dataclasses.replace(newest, commit=f"c{next(others)}")

    monkeypatch.setattr(live._store, "read_current", lambda: (NEWEST, another().commit))
    monkeypatch.setattr(live._store, "read", another)
    monkeypatch.setattr(live._store, "read_state", lambda version: data)

    assert live.refresh(published.source())
    with pytest.raises(RegistryUnavailableError, match="named another version"):
        live.refresh(published.source(fail_on_outage=True))


@pytest.mark.parametrize("text", ["03", "+3", " 3", "\u0663", "9" * 400])
def test_version_in_another_form_is_not_followed(published, live, text):
    published.place.redis.hset(published.place.key("head"), "version", text)

    assert live.refresh(published.source())
    published.assert_serves(live, 0)


@pytest.mark.parametrize("key", ["head", f"state:{NEWEST}"])
def test_key_of_another_type_is_as_good_as_lost(published, live, key):
    published.place.redis.delete(published.place.key(key))
    published.place.redis.rpush(published.place.key(key), "text")

    assert live.refresh(published.source())
    published.assert_serves(live, 0)


@pytest.mark.timeout(30)
def test_lost_state_is_reported_and_not_waited_for(published, live):
    published.place.redis.delete(published.place.key(f"state:{NEWEST}"))

    assert live.refresh(published.source())
    published.assert_serves(live, 0)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("loss", ["altered", "lost"])
def test_state_that_the_driver_holds_is_had_from_its_snapshot(published, live, loss):
    key = published.place.key(f"state:{NEWEST}")
    if loss == "lost":
        published.place.redis.delete(key)
    else:
        published.place.redis.setrange(key, 200, b"altered")

    assert live.refresh(published.source(min_version=published.records[NEWEST]))
    published.assert_serves(live, NEWEST)


def go_back(published: Published, version: int) -> None:
    """Let Redis hold what it did when a version was the newest."""
    place, older = published.place, published.records[version]
    place.lose()
    data = (place.directory / older.snapshot).read_bytes()
    place.registry.store.restore(older, data, str(place.directory))


def test_redis_that_went_back_is_reported_and_not_followed(published, live):
    assert not live.refresh(published.source())
    go_back(published, 1)

    assert live.refresh(published.source())
    published.assert_serves(live, NEWEST)


def test_redis_that_goes_back_while_it_is_read_is_not_followed(published, live):
    held = published.source(min_version=published.records[2])
    published.place.lose()
    assert live.refresh(held)
    published.restore()
    read = live._store.read

    def read_too_late() -> ModelVersion | None:
        go_back(published, 1)
        return read()

    live._store.read = read_too_late

    assert live.refresh(held)
    published.assert_serves(live, 2)


def test_damage_is_an_error_when_an_outage_is_one(published, live):
    source = published.source(fail_on_outage=True)
    published.place.redis.setrange(published.place.key(f"state:{NEWEST}"), 200, b"altered")
    with pytest.raises(HedgestreamError):
        live.refresh(source)
    published.assert_serves(live, 0)


class TestStaleness:
    """An outage of Redis counts from when it was last asked."""

    @pytest.fixture
    def clock(self, monkeypatch):
        clock = SimpleNamespace(now=1000.0)
        monkeypatch.setattr("app.scoring.live_model.time.monotonic", lambda: clock.now)
        return clock

    @pytest.fixture
    def outage(self, monkeypatch):
        return lambda: monkeypatch.setattr(RedisVersionStore, "read_current", _unreachable)

    def test_rows_are_flagged_once_the_outage_is_longer_than_allowed(
        self, published, live, clock, outage
    ):
        source = published.source(max_staleness=5.0)
        assert not live.refresh(source)
        outage()
        clock.now += 5
        assert not live.refresh(source)
        clock.now += 0.1
        assert live.refresh(source)
        published.assert_serves(live, NEWEST)

    def test_the_run_ends_then_and_no_earlier_when_asked_to(self, published, live, clock, outage):
        source = published.source(max_staleness=5.0, fail_on_outage=True)
        live.refresh(source)
        outage()
        clock.now += 5
        assert not live.refresh(source)
        clock.now += 0.1
        with pytest.raises(RegistryUnavailableError):
            live.refresh(source)

    def test_a_scorer_that_never_reached_redis_is_stale_at_once(
        self, published, live, clock, outage
    ):
        outage()
        assert live.refresh(published.source(max_staleness=1e9))

    def test_asking_again_ends_the_outage(self, published, live, clock, monkeypatch):
        source = published.source(max_staleness=5.0)
        with monkeypatch.context() as patched:
            patched.setattr(RedisVersionStore, "read_current", _unreachable)
            clock.now += 100
            assert live.refresh(source)
        assert not live.refresh(source)


def _unreachable(store):
    raise RegistryUnavailableError("Redis cannot be reached")


def test_the_age_is_that_of_the_version_in_use(published, live, monkeypatch):
    live.refresh(published.source())
    published_at = datetime.fromisoformat(published.records[NEWEST].published_at).timestamp()
    monkeypatch.setattr("app.scoring.live_model.time.time", lambda: published_at + 2.5)
    assert live.age_ms() == 2500
    # A clock that is behind the publisher's gives no age below none.
    monkeypatch.setattr("app.scoring.live_model.time.time", lambda: published_at - 2.5)
    assert live.age_ms() == 0
