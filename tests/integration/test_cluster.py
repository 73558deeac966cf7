"""On a cluster without a free core a run says that it waits, and goes on when there is one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest

from tests.chaos.replays import ROOT
from tests.integration.streams import small_csv
from tests.waiting import wait_until

# A master, a driver, a worker and an executor start, on a machine that may be busy.
pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]

START_SECONDS = 180.0
BIN = Path(pyspark.__file__).parent / "bin"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def running(log: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of Spark's, and all that it starts, within a block."""
    # spark-submit prints on standard output what Python does on standard error.
    with open(log, "w") as output:
        process = subprocess.Popen(
            [str(BIN / program), *arguments], cwd=ROOT, env=environment(), start_new_session=True,
            stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment() -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
    return clean | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}


def replay(master: str, stream: Path, workdir: Path) -> list[str]:
    return [
        "--master", master, "--properties-file", "spark-conf/local.conf",
        "--conf", f"spark.executorEnv.PYTHONPATH={ROOT}", "app/replay.py", "--input", str(stream),
        "--format", "csv", "--label", "label", "--workdir", str(workdir), "--layers", "2",
        "--units", "4", "--rows-per-batch", "100",
    ]  # fmt: skip


def test_a_run_without_a_core_says_so_and_goes_on_when_a_worker_comes(tmp_path):
    port, told = free_port(), tmp_path / "told"
    url, stream = f"spark://127.0.0.1:{port}", small_csv(tmp_path / "in.csv", 200)
    local = ("--host", "127.0.0.1", "--webui-port", "0")
    master = ("org.apache.spark.deploy.master.Master", *local, "--port", str(port))
    worker = (
        "org.apache.spark.deploy.worker.Worker", *local, "--cores", "2", "--memory", "2g",
        "--work-dir", str(tmp_path / "work"), url,
    )  # fmt: skip
    with running(tmp_path / "master", "spark-class", *master):
        wait_until(lambda: answers(port), "the master answers", START_SECONDS)
        with running(told, "spark-submit", *replay(url, stream, tmp_path / "w")) as process:
            wait_until(
                lambda: (
                    "no executor has a free core; waiting" in told.read_text()
                    or process.poll() is not None
                ),
                "the wait is told",
                START_SECONDS,
            )
            with running(tmp_path / "worker", "spark-class", *worker):
                process.wait(START_SECONDS)
    lines = told.read_text().splitlines()
    assert process.returncode == 0, lines
    notes = [line for line in lines if line.startswith("note: ")]
    assert [note.partition(";")[0] for note in notes] == [
        "note: no executor has a free core",
        "note: an executor has a free core",
    ]
    # Spark's own words, unless the wait was too short for them.
    others = {line[9:].partition(";")[0] for line in lines if " WARN " in line}
    assert others <= {"WARN TaskSchedulerImpl: Initial job has not accepted any resources"}
