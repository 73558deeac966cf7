"""Processes that take turns, so that a test chooses every interleaving and every death.

Each runs alone, up to its next operation that another process could notice. There
it stops, until it is made to go on, or to die.
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import redis

from app.config.model import ModelConfig
from app.errors import (
    RegistryError,
    RegistryUnavailableError,
    StateError,
    VersionConflictError,
)
from app.model.state import State
from app.monitor.batch_log import BatchLog
from app.registry import rebuild
from app.registry.feedback_log import FeedbackLog
from app.registry.rebuild import Rebuilder
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.registry.rollback import roll_back
from app.registry.snapshots import Retention
from app.registry.version import ModelVersion
from app.streaming.batch_writer import BatchContext, ScoredBatch
from app.streaming.loop import MicroBatchLoop
from app.streaming.rows.labelled import LabelledRows

RETENTION = Retention(newest=3, every=4)
METADATA = {"classes": "no,yes"}
ROWS_PER_BATCH = 2

# A process stops before each of these. The log is the last thing that a batch writes.
STOPS = {
    "registry": ["commit"],
    "store": ["look", "publish", "restore", "replace_epoch"],
    "versions": ["append", "write_current"],
    "snapshots": ["drop"],
    "staged": ["write", "holds", "drop"],
    "log": ["write"],
}
ALL_STOPS = [name for names in STOPS.values() for name in names]

_LONGEST_TURN_SECONDS = 60.0


class Place:
    """One model on a shared redis-server, and its directory.

    Attributes
    ----------
    epochs
        The newest lease of each query.
    happened
        What the processes met.
    published
        The record of each commit that a process has published.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.directory = directory
        self.epochs: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self.published: dict[str, dict[str, Any]] = {}
        # The model of a few numbers takes the place of the network that is rebuilt.
        self._patch = mock.patch.object(rebuild, "_model_of", _row_numbers)
        self._patch.start()
        self.redis = redis.Redis.from_url(url, socket_timeout=10)
        self._store = RedisVersionStore(url, f"m-{uuid.uuid4().hex}")

    def open(self) -> ModelRegistry:
        # A copy uses the same connections, which takes less time.
        return ModelRegistry(copy.copy(self._store), self.directory, RETENTION)

    def close(self) -> None:
        self._patch.stop()
        self.lose("*")
        self.redis.close()
        self._store.close()

    def records(self) -> list[Path]:
        return sorted(self.directory.glob("versions/*/*.json"))

    def key(self, suffix: str) -> str:
        return f"hbp:{{{self._store.model}}}:{suffix}"

    def contents(self) -> dict[bytes, bytes]:
        """Return all that Redis holds of the model."""
        keys = sorted(self.redis.keys(self.key("*")))
        with self.redis.pipeline() as calls:
            for key in keys:
                calls.dump(key)
            return dict(zip(keys, calls.execute(), strict=True))

    def lose(self, what: str) -> None:
        for key in self.redis.keys(self.key(what)):
            self.redis.delete(key)

    def restore(self, contents: dict[bytes, bytes]) -> None:
        self.lose("*")
        with self.redis.pipeline() as calls:
            for key, value in contents.items():
                calls.restore(key, 0, value)
            calls.execute()


class Killed(BaseException):
    """Not an Exception: what dies handles nothing."""


class Process:
    """A process with a registry of its own.

    Attributes
    ----------
    at
        What it is about to do, None when it has no call to finish.
    alive
        Not after a call that raised.
    result, error
        Of the last call.
    versions_at_begin
        How many there were when the call began.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.registry = place.open()
        self.log = BatchLog(place.directory.with_name("log"))
        self.at: str | None = None
        self.alive = True
        self.versions_at_begin = 0
        self.result: Any = None
        self.error: BaseException | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        owners = vars(self.registry) | {"registry": self.registry, "log": self.log}
        for owner, names in STOPS.items():
            for name in names:
                self._stop_before(owners[owner], name)

    def begin(self, call: Callable[[], Any]) -> None:
        """Run ``call`` up to its first stop."""
        self.result = self.error = None
        self.versions_at_begin = len(self.place.records())
        threading.Thread(target=self._run, args=(call,), daemon=True).start()
        self._wait()

    def step(self) -> None:
        """Run up to the next stop, or to the end of the call."""
        self._go.release()
        self._wait()

    def run(self, until: str | None = None) -> None:
        """Run up to the next stop of that name, or to the end of the call."""
        while self.at is not None and self.at != until:
            self.step()

    def kill(self) -> None:
        self.alive = False
        if self.at is not None:
            self.step()

    def stop(self, before: str) -> None:
        """Let others have their turn."""
        self.at = before
        self._stopped.release()
        self._go.acquire()
        if not self.alive:
            raise Killed

    def _stop_before(self, owner: object, name: str) -> None:
        method = getattr(owner, name)

        def stopping(*args: Any, **kwargs: Any) -> Any:
            self.stop(name)
            if name == "publish":
                self.place.published[args[0].commit] = args[0].to_json()
            return method(*args, **kwargs)

        setattr(owner, name, stopping)

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.result = call()
        except BaseException as error:
            self.alive, self.error = False, error
        self.at = None
        self._stopped.release()

    def _wait(self) -> None:
        if not self._stopped.acquire(timeout=_LONGEST_TURN_SECONDS):
            raise AssertionError(f"no end after {self.at!r}")


class Rollback(Process):
    """Somebody who brings an old version back."""

    def begin_to(self, version: int) -> None:
        feedback = FeedbackLog.of(self.place.directory)
        rebuilder = Rebuilder(self.registry.versions, self.registry.snapshots, feedback)
        self.begin(lambda: roll_back(self.registry, rebuilder, version))


class Learner(Process):
    """The driver of a query: the real loop, without Spark around it and with a tiny model.

    Parameters
    ----------
    place
    query
    batch
        Where the checkpoint stands.

    Attributes
    ----------
    batch
        The one that it is at, or comes to next.
    loses_a_reply
        Whether the reply to its next publish gets lost.
    """

    def __init__(self, place: Place, query: str, batch: int) -> None:
        super().__init__(place)
        self.query = query
        self.batch = batch
        self.loses_a_reply = False
        self._epoch = 0
        self._commits_too_late = False
        self._watch()
        classifier, base = self._begin()
        self._loop = MicroBatchLoop(
            registry=self.registry,
            writer=_Writer(),
            log=self.log,
            metadata=METADATA,
            classifier=classifier,
            base=base,
            retry=self._patiently,
            on_query=lambda query: None,
            on_batch=lambda record: None,
            warn=lambda message: None,
        )

    def _begin(self) -> tuple[_RowNumbers, ModelVersion]:
        """Return a model in the state of the newest version on disk, as a run begins with one."""
        classifier = _RowNumbers()
        newest = self.registry.versions.newest()
        try:
            stored = newest and self.registry.snapshots.read(newest)
        except (RegistryError, StateError):
            stored = None
        if newest is None or stored is None:
            return classifier, _UNKNOWN
        classifier.set_state(stored.state)
        return classifier, newest

    def begin_batch(self) -> None:
        self.begin(lambda: self._loop(_batch_of(self.query), self.batch))

    def stop(self, before: str) -> None:
        super().stop(before)
        if before == "commit":
            self._commits_too_late = self._epoch < self.place.epochs[self.query]

    def _watch(self) -> None:
        """Note each lease, and let nobody publish who began to after the end of its lease."""
        registry, store, happened = self.registry, self.registry.store, self.place.happened
        acquire, commit, publish, current = (
            registry.acquire,
            registry.commit,
            store.publish,
            registry.current,
        )

        def acquiring(query: str) -> Any:
            lease = acquire(query)
            self._epoch = lease.epoch
            self.place.epochs[query] = max(lease.epoch, self.place.epochs[query])
            return lease

        def committing(*args: Any) -> None:
            try:
                commit(*args)
            except VersionConflictError:
                happened["races lost"] += 1
                raise

        def publishing(*args: Any, **kwargs: Any) -> bool:
            published = publish(*args, **kwargs)
            assert not (published and self._commits_too_late), "a zombie has published"
            if published and self.loses_a_reply:
                self.loses_a_reply = False
                happened["replies lost"] += 1
                raise RegistryUnavailableError("the reply was lost")
            return published

        def asking(*args: Any) -> Any:
            finalized = len(self.place.records())
            record = current(*args)
            assert record.version >= finalized - 1, "current is older than a finalized version"
            return record

        registry.acquire, registry.commit = acquiring, committing
        registry.current, store.publish = asking, publishing

    def _patiently(self, action: Callable[[], Any]) -> Any:
        while True:
            try:
                return action()
            except RegistryUnavailableError:
                self.stop("another try")


def rows_of(query: str, batch: int) -> list[int]:
    """Return the row numbers that a batch brings: no two batches share one."""
    first = (int(query[1:]) * 1000 + batch) * ROWS_PER_BATCH
    return list(range(first, first + ROWS_PER_BATCH))


class _RowNumbers:
    """A model that only remembers the numbers of the rows that it has learned, in order."""

    config = ModelConfig(n_features=1, n_classes=2)

    def __init__(self) -> None:
        self.alpha = np.ones(1)
        self.met = {"outliers_clipped": 0, "columns_rescaled": 0, "layers_reset": 0}
        self.set_state(first_state())

    def set_state(self, state: State) -> None:
        self._rows = state["rows"]

    def get_state(self) -> State:
        return {"rows": self._rows}

    def partial_fit(self, features: np.ndarray, labels: np.ndarray) -> np.ndarray:
        self._rows = np.concatenate([self._rows, features[:, 0].astype("int64")])
        return np.ones((len(labels), 2))


def _row_numbers(metadata: Mapping[str, str]) -> _RowNumbers:
    return _RowNumbers()


def first_state() -> State:
    return {"rows": np.array([], "int64")}


# In place of a version whose snapshot is gone: the learner takes over the current one.
_UNKNOWN = ModelVersion(-1, "", "", "", "")


class _Writer:
    """Stands for scoring, which has no part in what is learned."""

    files = SimpleNamespace(
        has_unlearned=lambda query, batch: False, unlearned_reason=lambda query, batch: None
    )

    def take_over(self, query: str) -> None:
        pass

    def write(self, df: Any, context: BatchContext) -> ScoredBatch:
        numbers = rows_of(context.query, context.batch)
        labels = np.zeros(len(numbers), "int32")
        rows = LabelledRows(
            event_ids=[str(number) for number in numbers],
            features=np.array(numbers, "float32").reshape(-1, 1),
            labels=labels,
            sequences=np.array(numbers),
            served=labels,
        )
        context.on_labelled(rows)
        return ScoredBatch(len(numbers), 0, {}, rows)


def _batch_of(query: str) -> SimpleNamespace:
    """Return what the loop asks of a DataFrame: its query's id, and a write that drains it."""
    context = SimpleNamespace(getLocalProperty=lambda name: query)
    saving = SimpleNamespace(save=lambda: None)
    format_ = SimpleNamespace(mode=lambda mode: saving)
    return SimpleNamespace(
        sparkSession=SimpleNamespace(sparkContext=context),
        write=SimpleNamespace(format=lambda name: format_),
    )
