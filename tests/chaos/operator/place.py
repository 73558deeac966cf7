"""A work directory, its Redis and its input: what the walk walks over."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import redis

from app.errors import HedgestreamError
from app.model.classifier import HBPClassifier
from app.model.state import config_from_metadata, state_sha256
from app.monitor.batch_log import BatchLog
from app.registry.feedback_log import FeedbackLog
from app.registry.open import version_log_of
from app.registry.redis_store import RedisVersionStore
from app.registry.snapshots import SnapshotStore, verified_state
from tests.chaos.operator.rows import LiveInput, ReplayInput
from tests.chaos.operator.truth import Found, Truth
from tests.integration.streams import FEATURES
from tests.redis_server import RedisServer

REPLAY, LIVE = "replay", "live"
EMBEDDED, SERVER = "embedded", "server"
ERAS = {"now": 1_700_000_000.0, "straddling": -120.0, "before1970": -500_000_000.0}

TIMES = {"label-timeout": 600, "lateness": 20, "max-lag": 1200}
"""Options of a live stream."""

_COMMON = {
    "features": ",".join(FEATURES),
    "classes": "0,1",
    "layers": 3,
    "units": 8,
    "keep-snapshots": 4,
    "keep-every": 8,
    "registry-patience": 3,
    "json": True,
}


@dataclass(frozen=True)
class Spec:
    """Which kind of place."""

    kind: str = REPLAY
    redis: str = EMBEDDED
    store: str = "driver"
    era: str = "now"

    @classmethod
    def parse(cls, text: str) -> Spec:
        return cls(*text.split("/"))

    def __str__(self) -> str:
        return "/".join((self.kind, self.redis, self.store, self.era))


@dataclass
class Place:
    """One work directory with what belongs to it.

    Attributes
    ----------
    root
    spec
    rng
    options
        Of the command line, for good; None leaves one out, True is a switch.
    has_statistics
        Whether the batch log was left alone, which decides nothing and is not made again.
    history
        Copies of the work directory after earlier steps, oldest first.
    """

    root: Path
    spec: Spec
    rng: random.Random
    options: dict[str, Any] = field(default_factory=dict)
    has_statistics: bool = True
    history: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workdir = self.root / "w"
        self.root.mkdir(parents=True)
        self.truth = Truth()
        kind = LiveInput if self.is_live else ReplayInput
        self.input = kind(self.root / "input", self.truth, self.rng, ERAS[self.spec.era])
        self.server: RedisServer | None = None
        self.options = dict(_COMMON)
        if self.is_live:
            self.options |= {
                "events": f"json:{self.input.directory}/events",
                "feedback": f"json:{self.input.directory}/feedback",
                "max-rows-per-batch": 25,
                "available-now": True,
                "state-store": self.spec.store,
                **TIMES,
            }
        else:
            self.options |= {
                "input": self.input.directory,
                "format": "csv",
                "label": "label",
                "id": "id",
                "time": "time",
                "rows-per-batch": 25,
            }
        if self.spec.redis == SERVER:
            self.server = RedisServer(self.root)
            self.server.start()
            self.options["redis-url"] = self.server.url

    @property
    def is_live(self) -> bool:
        return self.spec.kind == LIVE

    @property
    def rows_option(self) -> str:
        return "max-rows-per-batch" if self.is_live else "rows-per-batch"

    def arguments(self, changes: dict[str, Any]) -> list[str]:
        """Return the command line, with changes for one run."""
        words = ["stream" if self.is_live else "replay", "--workdir", str(self.workdir)]
        for name, value in (self.options | changes).items():
            if value is True:
                words.append(f"--{name}")
            elif value is not None:
                words += [f"--{name}", str(value)]
        return words

    def batches(self) -> int:
        """Return how many batches have predictions."""
        return len(list(self.workdir.glob("predictions/query=*/batches=*/*.parquet")))

    def client(self) -> redis.Redis:
        assert self.server is not None
        return redis.Redis.from_url(self.server.url, socket_timeout=10)

    def redis_contents(self, url: str | None = None) -> dict[bytes, bytes]:
        """Return all that the Redis of the place, or another one, holds."""
        if url is None and self.server is None:
            return {}
        with redis.Redis.from_url(url or self.server.url, socket_timeout=10) as client:
            return {key: client.dump(key) for key in sorted(client.keys())}

    def restore_redis(self, contents: dict[bytes, bytes]) -> None:
        with self.client() as client:
            client.flushall()
            for key, value in contents.items():
                client.restore(key, 0, value)

    def remember(self) -> None:
        """Keep a copy of the work directory, and of the three before it."""
        number = 1 + (int(self.history[-1].name.rpartition("-")[2]) if self.history else 0)
        copy = self.root / f"kept-{number}"
        shutil.copytree(self.workdir, copy, symlinks=True)
        self.history.append(copy)
        for old in self.history[:-4]:
            shutil.rmtree(old)
        del self.history[:-4]

    def found(self) -> Found:
        """Return what the work directory holds."""
        log = version_log_of(self.workdir)
        records = list(log.records())
        rows = FeedbackLog.of(log.directory)
        sequences: list[list[str]] = []
        batches = []
        for record in records:
            origin = record.origin
            if origin["kind"] == "batch":
                ids = rows.read(origin["query"], origin["batch"]).event_ids
                batches.append(ids)
                sequences.append(sequences[-1] + ids)
            else:
                sequences.append(sequences[origin["to"]] if "to" in origin else [])
        newest = records[-1]
        stored = SnapshotStore(log.directory).read(newest)
        learner = HBPClassifier.from_config(config_from_metadata(stored.metadata))
        values = [self.truth.values[i] for i in sequences[-1] if i in self.truth.values]
        if values:
            learner.partial_fit(
                np.stack([x for x, _ in values]), np.array([y for _, y in values], np.int64)
            )
        return Found(
            predictions=Counter(i for i, *_ in self._written("predictions", "event_id")),
            dead=self._dead_letters(),
            batches=batches,
            sequence=sequences[-1],
            has_rollback=any(r.origin["kind"] == "rollback" for r in records),
            row_count=int(stored.state["row_count"]),
            state_sha256=newest.state_sha256,
            expected_sha256=state_sha256(learner.get_state()),
            totals=BatchLog(self.workdir / "batches").totals(),
        )

    def problems(self) -> list[str]:
        """Return what differs from the truth, once all has been read."""
        return self.truth.problems(
            self.found(), is_live=self.is_live, has_statistics=self.has_statistics
        )

    def problems_of_redis(self) -> list[str]:
        """Return what differs between the place's Redis and its files after a run."""
        if self.server is None:
            return []
        log = version_log_of(self.workdir)
        newest = log.newest()
        with contextlib.closing(RedisVersionStore(self.server.url, log.model)) as store:
            try:
                current = store.read()
                data = store.read_state(newest.version)
                if current == newest and data is not None:
                    verified_state(data, newest, "Redis")
                    return []
            except HedgestreamError as error:
                return [f"what Redis holds: {error}"]
        return [f"Redis holds {current}, state {data is not None}; the newest is {newest}"]

    def close(self) -> None:
        if self.server is not None:
            self.server.kill()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.root)

    def _dead_letters(self) -> Counter[tuple[str, str, str]]:
        names = ("kind", "event_id", "reason") if self.is_live else ("event_id", "reason")
        letters = self._written("dead_letters", *names)
        return Counter(row if self.is_live else ("event", *row) for row in letters)

    def _written(self, directory: str, *columns: str) -> list[tuple]:
        rows: list[tuple] = []
        for path in sorted(self.workdir.glob(f"{directory}/query=*/batches=*/*.parquet")):
            table = pq.ParquetFile(path).read(columns=list(columns))
            rows += zip(*(table[name].to_pylist() for name in columns), strict=True)
        return rows
