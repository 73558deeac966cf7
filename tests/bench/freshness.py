"""How soon a label changes predictions: ``python -m tests.bench.freshness``.

Events are written at a steady rate, each label a little later. A label is fresh once
a prediction has been written by a version that learned it; the time from the label's
being written to that is told as p50 and p99, for a Redis stream and for a directory of
Parquet files, each read by a live stream in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from app.registry.open import version_log_of
from tests.bench.figures import tell
from tests.chaos.live import LiveRun
from tests.integration.streams import FEATURES, small_rows
from tests.redis_server import RedisServer
from tests.waiting import wait_until

SCHEMAS = {
    "events": ", ".join(
        ["event_id string", "event_time double", *(f"{f} double" for f in FEATURES)]
    ),
    "feedback": "event_id string, feedback_time double, label int",
}


class Writer(Protocol):
    """Hands rows to a source.

    Attributes
    ----------
    seconds_between : float
        How often.
    """

    seconds_between: float

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        """Write rows to the source of that name; they can be read when this returns."""


class RedisWriter:
    seconds_between = 0.05

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        with self._redis.pipeline(transaction=False) as pipeline:
            for row in rows:
                pipeline.xadd(name, {"json": json.dumps(row)})
            pipeline.execute()


class ParquetWriter:
    # Five files a second to each source.
    seconds_between = 0.2

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = 0

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        self._files += 1
        directory = self._root / name
        directory.mkdir(parents=True, exist_ok=True)
        staged = directory / f".{self._files}"
        pq.write_table(pa.Table.from_pylist(rows), staged)
        staged.rename(directory / f"{self._files:08d}.parquet")


def first_event(time: float) -> dict[str, Any]:
    """Return an event whose only use is to be there."""
    return {"event_id": "first", "event_time": time} | dict.fromkeys(FEATURES, 0.0)


def feed(writer: Writer, rate: int, seconds: float, delay: float, seed: int) -> dict[str, float]:
    """Write events and labels for a while; return when each label was written."""
    rng = np.random.default_rng(seed)
    X, y = small_rows(int(rate * seconds) + rate, seed)
    written: dict[str, float] = {}
    waiting: list[tuple[float, str, int]] = []
    started, sent = time.time(), 0
    while (now := time.time()) < started + seconds:
        due = min(int((now - started) * rate), len(X))
        events = []
        for i in range(sent, due):
            events.append(
                {"event_id": f"e{i}", "event_time": now}
                | dict(zip(FEATURES, map(float, X[i]), strict=True))
            )
            waiting.append((now + rng.exponential(delay), f"e{i}", int(y[i])))
        sent = due
        ready = [row for row in waiting if row[0] <= now]
        waiting = [row for row in waiting if row[0] > now]
        if events:
            writer.write("events", events)
        if ready:
            labels = [{"event_id": e, "feedback_time": now, "label": v} for _, e, v in ready]
            writer.write("feedback", labels)
            written |= dict.fromkeys((e for _, e, _ in ready), time.time())
        time.sleep(max(0.0, now + writer.seconds_between - time.time()))
    return written


def freshness(workdir: Path, written: dict[str, float], warm_up: float) -> np.ndarray:
    """Return, for each label written after the warm-up, the seconds until a prediction had it."""
    version_of_batch = {
        (record.origin["query"], record.origin["batch"]): record.version
        for record in version_log_of(workdir).records(1)
    }
    learned_in: dict[str, int] = {}
    for path in version_log_of(workdir).directory.glob("feedback/*/*.parquet"):
        query, first = path.parent.name.split("=")[1], int(path.stem.split("=")[1])
        table = pq.ParquetFile(path).read()
        # A pack has a column for it.
        is_pack = "batch" in table.column_names
        batches = table["batch"].to_pylist() if is_pack else [first] * len(table)
        for event_id, batch in zip(table["event_id"].to_pylist(), batches, strict=True):
            learned_in[event_id] = version_of_batch[query, batch]
    served: list[tuple[float, int]] = []
    for path in workdir.glob("predictions/query=*/batches=*/*.parquet"):
        versions = pq.ParquetFile(path).read(["model_version"])["model_version"].to_numpy()
        # A link marks the file, so this is when its rows could be read.
        served.append((path.stat().st_ctime, int(versions.max())))
    served.sort()
    times = np.array([time for time, _ in served])
    reached = np.maximum.accumulate([version for _, version in served])
    first = min(written.values()) + warm_up
    waited = []
    for event_id, moment in written.items():
        if moment < first or event_id not in learned_in:
            continue
        place = np.searchsorted(reached, learned_in[event_id])
        if place < len(times):
            waited.append(times[place] - moment)
    return np.array(waited)


@contextlib.contextmanager
def source(kind: str, root: Path) -> Iterator[tuple[LiveRun, Writer]]:
    with RedisServer(root) as server:
        environment = {"REDIS_URL": server.url}
        options: tuple[str, ...] = ()
        if kind == "redis":
            writer: Writer = RedisWriter(server.url)
            sources = "redis:events", "redis:feedback"
        else:
            writer = ParquetWriter(root)
            sources = f"parquet:{root}/events", f"parquet:{root}/feedback"
            options = tuple(
                part for name, ddl in SCHEMAS.items() for part in (f"--{name}-schema", ddl)
            )
        yield (
            LiveRun(
                root / "w", *sources, rows_per_batch=10_000, available_now=False,
                environment=environment, options=options,
            ),
            writer,
        )  # fmt: skip


def measure(kind: str, rate: int, seconds: float, warm_up: float, delay: float) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="freshness-") as directory:
        with source(kind, Path(directory)) as (run, writer):
            process = run.start()
            try:
                writer.write(
                    "events",
                    [
                        {"event_id": "first", "event_time": time.time()}
                        | dict.fromkeys(FEATURES, 0.0)
                    ],
                )
                wait_until(lambda: run.batches() > 0 or process.poll() is not None, "a batch", 180)
                written = feed(writer, rate, seconds + warm_up, delay, seed=0)
                os.kill(process.pid, signal.SIGTERM)
                _, told = process.communicate(timeout=120)
                assert process.returncode == 0, told
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            return freshness(run.workdir, written, warm_up)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.freshness", description=__doc__)
    parser.add_argument("--rate", type=int, default=500, help="events a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=60.0)
    parser.add_argument("--delay", type=float, default=1.0, help="mean, of labels, in seconds")
    parser.add_argument("--sources", nargs="+", default=["redis", "parquet"])
    options = parser.parse_args()
    print(f"{'source':<8} {'labels':>7} {'p50 s':>7} {'p99 s':>7} {'max s':>7}")
    for kind in options.sources:
        waited = measure(kind, options.rate, options.seconds, options.warm_up, options.delay)
        p50, p99 = np.percentile(waited, [50, 99])
        tell(f"a label counts in what is predicted, {kind}: s, half of them", p50, "<= 1.5", "")
        tell(f"a label counts in what is predicted, {kind}: s, 99 of 100", p99, "<= 3.0", "")
        print(
            f"{kind:<8} {len(waited):>7,} {p50:>7.2f} {p99:>7.2f} {waited.max():>7.2f}", flush=True
        )


if __name__ == "__main__":
    main()
