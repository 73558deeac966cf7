"""Where a model stands: its head record, from a work directory or from Redis."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from app.errors import ModelNotFoundError, UserError
from app.registry.head import HeadStore
from app.registry.opening import chain_of

_SHOWN = ("version", "state_sha256", "snapshot", "published_at", "applied")


def model_status(workdir: Path | None, redis_url: str | None, model: str | None) -> dict[str, Any]:
    """Return a model's name, version, hash, applied batches and time of publication.

    Parameters
    ----------
    workdir : Path, optional
        Read its chain of versions.
    redis_url : str, optional
        Ask this Redis instead.
    model : str, optional
        Which model of that Redis; ``default`` when None.

    Raises
    ------
    UserError
        When neither or both places are given, or the directory holds no model.
    ModelNotFoundError
        When Redis holds no such model.
    """
    if (workdir is None) == (redis_url is None):
        raise UserError("status needs --workdir or --redis-url, and only one of them")
    if redis_url is not None:
        name = model or "default"
        store = HeadStore(redis_url, name)
        record = store.read()
        store.close()
        if record is None:
            raise ModelNotFoundError(f"Redis holds no model {name!r}")
    else:
        chain = chain_of(workdir, model)
        name, record = chain.model, chain.newest()
    shown = dataclasses.asdict(record)
    return {"model": name} | {field: shown[field] for field in _SHOWN}
