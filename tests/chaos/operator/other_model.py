"""Another model under the same name, whose history is longer."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

from app.registry.open import version_log_of
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.snapshots import Retention, SnapshotStore
from tests.chaos.operator.place import Place
from tests.redis_server import RedisServer

_LONGER = 40


@contextlib.contextmanager
def other_history(place: Place, *, is_there: bool) -> Iterator[RedisServer]:
    """Yield a Redis that holds it.

    Parameters
    ----------
    place
        Its model has the same name, and as many features and classes.
    is_there
        Whether the directory of its snapshots still exists.
    """
    log = version_log_of(place.workdir)
    stored = SnapshotStore(log.directory).read(log.newest())
    directory = place.root / "other"
    directory.mkdir()
    try:
        with RedisServer(place.root) as server:
            with contextlib.closing(RedisVersionStore(server.url, log.model)) as store:
                registry = ModelRegistry(store, directory, Retention(2, 0))
                version = registry.create(stored.state, stored.metadata)
                for _ in range(log.newest().version + _LONGER):
                    origin = {"kind": "rollback", "to": 0}
                    version = registry.publish(version, origin, stored.state, stored.metadata)
            if not is_there:
                shutil.rmtree(directory)
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)
