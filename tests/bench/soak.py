"""An hour of stream in ten minutes: ``python -m tests.bench.soak``.

Events of an hour are written six times as fast as they are dated, each label later, to
Redis streams that are trimmed behind the reader. Told is how memory (resident, of the
driver, the JVM and the Python workers) and state (rows in the ledger, bytes of the
checkpoint) grow after the warm-up: a slope in MiB, rows or KiB per minute. A JVM lets
its heap fill before it collects, so what is live in it is told too, where ``jcmd`` is.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import redis

from tests.bench.freshness import RedisWriter, first_event
from tests.chaos.live import LiveRun
from tests.integration.streams import FEATURES, small_rows
from tests.redis_server import RedisServer
from tests.waiting import wait_until

KEPT_ENTRIES = 50_000
LABEL_TIMEOUT = 300.0


def group_of(process: subprocess.Popen[str]) -> dict[int, str]:
    """Return the processes of a process group, each with its kind."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        try:
            if os.getpgid(pid) != process.pid:
                continue
            program = (path / "cmdline").read_text().split("\0")[0]
        except (OSError, ProcessLookupError):
            continue
        kind = "jvm" if Path(program).name == "java" else "workers"
        found[pid] = "driver" if pid == process.pid else kind
    return found


def live_heap_mib(process: subprocess.Popen[str]) -> float:
    """Collect the JVM's garbage and return what is left."""
    # A process that the JVM is about to start looks like it for a moment, and is younger.
    pid = str(min(pid for pid, kind in group_of(process).items() if kind == "jvm"))
    subprocess.run(["jcmd", pid, "GC.run"], check=True, capture_output=True)
    told = subprocess.run(
        ["jcmd", pid, "GC.heap_info"], check=True, capture_output=True, text=True
    ).stdout
    heap = told.partition("Metaspace")[0]
    return sum(map(int, re.findall(r"total \d+K, used (\d+)K", heap))) / 1024


def resident_mib(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return the resident memory of a process group by kind, in MiB."""
    found = {"driver": 0.0, "jvm": 0.0, "workers": 0.0}
    for pid, kind in group_of(process).items():
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, ProcessLookupError):
            continue
        found[kind] += pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return found


def state_rows(workdir: Path) -> float:
    """Return how many events, features and labels the ledger remembers."""
    (path,) = workdir.glob("ledgers/*.sqlite")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as ledger:
        return sum(
            ledger.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("events", "waiting", "blocks", "labels")
        )


def checkpoint_kib(workdir: Path) -> float:
    return sum(f.stat().st_size for f in workdir.glob("live/checkpoint/**/*")) / 1024


def slope(samples: list[tuple[float, float]]) -> float:
    """Return the least-squares growth per minute of samples (seconds, value)."""
    times, values = np.array(samples).T
    return float(np.polyfit(times / 60, values, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=3.0, help="minutes of those")
    parser.add_argument("--rate", type=int, default=500, help="events a second, of the clock")
    parser.add_argument("--speed", type=float, default=6.0, help="stream time over clock time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        root = Path(directory)
        with RedisServer(root) as server:
            run = LiveRun(
                root / "w", "redis:events", "redis:feedback", 10_000, available_now=False,
                environment={"REDIS_URL": server.url},
                options=("--label-timeout", str(LABEL_TIMEOUT), "--max-lag", "120"),
            )  # fmt: skip
            process = run.start()
            try:
                samples = _drive(run, process, server.url, options)
                os.kill(process.pid, signal.SIGTERM)
                _, told = process.communicate(timeout=120)
                assert process.returncode == 0, told
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            totals = run.totals()
    print(f"{totals.rows_scored:,} events scored, {totals.rows_learned:,} learned")
    print(f"{'':<22} {'after warm-up':>14} {'at the end':>11} {'a minute':>9}")
    for name, values in samples.items():
        print(f"{name:<22} {values[0][1]:>14,.0f} {values[-1][1]:>11,.0f} {slope(values):>+9.2f}")


def _drive(
    run: LiveRun,
    process: subprocess.Popen[str],
    url: str,
    options: argparse.Namespace,
) -> dict[str, list[tuple[float, float]]]:
    """Feed the stream and take a sample every five seconds."""
    writer, client = RedisWriter(url), redis.Redis.from_url(url)
    rng = np.random.default_rng(0)
    X, y = small_rows(10_000)
    writer.write("events", [first_event(time.time() - 3600 * 24)])
    wait_until(lambda: run.batches() > 0 or process.poll() is not None, "a batch", 180)
    started, sent, sampled, collected = time.time(), 0, 0.0, 0.0
    has_jcmd = shutil.which("jcmd") is not None
    dated = started - 3600 * 12
    waiting: list[tuple[float, str, int]] = []
    samples: dict[str, list[tuple[float, float]]] = {}
    while (elapsed := time.time() - started) < options.minutes * 60:
        now = dated + elapsed * options.speed
        events = []
        for i in range(sent, int(elapsed * options.rate)):
            place = i % len(X)
            values = dict(zip(FEATURES, map(float, X[place]), strict=True))
            events.append({"event_id": f"e{i}", "event_time": now} | values)
            waiting.append((now + rng.exponential(LABEL_TIMEOUT / 6), f"e{i}", int(y[place])))
        sent += len(events)
        ready = [row for row in waiting if row[0] <= now]
        waiting = [row for row in waiting if row[0] > now]
        writer.write("events", events)
        writer.write(
            "feedback", [{"event_id": e, "feedback_time": now, "label": v} for _, e, v in ready]
        )
        for name in ("events", "feedback"):
            client.xtrim(name, maxlen=KEPT_ENTRIES)
        if elapsed >= options.warm_up * 60 and elapsed - sampled >= 5:
            sampled = elapsed
            figures = {f"{k}, MiB": v for k, v in resident_mib(process).items()}
            figures |= {
                "ledger, rows": state_rows(run.workdir),
                "checkpoint, KiB": checkpoint_kib(run.workdir),
            }
            if has_jcmd and elapsed - collected >= 60:
                collected = elapsed
                figures["jvm's live heap, MiB"] = live_heap_mib(process)
            for name, value in figures.items():
                samples.setdefault(name, []).append((elapsed, value))
        time.sleep(0.1)
    return samples


if __name__ == "__main__":
    main()
