"""Head records with no model behind them, for tests of what Redis does with them."""

from __future__ import annotations

from app.registry.head import HeadStore
from app.registry.record import HeadRecord

STORE = "/snapshots"


def record(version: int, commit: str | None = None, **changes) -> HeadRecord:
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
    return HeadRecord(**fields | changes)


def data(version: int) -> bytes:
    return f"state of {version}".encode()


def publish(heads: HeadStore, new: HeadRecord, base: HeadRecord, **lease) -> bool:
    return heads.publish(new, data(new.version), STORE, base=base, **lease)
