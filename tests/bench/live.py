"""How fast a live stream scores events of which few are labelled: ``python -m tests.bench.live``.

Events and labels wait as Parquet files and are read to their end by a process of its own, on two
cores, once for each size of batch and for each store of waiting features. Beside it the worker's
function scores rows that are parsed already, on one core of this process, before and after each
run. Told is the ratio; the first batch, in which workers and JVM warm up, does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.config.run import DRIVER, ROCKSDB
from app.model.backend import use_one_thread
from app.monitor.batch_log import BatchLog
from tests.bench.figures import tell
from tests.bench.scorer import N_FEATURES, Published, published
from udfs.score import score

STARTED = 1_700_000_000.0
_FILES = 4
_TARGETS = {(DRIVER, 100_000): 0.4, (DRIVER, 20_000): 0.15, (ROCKSDB, 100_000): 0.2,
            (ROCKSDB, 20_000): 0.075}  # fmt: skip


def write_stream(root: Path, n: int, labelled: float) -> None:
    """Write events over an hour, and labels a minute after some of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    times = STARTED + np.linspace(0, 3600, n)
    ids = np.array([f"e{i}" for i in range(n)])
    chosen = np.sort(rng.permutation(n)[: round(n * labelled)])
    for part, rows in enumerate(np.array_split(np.arange(n), _FILES)):
        events = {f"x{j}": X[rows, j] for j in range(N_FEATURES)}
        _write(root / "events", part, {"event_id": ids[rows], "event_time": times[rows]} | events)
    for part, rows in enumerate(np.array_split(chosen, _FILES)):
        labels = (X[rows, 0] + X[rows, 1] > 0).astype(int)
        columns = {"event_id": ids[rows], "feedback_time": times[rows] + 60, "label": labels}
        _write(root / "feedback", part, columns)


def events_per_second(root: Path, workdir: Path, rows_per_batch: int, store: str) -> float:
    """Return how many events a second a stream scores from its second batch on."""
    features = ",".join(f"x{j}" for j in range(N_FEATURES))
    command = [
        sys.executable, "-m", "app", "stream", "--events", f"parquet:{root}/events",
        "--feedback", f"parquet:{root}/feedback", "--workdir", str(workdir),
        "--features", features, "--classes", "0,1", "--max-rows-per-batch", str(rows_per_batch),
        "--state-store", store, "--available-now", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the stream ended with {done.returncode}")
    phases = json.loads(done.stdout.splitlines()[-1])["phases"]
    print({name: round(seconds, 2) for name, seconds in phases.items()})
    records = BatchLog(workdir / "batches", print).read()
    timed = [record for record in records[1:] if record.rows_scored]
    return sum(r.rows_scored for r in timed) / sum(sum(r.seconds.values()) for r in timed)


def rows_per_second(model: Published, n: int) -> float:
    """Return how many rows a second the worker's function scores on one core."""
    X = np.random.default_rng(1).normal(size=(n, N_FEATURES))
    features = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), N_FEATURES)
    score(model.live, model.source, features)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        started = time.perf_counter()
        for _ in range(10):
            score(model.live, model.source, features)
        return 10 * n / (time.perf_counter() - started)
    finally:
        os.sched_setaffinity(0, cores)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--labelled", type=float, default=0.01)
    parser.add_argument("--rows-per-batch", type=int, nargs="+", default=[100_000, 20_000])
    parser.add_argument("--state-store", nargs="+", default=[DRIVER, ROCKSDB])
    options = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory() as directory, published() as model:
        root = Path(directory)
        write_stream(root, options.events, options.labelled)
        for store in options.state_store:
            for size in options.rows_per_batch:
                bare = [rows_per_second(model, 10_000)]
                found = events_per_second(root, root / f"{store}-{size}", size, store)
                bare.append(rows_per_second(model, 10_000))
                ratio = found / np.mean(bare)
                print(
                    f"{store}, {size:,} a batch: {found:,.0f} events a second, bare "
                    f"{np.mean(bare):,.0f} on one core: {ratio:.3f}",
                    flush=True,
                )
                tell(
                    f"live events a second over the bare scorer's, {store}, {size:,} a batch",
                    ratio,
                    f">= {_TARGETS.get((store, size), 0.0)}",
                    f"{found:,.0f} a second",
                )


def _write(directory: Path, part: int, columns: dict[str, np.ndarray]) -> None:
    directory.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), directory / f"{part}.parquet")


if __name__ == "__main__":
    main()
