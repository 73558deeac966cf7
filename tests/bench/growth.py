"""What a long life leaves behind: ``python -m tests.bench.growth``.

Batches go through the real loop, without Spark around it: predictions, labelled rows, snapshots,
version records and batch records are written as in a run. After 1,000, 10,000 and 100,000 of them
it is told how many files there are, and how long starting a run takes before Spark is started, and
``status``, ``history`` and ``rebuild``.

A batch counts as one second: files older than an hour are those that the newest 3,600 batches have
not touched. Syncs are left out, for the disk is not what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from app.config.model import ModelConfig
from app.contract import Contract
from app.files.workdir import WorkDirectory, open_workdir
from app.model import HBPClassifier
from app.model.state import config_to_metadata
from app.monitor.batch_log import BatchLog
from app.parsing.row_parser import RowParser
from app.registry.open import OpenModel, open_model
from app.registry.packs.upkeep import KeptDays, Upkeep
from app.registry.version import ModelVersion
from app.streaming.batch_writer import ROW, BatchContext, BatchFiles, ScoredBatch
from app.streaming.lineage import FeedbackInput, Lineage
from app.streaming.loop import MicroBatchLoop
from app.streaming.rows.labelled import LabelledRows
from tests.bench import figures
from tests.redis_server import RedisServer
from udfs.score import SERVED

SIZES = (1_000, 10_000, 100_000)
ROWS = 4
HOUR = 3600
FEWEST = 0.05
QUERY = "11111111-2222-3333-4444-555555555555"
CONTRACT = Contract(("x", "y", "label"), ("x", "y"), 2, ("no", "yes"), label="label")
CONFIG = ModelConfig(n_features=2, n_classes=2, n_hidden_layers=1, n_hidden_units=2)
METADATA = config_to_metadata(CONFIG) | CONTRACT.to_metadata()


class Writer:
    """Stands for Spark and its workers: rows by their number, half of them right."""

    def __init__(self, workdir: WorkDirectory) -> None:
        self.files = BatchFiles(workdir, CONTRACT)
        self.parsers: Mapping[str, RowParser] = {ROW: RowParser(CONTRACT)}

    def take_over(self, query: str) -> None:
        pass

    def close(self) -> None:
        pass

    def write(self, df: Any, context: BatchContext) -> ScoredBatch:
        raw = _rows(context.batch * ROWS)
        parsed = pa.Table.from_batches([self.parsers[ROW].parse(raw)])
        rows = LabelledRows.from_arrow(parsed, CONTRACT.n_features)
        context.on_labelled(rows)
        for field, column in zip(SERVED, _served(context.version), strict=True):
            parsed = parsed.append_column(field, pa.array(column, field.type))
        self.files.write_predictions(parsed, context.query, context.batch)
        context.reached("predictions")
        context.reached("dead_letters")
        served = self.files.predictions(context.query, context.batch)
        return ScoredBatch(ROWS, 0, {}, rows.with_served(served.to(rows.event_ids)))


def _rows(first: int) -> pa.RecordBatch:
    """Return the rows of a batch as Parquet gives them."""
    numbers = np.arange(first, first + ROWS)
    columns = {
        "sequence": numbers,
        "x": numbers % 7,
        "y": numbers % 2,
        "label": np.take(CONTRACT.classes, numbers % 2),
    }
    return pa.record_batch(columns).replace_schema_metadata({"format": "parquet"})


def _served(version: ModelVersion) -> list[list[object]]:
    """Return what each row of a batch is served with."""
    return [[0] * ROWS, [[0.5, 0.5]] * ROWS, [version.version] * ROWS, [0] * ROWS, [False] * ROWS]


class Life:
    """A work directory in which batches go by.

    Parameters
    ----------
    path
    url
        Of Redis.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.ended: list[float] = []
        self._url = url
        self._open = contextlib.ExitStack()
        self.workdir = open_workdir(path)
        opened = self._open.enter_context(open_model(self.workdir.path, url, "growth"))
        classifier = HBPClassifier.from_config(CONFIG)
        opened.create(classifier.get_state(), METADATA)
        self.registry = opened.registry
        Lineage(self.registry.directory / "inputs").register(QUERY, FeedbackInput("growth"))

        def warn(message: str) -> None:
            raise AssertionError(message)

        self._loop = MicroBatchLoop(
            registry=self.registry,
            writer=Writer(self.workdir),
            log=BatchLog(self.workdir.batches, warn),
            metadata=METADATA,
            classifier=classifier,
            base=opened.version,
            retry=lambda action: action(),
            on_query=lambda query: None,
            on_batch=lambda record: None,
            warn=lambda message: None,
            upkeep=Upkeep(self.workdir, self.registry.versions, KeptDays(), warn),
        )

    def close(self) -> None:
        self._open.close()

    def live(self, batches: int) -> None:
        """Do so many batches."""
        for batch in range(len(self.ended), len(self.ended) + batches):
            self._loop(_batch(), batch)
            self.ended.append(time.time())

    def files(self) -> Counter[str]:
        """Return how many files and directories there are, by the place where they lie."""
        return Counter(_kind(path.relative_to(self.path)) for path in self.path.rglob("*"))

    def older_than_an_hour(self) -> int:
        """Return how many of those beside predictions the batches of the last hour left alone."""
        if len(self.ended) <= HOUR:
            return 0
        since = self.ended[-HOUR - 1]
        return sum(
            path.stat().st_mtime < since
            for path in self.path.rglob("*")
            if _kind(path.relative_to(self.path)) != "predictions"
        )

    def start_up(self) -> None:
        """Do what a run does before it starts Spark, and what it needs of the past after that."""
        workdir = open_workdir(self.path)
        with open_model(workdir.path, self._url, "growth") as opened:
            assert opened.current is not None
            _look_back(opened, BatchLog(workdir.batches))


def _look_back(opened: OpenModel, log: BatchLog) -> None:
    registry, current = opened.registry, opened.version
    assert log.totals().batches == current.version
    assert log.has(QUERY, current.applied[QUERY])
    lineage = Lineage(registry.directory / "inputs")
    lineage.refuse_learned(FeedbackInput("another"), None, current)


def _batch() -> SimpleNamespace:
    context = SimpleNamespace(getLocalProperty=lambda name: QUERY)
    return SimpleNamespace(sparkSession=SimpleNamespace(sparkContext=context))


def _kind(path: Path) -> str:
    return path.parts[1] if path.parts[0] == "snapshots" and len(path.parts) > 2 else path.parts[0]


@contextlib.contextmanager
def without_syncs() -> Iterator[None]:
    # No mock in its place, which would remember every call.
    with mock.patch.object(os, "fsync", new=_leave_out):
        yield


def _leave_out(descriptor: int) -> None:
    pass


def seconds(action: Callable[[], object], times: int = 1) -> float:
    """Return how long an action takes, the shortest of several times."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return min(taken)


def command(*arguments: str, times: int = 2) -> float:
    """Return how long a command takes as a process, the shortest of several times."""
    words = [sys.executable, "-m", "app", *arguments]
    return seconds(lambda: subprocess.run(words, check=True, capture_output=True), times)


@dataclass(frozen=True)
class Measured:
    """What is told of one age.

    Attributes
    ----------
    batches
    files
        Files and directories beside predictions.
    old
        Of these, such as are older than an hour.
    predictions
    batch_ms
        Time of a batch since the age before.
    start_up, status, history, rebuild
        Seconds.
    """

    batches: int
    files: int
    old: int
    predictions: int
    batch_ms: float
    start_up: float
    status: float
    history: float
    rebuild: float

    @property
    def old_per_batch(self) -> float:
        """Files older than an hour, for each batch that is."""
        return self.old / max(1, self.batches - HOUR)


def measure(life: Life, batch_ms: float) -> Measured:
    files, workdir = life.files(), str(life.path)
    rebuilt = str(max(1, len(life.ended) - 5))
    return Measured(
        batches=len(life.ended),
        files=sum(files.values()) - files["predictions"],
        old=life.older_than_an_hour(),
        predictions=files["predictions"],
        batch_ms=batch_ms,
        start_up=seconds(life.start_up, 5),
        status=command("status", "--workdir", workdir),
        history=command("history", "--workdir", workdir, "--last", "20"),
        rebuild=command("rebuild", "--workdir", workdir, "--to", rebuilt),
    )


def table(measured: list[Measured]) -> str:
    """Return what was measured as lines of text."""
    head = ("batches", "files", "> 1 h", "a batch", "predictions", "ms a batch", "start-up ms",
            "status s", "history s", "rebuild s")  # fmt: skip
    lines = ["  ".join(f"{name:>11}" for name in head)]
    for each in measured:
        old = f"{each.old_per_batch:.4f}" if each.batches > HOUR else "-"
        cells = (
            f"{each.batches:,}", f"{each.files:,}", f"{each.old:,}", old, f"{each.predictions:,}",
            f"{each.batch_ms:.1f}", f"{each.start_up * 1e3:.1f}", f"{each.status:.2f}",
            f"{each.history:.2f}", f"{each.rebuild:.2f}",
        )  # fmt: skip
        lines.append("  ".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="batches, ascending")
    options = parser.parse_args()
    measured = []
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(RedisServer(root))
        stack.enter_context(without_syncs())
        life = stack.enter_context(contextlib.closing(Life(root / "w", server.url)))
        for size in (1, *options.sizes):
            batches = size - len(life.ended)
            taken = seconds(lambda batches=batches: life.live(batches))
            measured.append(measure(life, taken / batches * 1e3))
            print(f"{table(measured[-1:])}\n{dict(life.files())}", flush=True)
        taken = command("compact", "--workdir", str(life.path), times=1)
        print(f"\n{table(measured)}\n")
        print(f"compact takes {taken:.1f} s and leaves {life.files()['predictions']:,} predictions")
    fresh, last = measured[0], measured[-1]
    figures.tell(
        "files a batch older than an hour, beside predictions",
        last.old_per_batch, f"<= {FEWEST}", f"{last.old:,} of {last.batches:,} batches",
    )  # fmt: skip
    figures.tell(
        "start-up before Spark, of that of a fresh directory",
        last.start_up / fresh.start_up, "<= 2.0", f"{last.start_up * 1e3:.0f} ms",
    )  # fmt: skip
    return 0 if last.old_per_batch <= FEWEST else 1


if __name__ == "__main__":
    sys.exit(main())
