"""Version records with no model behind them, and records of other formats."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from app.registry.redis_store import RedisVersionStore
from app.registry.version import ModelVersion

STORE = "/snapshots"


def record(version: int, commit: str | None = None, **changes) -> ModelVersion:
    fields = {
        "version": version,
        "state_sha256": f"{version:064x}",
        "snapshot": f"v{version:010d}-{version:016x}.safetensors",
        "published_at": "2024-01-01T00:00:00.000+00:00",
        "commit": commit or f"commit-{version}",
        "parent": f"commit-{version - 1}" if version else "",
        "applied": {"q": version - 1} if version else {},
        "origin": {"kind": "created"},
    }
    return ModelVersion(**fields | changes)


def data(version: int) -> bytes:
    return f"state of {version}".encode()


def publish(store: RedisVersionStore, new: ModelVersion, base: ModelVersion, **lease) -> bool:
    return store.publish(new, data(new.version), STORE, base=base, **lease)


def in_format_1(version: ModelVersion) -> dict[str, Any]:
    """Return a record as the first release wrote it."""
    content = dataclasses.asdict(version)
    return content | {"seal": sha256_of(content)}


def in_newer_format(version: ModelVersion, number: Any = 3) -> dict[str, Any]:
    """Return a whole record of a release to come, with a field that this one does not know."""
    content = {"format": number} | dataclasses.asdict(version)
    return content | {"checksum": sha256_of(content), "tenant": "a"}


def as_fields(content: dict[str, Any]) -> dict[str, str]:
    """Return a record's content as the fields of a Redis hash."""
    return {
        name: json.dumps(value) if isinstance(value, dict) else str(value)
        for name, value in content.items()
    }


def sha256_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
