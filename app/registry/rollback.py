"""Bringing an old version back, as the newest."""

from __future__ import annotations

from app.registry.conflict import retry_on_conflict
from app.registry.rebuild import Rebuilder
from app.registry.registry import ModelRegistry
from app.registry.version import ModelVersion


def roll_back(registry: ModelRegistry, rebuilder: Rebuilder, version: int) -> ModelVersion:
    """Publish an old version's state as a new version, and return its record.

    Batches learned since stay applied: their rows are left out on purpose, and
    not learned again. A learner that is at work goes on from the new version.

    Raises
    ------
    UserError
        When there is no such version.
    HedgestreamError
        When its state cannot be had.
    """
    state, metadata = rebuilder.state_of(version)

    def attempt() -> ModelVersion:
        base = registry.current()
        return registry.publish(base, {"kind": "rollback", "to": version}, state, metadata)

    return retry_on_conflict(attempt)
