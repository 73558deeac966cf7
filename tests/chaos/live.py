"""Live streams in processes of their own, to be ended, killed and compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.monitor.batch_log import BatchLog
from app.monitor.metrics import Totals
from app.registry.open import version_log_of
from tests.chaos.replays import ROOT
from tests.integration.live_streams import LABEL_TIMEOUT, LATENESS, MAX_LAG
from tests.integration.streams import FEATURES, comparable, read_predictions
from tests.waiting import wait_until

START_SECONDS = 180.0


@dataclass(frozen=True)
class LiveRun:
    """One live stream, which several processes may carry on.

    Attributes
    ----------
    workdir
    events, feedback
        Sources, as on the command line.
    rows_per_batch
    available_now
    environment
        Added to that of the process.
    options
        More of the command line.
    """

    workdir: Path
    events: str
    feedback: str
    rows_per_batch: int = 500
    available_now: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()

    def start(self) -> subprocess.Popen[str]:
        """Start a process that carries the stream on, in a process group of its own."""
        command = [
            sys.executable, "-m", "app", "stream", "--events", self.events, "--feedback",
            self.feedback, "--workdir", str(self.workdir), "--features", ",".join(FEATURES),
            "--classes", "0,1", "--layers", "3", "--units", "8",
            "--max-rows-per-batch", str(self.rows_per_batch), "--label-timeout",
            str(LABEL_TIMEOUT), "--lateness", str(LATENESS), "--max-lag", str(MAX_LAG),
            "--json", *self.options,
        ]  # fmt: skip
        if self.available_now:
            command.append("--available-now")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
        return subprocess.Popen(
            command, cwd=ROOT, env=clean | dict(self.environment), start_new_session=True,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self) -> None:
        """Carry the stream on to the end of what is there."""
        process = self.start()
        _, output = process.communicate()
        assert process.returncode == 0, output

    def batches(self) -> int:
        """Return how many batches are done."""
        return BatchLog(self.workdir / "batches").totals().batches

    def wait_for_batches(self, process: subprocess.Popen[str], n: int) -> bool:
        """Wait until ``n`` batches are done, or the process ends; tell whether it still runs."""
        wait_until(
            lambda: self.batches() >= n or process.poll() is not None,
            f"{n} batches are done",
            START_SECONDS,
        )
        return process.poll() is None

    def wait_for_entered(self, process: subprocess.Popen[str], batch: int) -> None:
        """Wait until a batch's labels are in the feedback log, or the process ends."""
        name = f"snapshots/feedback/*/batch={batch:08d}.parquet"
        wait_until(
            lambda: any(self.workdir.glob(name)) or process.poll() is not None,
            f"batch {batch} is in hand",
            START_SECONDS,
        )

    def totals(self) -> Totals:
        return Totals.of(BatchLog(self.workdir / "batches").read())

    def outcome(self) -> dict[str, object]:
        """Return all that must not depend on what happened to the processes."""
        newest = version_log_of(self.workdir).newest()
        totals = self.totals()
        predictions = read_predictions(self.workdir)
        counted = Counter(predictions["event_id"])
        return {
            "state_sha256": newest.state_sha256,
            "version": newest.version,
            "rows_learned": totals.rows_learned,
            "rows_scored": totals.rows_scored,
            "labels": totals.labels,
            "served_error": totals.served_error,
            "prequential_error": totals.prequential_error,
            "events_twice": sum(n > 1 for n in counted.values()),
            "predictions": comparable(predictions).to_csv(index=False),
        }
