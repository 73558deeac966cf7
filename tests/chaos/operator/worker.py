"""Processes that keep Spark, in which the command line is run again and again.

A process of its own for each run spends most of its time on starting a JVM. So one runs the
real command line many times, as :func:`app.cli.console.run` does for ``python -m app``: with the
same options, exit code and output. A SIGTERM reaches the run's own handler, and a SIGKILL ends the
process group, JVM and Python workers with it.

::

    -> {"arguments": ["replay", ...], "clock": 0.0}      one line on standard input
    <- {"code": 0}                                       one line on a pipe of its own
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from tests.chaos.replays import ROOT
from tests.waiting import wait_until

START_SECONDS = 180.0
RUN_SECONDS = 240.0
CRASHED = 99
"""Exit code of a run that raised what the command line does not catch: a traceback."""

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes
    ----------
    code
        Its exit code; None when its process died, or was killed because it hung.
    out, told
        What it wrote to standard output, and to standard error with its JVM.
    hung
    """

    code: int | None
    out: str
    told: str
    hung: bool = False


class Worker:
    """One such process.

    Parameters
    ----------
    directory
        Where its output is kept.
    name
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._logs = [directory / f"{name}.{stream}" for stream in ("out", "err")]
        self._read = [0, 0]
        self._replies, replies = os.pipe()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
        with contextlib.ExitStack() as stack:
            out, err = (stack.enter_context(open(log, "ab")) for log in self._logs)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.operator.worker", str(replies)],
                cwd=ROOT, env=clean, start_new_session=True, text=True, pass_fds=[replies],
                stdin=subprocess.PIPE, stdout=out, stderr=err,
            )  # fmt: skip
        os.close(replies)
        self._busy = self._ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        return self._process.poll() is None

    @property
    def is_busy(self) -> bool:
        """Whether a run is at work that has not ended."""
        return self._busy and self._reply(0) is None

    def start(self, arguments: Sequence[str], clock: float = 0.0) -> None:
        """Begin a run.

        Parameters
        ----------
        arguments
            The command line.
        clock
            Seconds by which the driver's clock is ahead meanwhile.
        """
        if not self._ready:
            assert self._reply(START_SECONDS) is not None, self.told()
            self._ready = True
        self._read = [log.stat().st_size for log in self._logs]
        self._code: int | None = None
        self._busy = True
        assert self._process.stdin is not None
        request = {"arguments": list(arguments), "clock": clock}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def wait(self, seconds: float = RUN_SECONDS) -> Ended:
        """Return how the run ended; one that does not end in time is killed."""
        reply = self._reply(seconds)
        hung = reply is None and self.is_usable
        if hung:
            self.kill()
        code = reply["code"] if reply else None
        self._busy = False
        return Ended(code, self.out(), self.told(), hung)

    def out(self) -> str:
        return self._written(0)

    def told(self) -> str:
        """Return what was written to standard error since the run began."""
        return self._written(1)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL the process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def kill_jvm(self) -> bool:
        """SIGKILL the JVM alone; return False when there is none."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # Of the group only: the name in parentheses may hold anything.
                name, _, rest = (process / "stat").read_text().rpartition(")")
                if name.endswith("(java") and int(rest.split()[2]) == self.pid:
                    os.kill(int(process.name), signal.SIGKILL)
                    return True
        return False

    def close(self) -> None:
        self.kill()
        os.close(self._replies)

    def _reply(self, seconds: float) -> dict[str, Any] | None:
        """Return the reply to what is at work; None when there is none within so long."""
        if self._busy and self._code is not None:
            return {"code": self._code}
        ready, _, _ = select.select([self._replies], [], [], seconds)
        line = os.read(self._replies, 4096) if ready else b""
        if not line:
            return None
        reply: dict[str, Any] = json.loads(line)
        if self._busy:
            self._code = reply["code"]
        return reply

    def _written(self, stream: int) -> str:
        with open(self._logs[stream], "rb") as file:
            file.seek(self._read[stream])
            return file.read().decode(errors="replace")


class Pool:
    """Workers by turns: one that was killed is replaced while another is at work.

    Parameters
    ----------
    directory
    least
        So many are there as soon as one is asked for.
    """

    def __init__(self, directory: Path, least: int) -> None:
        self._directory = directory
        self._least = least
        self._started = 0
        self._workers: list[Worker] = []

    def take(self, count: int) -> list[Worker]:
        """Return so many workers that live."""
        for worker in [w for w in self._workers if not w.is_usable]:
            self._workers.remove(worker)
            worker.close()
        while len(self._workers) < max(count, self._least):
            self._started += 1
            self._workers.append(Worker(self._directory, f"worker-{self._started}"))
        return self._workers[:count]

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


def wait_for(worker: Worker, condition: Callable[[], object], seconds: float = RUN_SECONDS) -> bool:
    """Wait for the condition, or the end of the run; tell whether it still runs."""
    deadline = time.monotonic() + seconds
    wait_until(
        lambda: condition() or not worker.is_busy or time.monotonic() > deadline,
        "the run gets on",
        seconds + 5,
    )
    return worker.is_busy


@contextlib.contextmanager
def _clock_ahead(seconds: float) -> Iterator[None]:
    """Have the driver's clock be ahead: as Python code of the project reads it."""
    if not seconds:
        yield
        return

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=seconds)

    modules = [m for name, m in sys.modules.items() if name.startswith("app.")]
    patched = [m for m in modules if getattr(m, "datetime", None) is datetime]
    real = time.time
    time.time = lambda: real() + seconds
    for module in patched:
        module.datetime = Ahead  # type: ignore[attr-defined]
    try:
        yield
    finally:
        time.time = real
        for module in patched:
            module.datetime = datetime  # type: ignore[attr-defined]


def _serve(replies: int) -> None:
    from app.cli.console import run
    from app.cli.main import cli
    from app.streaming.spark.scorers import import_model
    from app.streaming.spark.session import spark_session

    def ignore(number: int, frame: object) -> None:
        """Not SIG_IGN, which the JVM would inherit."""

    signal.signal(signal.SIGTERM, ignore)
    spark_session("hedgestream operator")
    import_model()
    os.write(replies, b'{"code": 0}\n')
    for line in sys.stdin:
        request = json.loads(line)
        code: Any = CRASHED
        try:
            with _clock_ahead(request["clock"]):
                run(cli, request["arguments"])
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
        finally:
            signal.signal(signal.SIGTERM, ignore)
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(replies, json.dumps({"code": code}).encode() + b"\n")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
