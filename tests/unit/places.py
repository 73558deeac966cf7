"""A model on a real redis-server: what a test does to it, and what is left of it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import redis

from app.registry.epochs import Lease
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.staged import Staged
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog

METADATA = {"config": '{"beta": 0.99}', "classes": "no,yes"}


def state_of(value: float) -> dict[str, np.ndarray]:
    return {"alpha": np.array([value, 0.5]), "row_count": np.array(3)}


class Place:
    """One model on a shared server, one directory, and registries over them."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory
        self.model = f"m-{uuid.uuid4().hex[:8]}"
        self.redis = redis.Redis.from_url(url, socket_timeout=10)
        self._open = contextlib.ExitStack()
        self._open.callback(self.redis.close)
        self.registry = self.open()

    def open(self, directory: Path | None = None, model: str | None = None) -> ModelRegistry:
        """Return a registry as another process has it."""
        store = RedisVersionStore(self.url, model or self.model)
        self._open.callback(store.close)
        return ModelRegistry(store, directory or self.directory)

    def close(self) -> None:
        self._open.close()

    def key(self, suffix: str) -> str:
        return f"hbp:{{{self.model}}}:{suffix}"

    def contents(self) -> dict[str, bytes | dict[bytes, bytes]]:
        """Return all that Redis holds of the model."""
        keys = sorted(key.decode() for key in self.redis.scan_iter(self.key("*")))
        # Not DUMP: what that says of a hash changes while Redis rearranges it.
        return {
            key: self.redis.hgetall(key) if self.redis.type(key) == b"hash" else self.redis.get(key)
            for key in keys
        }

    def lose(self) -> None:
        """Empty Redis of the model."""
        for key in self.redis.scan_iter(self.key("*")):
            self.redis.delete(key)

    def rewind(self, contents: dict[str, bytes | dict[bytes, bytes]]) -> None:
        """Bring Redis back to what it held, as a replica that lagged does."""
        self.lose()
        for key, value in contents.items():
            if isinstance(value, dict):
                self.redis.hset(key, mapping=value)
            else:
                self.redis.set(key, value)

    def kept_states(self) -> set[int]:
        """Return the versions whose state Redis holds."""
        return {int(key.rpartition(":")[2]) for key in self.contents() if ":state:" in key}

    def records(self) -> list[ModelVersion]:
        """Return the records of the version log, as a process that has just started reads them."""
        return list(VersionLog(self.directory, self.model).records())

    def staged(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("staged/*"))

    def snapshots(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("*.safetensors"))

    def history(self) -> dict[str, bytes]:
        """Return all files but the snapshots, and what is staged."""
        files = (path for path in self.directory.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in files
            if path.suffix != ".safetensors" and path.parent.name != "staged"
        }


def stage(
    registry: ModelRegistry, lease: Lease, value: float | None = None
) -> tuple[ModelVersion, Staged]:
    """Stage the lease's next batch on the current version; return that version and the staged."""
    base = registry.current()
    batch = base.applied.get(lease.query, -1) + 1
    value = base.version + 1 if value is None else value
    return base, registry.stage(base, lease, batch, state_of(value), METADATA)


def commit(registry: ModelRegistry, lease: Lease, value: float | None = None) -> Staged:
    """Publish the next version up to the commit, as a learner does that dies right after it."""
    base, staged = stage(registry, lease, value)
    registry.commit(base, staged, lease)
    return staged


def publish(registry: ModelRegistry, lease: Lease, value: float | None = None) -> ModelVersion:
    staged = commit(registry, lease, value)
    registry.finalize(staged)
    registry.write_current(staged.record)
    return staged.record


@contextlib.contextmanager
def announced(place: Place) -> Iterator[Callable[[], list[str]]]:
    """Yield a function that returns the versions announced since the block was entered."""
    end = b"end"
    with place.redis.pubsub() as subscriber:
        subscriber.subscribe(place.key("versions"))
        assert subscriber.get_message(timeout=10)["type"] == "subscribe"

        def versions() -> list[str]:
            place.redis.publish(place.key("versions"), end)
            messages = iter(lambda: subscriber.get_message(timeout=10)["data"], end)
            return [message.decode() for message in messages]

        yield versions


@contextlib.contextmanager
def redis_stays(place: Place) -> Iterator[None]:
    """Fail if the block changes what Redis holds, or announces a version."""
    before = place.contents()
    with announced(place) as versions:
        yield
        assert versions() == []
    assert place.contents() == before


@contextlib.contextmanager
def nothing_changes(place: Place) -> Iterator[None]:
    """Fail if the block changes Redis or the history."""
    before = place.history()
    with redis_stays(place):
        yield
    assert place.history() == before
