"""Where a model stands: its newest version, from a work directory or from Redis."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from app.errors import ModelNotFoundError, UserError
from app.registry.open import version_log_of
from app.registry.redis_store import RedisVersionStore

_SHOWN = ("version", "state_sha256", "snapshot", "published_at", "applied")


def model_status(workdir: Path | None, redis_url: str | None, model: str | None) -> dict[str, Any]:
    """Return a model's name, version, hash, applied batches and time of publication.

    Parameters
    ----------
    workdir
        Where to read its version records.
    redis_url
        The Redis to ask instead.
    model
        Name of the model; when None, the one of the directory, or ``default`` in Redis.

    Raises
    ------
    UserError
        When neither or both places are given, or the directory holds no model.
    ModelNotFoundError
        When Redis holds no such model.
    """
    if workdir is not None and redis_url is None:
        versions = version_log_of(workdir, model)
        name, record = versions.model, versions.newest()
        if record is None:
            raise UserError(f"--workdir: {workdir} holds no version of model {name!r}")
    elif workdir is None and redis_url is not None:
        name = model or "default"
        with contextlib.closing(RedisVersionStore(redis_url, name)) as store:
            record = store.read()
        if record is None:
            raise ModelNotFoundError(f"Redis holds no model {name!r}")
    else:
        raise UserError("status needs --workdir or --redis-url, and only one of them")
    shown = dataclasses.asdict(record)
    return {"model": name} | {field: shown[field] for field in _SHOWN}
