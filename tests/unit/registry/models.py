"""Versions of a model of one number, for tests of opening it."""

from __future__ import annotations

import numpy as np

from app.registry.registry import ModelRegistry
from app.registry.version import ModelVersion

METADATA = {"config": "{}"}


def state_of(value: float) -> dict[str, np.ndarray]:
    return {"alpha": np.array([value])}


def publish(registry: ModelRegistry, versions: int = 1) -> ModelVersion:
    """Publish versions of a model, the first of all if there is none; return the newest."""
    current = registry.create(state_of(0), METADATA)
    for _ in range(versions):
        state, origin = state_of(current.version + 1), {"kind": "batch", "query": "q", "batch": 0}
        current = registry.publish(current, origin, state, METADATA)
    return current
