"""The live model of a Python worker: one per worker, reloaded when the version moves.

It lives in an importable module because a function defined in ``__main__`` is
pickled by value, and its globals start empty in every task. It needs Spark's
worker reuse (on by default). A worker that idles for a minute is ended by
Spark; the next one compiles again.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pyspark import Broadcast

    from app.model.scorer import Scorer
    from app.registry.record import HeadRecord

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
    first : Broadcast of (HeadRecord, bytes)
        The version at the start of the query, as safetensors bytes.
    floor : HeadRecord
        The version that the driver holds: no row is scored with an older one.
    snapshots : str
        The directory in which the floor's state lies should Redis not have it.
    fail_on_outage : bool
        Whether to raise, rather than to go on, when Redis cannot be asked.
    max_staleness : float
        Seconds since Redis was last asked that an outage may go unnoticed.
    """

    redis_url: str
    model: str
    run: str
    first: Broadcast
    floor: HeadRecord
    snapshots: str
    fail_on_outage: bool
    max_staleness: float = 0.0

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
        from app.registry.head import READER_TIMEOUT_SECONDS, HeadStore

        use_one_thread()

        self._heads = HeadStore(source.redis_url, source.model, READER_TIMEOUT_SECONDS)
        self._outage_logged = False
        self._asked_at = -math.inf
        self._load(*source.first.value)

    @property
    def version(self) -> int:
        return self._record.version

    def refresh(self, source: ModelSource) -> bool:
        """Load the current version if it is another than the one in use.

        While Redis cannot be reached, has lost the model, or holds damaged bytes,
        the version in use stays in use, but for one older than ``source.floor``,
        whose place is taken by that one's snapshot.

        Returns
        -------
        bool
            Whether Redis could not tell for longer than ``source.max_staleness``: there
            may be a newer version.

        Raises
        ------
        RegistryError, StateError
            In an outage that lasts too long, when ``source.fail_on_outage``.
        """
        from app.errors import RegistryError, StateError

        stale = False
        try:
            self._follow()
            self._asked_at = time.monotonic()
            self._outage_logged = False
        except (RegistryError, StateError) as error:
            stale = time.monotonic() - self._asked_at > source.max_staleness
            if stale and source.fail_on_outage:
                raise
            if not self._outage_logged:
                logger.warning("scoring goes on with version %d or later: %s", self.version, error)
                self._outage_logged = True
        if self._is_behind(source.floor.version, source.floor.commit):
            self._load_snapshot(source)
        return stale

    def age_ms(self) -> int:
        """Return how many milliseconds ago the version in use was published."""
        return max(0, round((time.time() - self._published_at) * 1000))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities, shape (n, C), of rows of shape (n, D)."""
        return self._scorer.predict_proba(self._tensors, X)

    def close(self) -> None:
        self._heads.close()

    def _follow(self) -> None:
        """Load what Redis says is current.

        Raises
        ------
        RegistryError, StateError
            When Redis cannot tell, or tells of an older version than the one in use.
        """
        from app.errors import RegistryUnavailableError

        missing = None
        while (current := self._heads.read_current()) != (self.version, self._record.commit):
            if current is None or not self._is_behind(*current):
                there = "no version" if current is None else f"version {current[0]}"
                raise RegistryUnavailableError(
                    f"Redis holds {there} of model {self._heads.model!r}: it has lost newer ones"
                )
            if current == missing:
                raise RegistryUnavailableError(f"Redis has lost the state of version {current[0]}")
            record = self._heads.read()
            data = self._heads.read_state(record.version) if record else None
            if data is not None and self._is_behind(record.version, record.commit):
                self._load(record, data)
            else:
                # Dropped in between, when there is a newer one; else lost, or Redis went back.
                missing = current

    def _is_behind(self, version: int, commit: str) -> bool:
        return version > self.version or (version == self.version and commit != self._record.commit)

    def _load_snapshot(self, source: ModelSource) -> None:
        from app.registry.snapshots import SnapshotStore

        floor = source.floor
        data = SnapshotStore(Path(source.snapshots)).read(floor.snapshot, floor.state_sha256)
        self._load(floor, data)

    def _load(self, record: HeadRecord, data: bytes) -> None:
        from app.model.backend import tf
        from app.model.scorer import Scorer
        from app.model.state import config_from_metadata
        from app.registry.snapshots import verified_state

        state, metadata = verified_state(data, record.state_sha256, f"version {record.version}")
        scorer = _SCORERS.get(metadata["config"])
        if scorer is None:
            scorer = _SCORERS[metadata["config"]] = Scorer(config_from_metadata(metadata))
        self._tensors = {name: tf.constant(array) for name, array in state.items()}
        self._scorer, self._record = scorer, record
        self._published_at = datetime.fromisoformat(record.published_at).timestamp()
