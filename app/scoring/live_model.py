"""A model that follows the published version, in whichever process it is asked.

A Python worker of Spark and a replica that serves REST both hold one.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from app.errors import (
    CorruptStateError,
    NewerFormatError,
    RegistryError,
    RegistryUnavailableError,
    StateError,
)
from app.model.state import check_state
from app.registry.redis_store import READER_TIMEOUT_SECONDS, RedisVersionStore
from app.registry.snapshots import SnapshotStore, StoredState, verified_state
from app.registry.version import ModelVersion

logger = logging.getLogger(__name__)

_MOST_LOADS = 100


@dataclass(frozen=True)
class InitialModel:
    """The version that a model begins with.

    Attributes
    ----------
    version
    data
        The version's state in safetensors.
    """

    version: ModelVersion
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class ModelSource:
    """Where a model is found, and what is asked of it.

    Attributes
    ----------
    redis_url
        Names the scorers' user and its password, so it is shown nowhere.
    model
        The model's name in the registry.
    min_version
        The version that the learner holds. No row is scored with an older one.
    snapshots
        The directory that holds that version's state, for when Redis does not.
    fail_on_outage
        Whether to raise, rather than to go on, when Redis cannot be asked.
    max_staleness
        Seconds since Redis last answered during which rows do not count as stale yet.
    """

    redis_url: str = field(repr=False)
    model: str
    min_version: ModelVersion
    snapshots: str
    fail_on_outage: bool
    max_staleness: float = 0.0


class LiveModel:
    """A model that follows the version published in Redis.

    A new version is made ready before the one in use is let go of. The settings of the model
    are those of the version to begin with, which the learner has vouched for: what Redis holds
    of another's hand may replace numbers, and no settings.

    Parameters
    ----------
    source
    initial
        The version to begin with, which costs Redis nothing.
    """

    def __init__(self, source: ModelSource, initial: InitialModel) -> None:
        from app.model.backend import use_one_thread

        use_one_thread()
        from app.model.forward.scorer import scorer_of

        self._store = RedisVersionStore(source.redis_url, source.model, READER_TIMEOUT_SECONDS)
        self._outage_logged = False
        self._asked_at = -math.inf
        stored = verified_state(initial.data, initial.version, "the version to begin with")
        self._config = stored.metadata["config"]
        self._scorer = scorer_of(self._config)
        self._take(initial.version, stored)

    @property
    def version(self) -> int:
        """The version in use."""
        return self._record.version

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return self._scorer.config.n_classes

    def refresh(self, source: ModelSource) -> bool:
        """Load the current version if it is another than the one in use.

        While Redis cannot be reached, has lost the model, or holds damaged bytes,
        the version in use stays in use, but for one older than ``source.min_version``,
        whose place is taken by that one's snapshot.

        Returns
        -------
        bool
            Whether Redis has not answered for longer than ``source.max_staleness``, so that
            there may be a newer version.

        Raises
        ------
        RegistryError, StateError
            In an outage that lasts too long, when ``source.fail_on_outage``.
        """
        stale = False
        try:
            self._follow()
            self._asked_at = time.monotonic()
            self._outage_logged = False
        except (RegistryError, StateError, NewerFormatError) as error:
            stale = time.monotonic() - self._asked_at > source.max_staleness
            if stale and source.fail_on_outage:
                raise
            if not self._outage_logged:
                logger.warning("scoring goes on with version %d or later: %s", self.version, error)
                self._outage_logged = True
        if self._is_behind(source.min_version.version, source.min_version.commit):
            self._load_snapshot(source)
        return stale

    def age_ms(self) -> int:
        """Return how many milliseconds ago the version in use was published."""
        return max(0, round((time.time() - self._published_at) * 1000))

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities, shape (n, C), of rows of shape (n, D)."""
        return self._scorer.predict_proba(self._tensors, X)

    def close(self) -> None:
        self._store.close()

    def _follow(self) -> None:
        """Load what Redis says is current.

        Raises
        ------
        RegistryError, StateError
            When Redis cannot be asked, or holds an older version than the one in use.
        """
        missing = None
        for _ in range(_MOST_LOADS):
            current = self._store.read_current()
            if current == (self.version, self._record.commit):
                return
            if current is None or not self._is_behind(*current):
                there = "no version" if current is None else f"version {current[0]}"
                raise RegistryUnavailableError(
                    f"Redis holds {there} of model {self._store.model!r}: it has lost newer ones"
                )
            if current == missing:
                raise RegistryUnavailableError(f"Redis has lost the state of version {current[0]}")
            record = self._store.read()
            data = self._store.read_state(record.version) if record else None
            if record and data is not None and self._is_behind(record.version, record.commit):
                stored = verified_state(data, record, f"version {record.version} in Redis")
                self._take(record, stored)
            else:
                # Dropped in between, when there is a newer one; else lost, or Redis went back.
                missing = current
        raise RegistryUnavailableError(
            f"Redis has named another version of model {self._store.model!r} {_MOST_LOADS} times "
            "in a row: scoring goes on with what is loaded"
        )

    def _is_behind(self, version: int, commit: str) -> bool:
        return version > self.version or (version == self.version and commit != self._record.commit)

    def _load_snapshot(self, source: ModelSource) -> None:
        snapshots = SnapshotStore(Path(source.snapshots))
        self._take(source.min_version, snapshots.read(source.min_version))

    def _take(self, version: ModelVersion, stored: StoredState) -> None:
        """Put a version in place of the one in use, once it is ready."""
        if stored.metadata.get("config") != self._config:
            raise CorruptStateError(
                f"the state of version {version.version} is of other settings than the model's"
            )
        state = check_state(stored.state, self._scorer.config)
        tensors = self._scorer.tensors(state)
        self._tensors, self._record = tensors, version
        self._published_at = datetime.fromisoformat(version.published_at).timestamp()
