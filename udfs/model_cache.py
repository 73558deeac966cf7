"""The live model of a Python worker: one per worker, reloaded when the version moves.

It lives in an importable module because a function defined in ``__main__`` is
pickled by value, and its globals start empty in every task. It needs Spark's
worker reuse (on by default). A worker that idles for a minute is ended by
Spark; the next one compiles again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyspark import Broadcast

    from app.model.scorer import Scorer

logger = logging.getLogger(__name__)

_KEPT_MODELS = 4

_MODELS: dict[str, LiveModel] = {}
_SCORERS: dict[str, Scorer] = {}


@dataclass(frozen=True)
class ModelSource:
    """Where a worker finds its model.

    Attributes
    ----------
    redis_url : str
    model : str
    run : str
        Different for each start of a query, so that a worker never serves a new
        run from what it kept of an older one.
    first : Broadcast of (int, str, bytes)
        Version, SHA-256 and safetensors bytes at the start of the query.
    """

    redis_url: str
    model: str
    run: str
    first: Broadcast

    def __repr__(self) -> str:
        return f"ModelSource(model={self.model!r}, run={self.run!r})"


def live_model(source: ModelSource) -> LiveModel:
    """Return this worker's model for a run, loading it on first use."""
    model = _MODELS.get(source.run)
    if model is None:
        while len(_MODELS) >= _KEPT_MODELS:
            _MODELS.pop(next(iter(_MODELS))).close()
        model = _MODELS[source.run] = LiveModel(source)
    return model


class LiveModel:
    """A model that follows the version published in Redis.

    Attributes
    ----------
    version : int
        Of the state in use.
    """

    def __init__(self, source: ModelSource) -> None:
        from app.model.backend import use_one_thread
        from app.registry.head import HeadStore

        use_one_thread()

        self._heads = HeadStore(source.redis_url, source.model)
        self._outage_logged = False
        version, sha256, data = source.first.value
        self._load(version, sha256, data)

    def refresh(self) -> int:
        """Load the current version if it is newer than the one in use; return the one in use.

        While Redis cannot be reached, or has lost the model, the version in use
        stays in use.
        """
        from app.errors import RegistryUnavailableError

        try:
            while (version := self._heads.read_version()) is not None and version > self.version:
                record = self._heads.read()
                data = self._heads.read_state(record.version) if record else None
                # None when it was dropped in between: then a newer one is there.
                if data is not None:
                    self._load(record.version, record.state_sha256, data)
            self._outage_logged = False
        except RegistryUnavailableError as error:
            if not self._outage_logged:
                logger.warning("going on with version %d: %s", self.version, error)
                self._outage_logged = True
        return self.version

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities, shape (n, C), of rows of shape (n, D)."""
        return self._scorer.predict_proba(self._tensors, X)

    def close(self) -> None:
        self._heads.close()

    def _load(self, version: int, sha256: str, data: bytes) -> None:
        from app.model.backend import tf
        from app.model.scorer import Scorer
        from app.model.state import config_from_metadata
        from app.registry.snapshots import verified_state

        state, metadata = verified_state(data, sha256, f"version {version}")
        scorer = _SCORERS.get(metadata["config"])
        if scorer is None:
            scorer = _SCORERS[metadata["config"]] = Scorer(config_from_metadata(metadata))
        self._tensors = {name: tf.constant(array) for name, array in state.items()}
        self._scorer, self.version = scorer, version
