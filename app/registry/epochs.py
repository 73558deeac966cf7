"""Epochs: who is the newest learner of a query. Files decide, and Redis is told.

``epochs/<query>/000003`` is an empty file, created exclusively for the epoch that it names
before Redis hears of it. The number in Redis is what a publish compares, and beyond that a
hint, for when the files are lost.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import RegistryError, StaleLearnerError
from app.files.atomic import create_durably
from app.registry.redis_store import RedisVersionStore
from app.registry.version import is_query_id

_NAME = re.compile(r"[0-9]{6,18}")
_HIGHEST = 10**18 - 1
_KEPT_FILES = 10
_MOST_TRIES = 100


@dataclass(frozen=True)
class Lease:
    """The right to publish for a query, until a newer learner takes it.

    Attributes
    ----------
    query
        Id of the streaming query, one per checkpoint.
    epoch
        Fencing number.
    """

    query: str
    epoch: int


class Epochs:
    """The epochs that were given out to the learners of one model, as files.

    Parameters
    ----------
    directory
        The model's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "epochs"

    def claim(self, query: str, at_least: int) -> int:
        """Give out an epoch of ``at_least`` or more that nobody was given before.

        Raises
        ------
        RegistryError
            When there is none left.
        """
        epoch = max(at_least, self.last(query) + 1)
        # One that was given out long ago, and whose file has been removed, may be created again.
        while not (self._create(query, epoch) and self.last(query) - epoch < _KEPT_FILES):
            epoch = max(epoch, self.last(query)) + 1
        for older in self._given_out(query):
            if older <= epoch - _KEPT_FILES:
                self._path(query, older).unlink(missing_ok=True)
        return epoch

    def last(self, query: str) -> int:
        """Return the highest epoch given out for a query, 0 when there is none."""
        return max(self._given_out(query), default=0)

    def _create(self, query: str, epoch: int) -> bool:
        path = self._path(query, epoch)
        if epoch > _HIGHEST:
            raise RegistryError(
                f"{path.parent} holds epoch {_HIGHEST}, the last that there is: remove that file"
            )
        return create_durably(path, b"")

    def _given_out(self, query: str) -> Iterator[int]:
        directory = self._directory / query
        names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
        # Not an epoch that is larger than any: an older release took one from Redis unseen.
        return (int(name) for name in names if _NAME.fullmatch(name))

    def _path(self, query: str, epoch: int) -> Path:
        return self._directory / query / f"{epoch:06d}"


class Leases:
    """Who may publish for a query of one model.

    Parameters
    ----------
    epochs
    store
    """

    def __init__(self, epochs: Epochs, store: RedisVersionStore) -> None:
        self._epochs = epochs
        self._store = store

    def acquire(self, query: str) -> Lease:
        """Become the one learner of a query: every earlier lease on it is void from now on.

        Raises
        ------
        RegistryError
            When the query's id cannot be part of a path.
        """
        if not is_query_id(query):
            raise RegistryError(f"{query!r:.80} cannot be the id of a query: it becomes a path")
        lease = Lease(query, self._epochs.claim(query, self._store.read_epoch(query) + 1))
        # A learner that is newer still tells Redis itself.
        with contextlib.suppress(StaleLearnerError):
            self.tell(lease)
        return lease

    def check(self, lease: Lease) -> None:
        """Raise StaleLearnerError when a newer learner holds the query."""
        given_out = self._epochs.last(lease.query)
        if given_out < lease.epoch:
            # The files are lost.
            given_out = self._store.read_epoch(lease.query)
        if given_out > lease.epoch:
            raise StaleLearnerError(
                f"this learner of query {lease.query} holds epoch {lease.epoch}, but epoch "
                f"{given_out} has been given out: a newer learner runs on the same checkpoint"
            )

    def tell(self, lease: Lease) -> None:
        """Make the lease's epoch the one in Redis, whatever is there.

        Raises
        ------
        StaleLearnerError
            When a newer learner holds the query: then what is there stays.
        RegistryError
            When what is there changes all the time.
        """
        for _ in range(_MOST_TRIES):
            found = self._store.find_epoch(lease.query)
            if found == b"=%d" % lease.epoch:
                return
            # Between finding and replacing, so that no newer learner's is ever replaced.
            self.check(lease)
            if self._store.replace_epoch(lease.query, found, lease.epoch):
                return
        raise RegistryError(
            f"the epoch of query {lease.query} in Redis has changed {_MOST_TRIES} times while "
            f"{lease.epoch} was to be put there: another program writes it"
        )
