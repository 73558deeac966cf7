"""Where a replay's time goes: ``python -m tests.bench.loop --rows 200000``.

A replay of generated rows runs as a process of its own, and tells its phases; the same rows are
then learned by the bare learner, in this process. ``--scale`` replays more and more rows with a
small model instead, to show that what a row costs does not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from app.model import HBPClassifier
from app.model.backend import use_one_thread
from app.monitor.batch_log import BatchLog
from app.monitor.phases import PHASES
from app.monitor.records import BatchRecord
from tests.bench.figures import tell
from tests.bench.learner import N_CLASSES, N_FEATURES, rows

PAPER, SMALL = (20, 100), (4, 32)

_SCALE = (10_000, 100_000, 1_000_000, 5_000_000)
_SAMPLE_SECONDS = 0.5


def write_rows(directory: Path, n: int, file_format: str) -> Path:
    """Write rows of D features and a label as one file."""
    X, y = rows(n)
    table = pa.table({f"x{i}": X[:, i] for i in range(N_FEATURES)} | {"label": y})
    path = directory / f"rows.{file_format}"
    if file_format == "csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


def replay(
    path: Path, workdir: Path, rows_per_batch: int, size: tuple[int, int]
) -> tuple[dict[str, Any], np.ndarray]:
    """Replay a file in a process of its own.

    Returns
    -------
    summary : dict
    resident : ndarray of int
        Its driver's resident memory in bytes, from start to end, every half second.
    """
    command = [
        sys.executable, "-m", "app", "replay", "--input", path, "--format", path.suffix[1:],
        "--label", "label", "--workdir", workdir, "--rows-per-batch", rows_per_batch,
        "--layers", size[0], "--units", size[1], "--json",
    ]  # fmt: skip
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    resident: list[int] = []

    def sample() -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while process.poll() is None:
            with open(f"/proc/{process.pid}/statm") as file:
                resident.append(int((file.read().split() or [0, 0])[1]) * page)
            time.sleep(_SAMPLE_SECONDS)

    watching = threading.Thread(target=sample, daemon=True)
    watching.start()
    told, _ = process.communicate()
    watching.join()
    if process.returncode:
        raise SystemExit(f"the replay ended with {process.returncode}")
    return json.loads(told.splitlines()[-1]), np.array(resident)


def learner_seconds(n: int, rows_per_batch: int, size: tuple[int, int]) -> float:
    """Return how long the bare learner takes for the rows, in the same batches."""
    model = HBPClassifier(N_FEATURES, N_CLASSES, n_hidden_layers=size[0], n_hidden_units=size[1])
    model.compile()
    X, y = rows(n)
    started = time.perf_counter()
    for start in range(0, n, rows_per_batch):
        batch = slice(start, start + rows_per_batch)
        model.partial_fit(X[batch], y[batch])
    return time.perf_counter() - started


def tell_phases(options: argparse.Namespace, directory: Path) -> None:
    size = (options.layers, options.units)
    path = write_rows(directory, options.rows, options.format)
    summary, _ = replay(path, directory / "run", options.rows_per_batch, size)
    learner = learner_seconds(options.rows, options.rows_per_batch, size)
    phases, wall, batches = summary["phases"], summary["seconds"], summary["batches"]
    print(f"{options.rows:,} rows of {options.format}, {batches} batches, {size[0]} x {size[1]}")
    print(f"{'phase':<10} {'s':>8} {'of wall':>8} {'ms a batch':>11}")
    for phase in PHASES:
        if phase in phases:
            s = phases[phase]
            print(f"{phase:<10} {s:>8.2f} {s / wall:>8.1%} {s / batches * 1e3:>11.1f}")
    total = sum(phases.values())
    print(f"{'sum':<10} {total:>8.2f} {total / wall:>8.1%}")
    print(f"learning took {summary['learn_seconds']:.2f} s, of which nothing else ran in 'wait'")
    print(f"the bare learner takes {learner:.2f} s, {learner / options.rows * 1e6:.1f} us a row")
    print(f"first prediction after {summary['first_prediction_seconds']:.1f} s")
    tell(
        f"a replay of {options.rows:,} rows: times learner and start-up",
        wall / (learner + phases["start_up"]),
        "<= 1.25",
        f"{wall:.1f} s, learner {learner:.1f}, start-up {phases['start_up']:.1f}",
    )
    tell("start-up to first prediction, s", summary["first_prediction_seconds"], "<= 15", "")
    print(f"wall / (learner + start-up) = {wall / (learner + phases['start_up']):.2f}")


def publish_seconds(records: list[BatchRecord]) -> float:
    return float(np.mean([record.seconds.get("publish", 0.0) for record in records]))


def tell_scale(options: argparse.Namespace, directory: Path) -> None:
    print(
        f"{'rows':>9} {'us a row':>9} {'peak MiB':>9} {'late MiB':>9}"
        f" {'publish ms, first tenth':>24} {'last tenth':>11}"
    )
    costs = []
    for n in (n for n in _SCALE if n <= options.rows_max):
        here = directory / str(n)
        here.mkdir()
        path = write_rows(here, n, options.format)
        summary, resident = replay(path, here / "run", options.rows_per_batch, SMALL)
        records = BatchLog(here / "run" / "batches").read()
        tenth = max(1, len(records) // 10)
        cost = (summary["seconds"] - summary["phases"]["start_up"]) / n * 1e6
        costs.append((cost, f"{cost:.1f} us a row at {n:,} rows"))
        late = np.median(resident[-max(1, len(resident) // 10) :])
        print(
            f"{n:>9,} {cost:>9.1f} {resident.max() / 2**20:>9.0f} {late / 2**20:>9.0f}"
            f" {publish_seconds(records[:tenth]) * 1e3:>24.1f}"
            f" {publish_seconds(records[-tenth:]) * 1e3:>11.1f}",
            flush=True,
        )
    tell(
        f"what a row costs at {n:,} rows: times that at {_SCALE[1]:,}",
        costs[-1][0] / costs[1][0],
        "<= 1.1",
        ", ".join(told for _, told in costs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.loop", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rows-per-batch", type=int, default=10_000)
    parser.add_argument("--format", choices=("csv", "parquet"), default="parquet")
    parser.add_argument("--layers", type=int, default=PAPER[0])
    parser.add_argument("--units", type=int, default=PAPER[1])
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--rows-max", type=int, default=1_000_000, choices=_SCALE[1:])
    options = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory() as directory:
        (tell_scale if options.scale else tell_phases)(options, Path(directory))


if __name__ == "__main__":
    main()
