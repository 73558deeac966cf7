"""Version records with no model behind them, and records of other formats."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from app.registry.redis_store import RedisVersionStore
from app.registry.version import ModelVersion, snapshot_name

STORE = "/snapshots"


def record(version: int, commit: str | None = None, **changes) -> ModelVersion:
    fields = {
        "version": version,
        "state_sha256": f"{version:064x}",
        "snapshot": snapshot_name(version, f"{version:064x}"),
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
    content = _fields_of_format_2(version)
    return content | {"seal": sha256_of(content)}


def in_format_2(version: ModelVersion) -> dict[str, Any]:
    """Return a record as the second release wrote it, which vouches for no metadata."""
    content = {"format": 2} | _fields_of_format_2(version)
    return content | {"checksum": sha256_of(content)}


def in_newer_format(version: ModelVersion, number: Any = 4) -> dict[str, Any]:
    """Return a whole record of a release to come, with a field that this one does not know."""
    content = {"format": number} | _fields_of_format_2(version)
    return content | {"checksum": sha256_of(content), "tenant": "a"}


def _fields_of_format_2(version: ModelVersion) -> dict[str, Any]:
    content = dataclasses.asdict(version)
    del content["metadata_sha256"]
    return content


def as_fields(content: dict[str, Any]) -> dict[str, str]:
    """Return a record's content as the fields of a Redis hash."""
    return {
        name: json.dumps(value) if isinstance(value, dict) else str(value)
        for name, value in content.items()
    }


def sha256_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
