"""Replays in processes of their own, to be killed, stopped and compared."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from app.monitor.batch_log import BatchLog
from app.monitor.metrics import Totals
from app.registry.open import version_log_of
from tests.integration.streams import comparable, read_predictions
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
LONGEST_START_SECONDS = 20.0


@dataclass(frozen=True)
class Replay:
    """One replay, which several processes may carry on.

    Attributes
    ----------
    stream
        CSV of :func:`tests.integration.streams.small_csv`.
    workdir
    rows_per_batch
    redis_url
        A server of the test's own.
    """

    stream: Path
    workdir: Path
    rows_per_batch: int
    redis_url: str | None = None
    snapshots: Path | None = None

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start a process that carries the replay on, in a process group of its own."""
        command = [
            sys.executable, "-m", "app", "replay", "--input", str(self.stream), "--format", "csv",
            "--label", "label", "--workdir", str(self.workdir), "--layers", "3", "--units", "8",
            "--rows-per-batch", str(self.rows_per_batch), "--keep-snapshots", "20", *options,
        ]  # fmt: skip
        if self.snapshots is not None:
            command += ["--snapshots", str(self.snapshots)]
        url = {} if self.redis_url is None else {"REDIS_URL": self.redis_url}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
        return subprocess.Popen(
            command, cwd=ROOT, env=clean | url, start_new_session=True, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self) -> None:
        """Carry the replay on to its end."""
        process = self.start()
        _, output = process.communicate()
        assert process.returncode == 0, output

    def epochs(self) -> int:
        """Return how many processes have begun to learn."""
        return epochs(self.workdir)

    def batches(self) -> int:
        """Return how many batches are done."""
        return BatchLog(self.workdir / "batches").totals().batches

    def wait_for_learner(self, process: subprocess.Popen[str], before: int) -> bool:
        """Wait until a process started when there were ``before`` epochs has begun to learn."""
        return self._wait_for(process, lambda: self.epochs() > before, "begun to learn")

    def wait_for_batch(self, process: subprocess.Popen[str], before: int) -> bool:
        """Wait until a process started when ``before`` batches were done has done another."""
        return self._wait_for(process, lambda: self.batches() > before, "done a batch")

    def _wait_for(
        self, process: subprocess.Popen[str], condition: Callable[[], bool], what: str
    ) -> bool:
        """Wait for the condition, or the end of the process; tell whether it still runs."""
        wait_until(
            lambda: condition() or process.poll() is not None,
            f"the process has {what}",
            START_SECONDS,
        )
        return process.poll() is None

    def kill_redis(self) -> bool:
        """Kill the redis-server that the running process has for itself, if it runs."""
        with contextlib.suppress(FileNotFoundError):
            return kill_redis((self.workdir / ".redis-url").read_text())
        return False

    def outcome(self) -> dict[str, object]:
        """Return all that must not depend on what happened to the processes."""
        newest = version_log_of(self.workdir).newest()
        predictions = read_predictions(self.workdir)
        counted = Counter(predictions["event_id"])
        totals = Totals.of(BatchLog(self.workdir / "batches").read())
        return {
            "state_sha256": newest.state_sha256,
            "version": newest.version,
            "rows_learned": totals.rows_learned,
            "rows_scored": totals.rows_scored,
            "prequential_error": totals.prequential_error,
            "served_error": totals.served_error,
            "events": len(counted),
            "events_twice": sum(n > 1 for n in counted.values()),
            "predictions": comparable(predictions).to_csv(index=False),
        }


def epochs(workdir: Path) -> int:
    """Return the highest epoch given out to a learner of a work directory, 0 before the first."""
    return max((int(p.name) for p in workdir.glob("snapshots/epochs/*/[0-9]*")), default=0)


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Return what differs between two outcomes, in words."""
    return [
        f"{name}: differs" if name == "predictions" else f"{name}: {found[name]}, not {value}"
        for name, value in expected.items()
        if found[name] != value
    ]


def kill_redis(url: str) -> bool:
    """Kill the redis-server behind a URL; return False when there is none."""
    title = f":{urlsplit(url).port}"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_text()
            if "redis-server" in command and command.rstrip("\0 ").endswith(title):
                os.kill(int(process.name), signal.SIGKILL)
                return True
    return False


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """End a process group when the block is left, however it is left."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()


def kill_at_random(replay: Replay, kills: int, rng: random.Random, seconds: float = 3.0) -> int:
    """SIGKILL the process group of a replay at random instants; return how many there were.

    An instant lies anywhere in a process's start, or within ``seconds`` of the beginning
    of its first batch, or, mostly, within ``seconds`` of the end of its first batch: so
    the replay gets on.
    """
    for killed in range(kills):
        epochs, batches = replay.epochs(), replay.batches()
        process = replay.start()
        with ended(process):
            after = rng.choices(["start", "learner", "batch"], [1, 2, 7])[0]
            if after == "learner" and not replay.wait_for_learner(process, epochs):
                return killed
            if after == "batch" and not replay.wait_for_batch(process, batches):
                return killed
            longest = LONGEST_START_SECONDS if after == "start" else seconds
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, longest))
                assert process.returncode == 0, process.stderr.read()
                return killed
    return kills


def kill_redis_at_random(replay: Replay, kills: int, rng: random.Random) -> int:
    """SIGKILL a replay's redis-server at random instants of one run; return how many there were."""
    process = replay.start()
    killed = 0
    with ended(process):
        if not replay.wait_for_learner(process, 0):
            return 0
        while killed < kills:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 2))
                assert process.returncode == 0, process.stderr.read()
                return killed
            killed += replay.kill_redis()
        assert process.wait() == 0, process.stderr.read()
    return killed
