"""Whatever is damaged, a registry ends in an error or in the newest version, as it was."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from app.errors import RegistryError, StateError
from tests.unit.damages import TO_JSON, TO_STATE
from tests.unit.places import METADATA, Place, publish, state_of

DAMAGES = 200
NEWEST = 5


@dataclass(frozen=True)
class Item:
    """One thing that may be damaged: a file, a key in Redis or a field of the version record."""

    kind: str
    name: str
    read: Callable[[], bytes]
    write: Callable[[bytes], object]


HARMS = {"record": TO_JSON, "field": TO_JSON, "state in Redis": TO_STATE, "snapshot": TO_STATE}


class Model:
    """A model at version 5, which can be brought back to what it was."""

    def __init__(self, place: Place, copy: Path) -> None:
        registry = place.registry
        registry.create(state_of(0), METADATA)
        lease = registry.acquire("q")
        for _ in range(NEWEST):
            self.newest = publish(registry, lease)
        self.place = place
        self._copy = shutil.copytree(place.directory, copy)
        self._keys = place.contents()

    def restore(self) -> None:
        shutil.rmtree(self.place.directory)
        shutil.copytree(self._copy, self.place.directory)
        self.place.rewind(self._keys)

    def files(self) -> list[Item]:
        """Return the files, the newest of each kind first."""
        directory = self.place.directory
        records = sorted(directory.glob("versions/*/*.json"), reverse=True)
        snapshots = sorted(directory.glob("*.safetensors"), reverse=True)
        kinds = {"record": [directory / "HEAD.json", *records], "snapshot": snapshots}
        return [
            Item(kind, path.name, path.read_bytes, path.write_bytes)
            for kind, paths in kinds.items()
            for path in paths
        ]

    def keys(self) -> list[Item]:
        """Return what Redis holds of it, the newest state first."""
        client, key = self.place.redis, self.place.key("head")

        def field(name: str) -> Item:
            return Item(
                "field",
                name,
                lambda: client.hget(key, name),
                lambda value: client.hset(key, name, value),
            )

        def state(key: str) -> Item:
            return Item(
                "state in Redis", key, lambda: client.get(key), lambda value: client.set(key, value)
            )

        states = sorted((key for key in self._keys if ":state:" in key), reverse=True)
        # Not the directory's name, by which no version is found that files or Redis have not.
        fields = [name.decode() for name in self._keys[key] if name != b"store"]
        return [*map(field, fields), *map(state, states)]


@pytest.fixture(scope="module")
def model(server, tmp_path_factory) -> Iterator[Model]:
    root = tmp_path_factory.mktemp("model")
    place = Place(server.url, root / "snapshots")
    yield Model(place, root / "copy")
    place.close()


def damage(items: list[Item], rng: random.Random) -> str:
    """Damage one item, or swap it with another, and say what was done."""
    kind = rng.choice(sorted({item.kind for item in items}))
    alike = [item for item in items if item.kind == kind]
    # The first two are what is looked at first, HEAD.json or the newest.
    item = rng.choice(alike if kind == "field" or rng.random() < 0.3 else alike[:2])
    other = rng.choice(alike if rng.random() < 0.8 else items)
    if rng.random() < 0.15:
        mine, others = item.read(), other.read()
        item.write(others)
        other.write(mine)
        return f"swap {item.kind} {item.name} and {other.kind} {other.name}"
    harm = rng.choice(HARMS[kind])
    item.write(harm(item.read(), rng, other.read()))
    return f"{harm.__name__} {item.kind} {item.name}"


def test_any_damage_ends_in_an_error_or_in_the_newest_version(model):
    outcomes: Counter[str] = Counter()
    for seed in range(DAMAGES):
        rng = random.Random(seed)
        model.restore()
        items = model.files() + model.keys()
        if rng.random() < 0.5:
            model.place.lose()
            items = model.files()
        damages = [damage(items, rng) for _ in range(rng.randint(1, 4))]

        registry = model.place.open()
        try:
            record = registry.recover()
            stored = registry.read(record)
            state, metadata = stored.state, stored.metadata
        except (RegistryError, StateError):
            outcomes["error"] += 1
        else:
            what = f"seed {seed}: {damages}"
            assert record == model.newest == registry.store.read(), what
            assert metadata == METADATA | {"version": str(NEWEST)}, what
            assert state.keys() == state_of(NEWEST).keys(), what
            for name, array in state_of(NEWEST).items():
                np.testing.assert_array_equal(state[name], array, what, strict=True)
            outcomes["recovery"] += 1

    assert outcomes.total() == DAMAGES
    assert outcomes["error"] and outcomes["recovery"], outcomes


@pytest.mark.timeout(30)
@pytest.mark.parametrize("value", ["", "1.5", "1e3", "0x7", " 7", "-1", "inf", "nan", "seven"])
def test_damaged_epoch_is_as_good_as_lost(place, registry, lease, value):
    place.redis.set(place.key("epoch:q"), value)

    assert publish(registry, lease).version == 1
    assert registry.store.read_epoch("q") == lease.epoch
    assert registry.acquire("q").epoch == lease.epoch + 1
