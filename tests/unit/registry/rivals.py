"""Learners that publish while another one is at work."""

from __future__ import annotations

from pathlib import Path

from app.registry.conflict import retry_on_conflict
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.version import ModelVersion


class Overtaken(ModelRegistry):
    """A registry whose first commits come just after another learner's."""

    def __init__(
        self, store: RedisVersionStore, directory: Path, rivals: list[ModelRegistry]
    ) -> None:
        super().__init__(store, directory)
        self.rivals = rivals

    def commit(self, base, staged, lease=None) -> None:
        if self.rivals:
            publish_batch(self.rivals.pop())
        super().commit(base, staged, lease)


def publish_batch(registry: ModelRegistry) -> ModelVersion:
    """Publish the next batch of query q; what it has learned is of no matter here."""

    def attempt() -> ModelVersion:
        current = registry.current()
        stored = registry.read(current)
        state, metadata = stored.state, stored.metadata
        staged = registry.stage(current, lease, current.applied["q"] + 1, state, metadata)
        registry.commit(current, staged, lease)
        registry.finalize(staged)
        registry.write_current(staged.record)
        return staged.record

    lease = registry.acquire("q")
    return retry_on_conflict(attempt)
