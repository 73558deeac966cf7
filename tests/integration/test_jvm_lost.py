"""A JVM that is killed is told in one line, whatever the run was at, and the next run goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.streaming.spark.bridge import LOST
from tests.chaos.replays import ROOT, ended
from tests.integration.streams import small_csv

# Several JVMs start, on a machine that may be busy.
pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]

_TOLD = re.compile(
    r"WARNING: Using incubator modules: jdk.incubator.vector$"
    r"|4 numbers: x0, x1, x2, x3$|classes: 0 \(\d+\), 1 \(\d+\)$"
    r"|\d+ rows, \d+ rows/s, version \d+, error 0\.\d+$"
)

# Runs the command line with a JVM that is killed before or after a function is called.
KILLED = """
import os, signal, sys
from importlib import import_module
from pyspark import SparkContext

module, _, path = sys.argv.pop(1).partition(":")
when, _, path = path.partition(" ")
*owners, name = path.split(".")
owner = import_module(module)
for attribute in owners:
    owner = getattr(owner, attribute)
function = getattr(owner, name)

def kill():
    java = SparkContext._gateway.proc
    if java.poll() is None:
        os.kill(java.pid, signal.SIGKILL)
        java.wait()

def killing(*args, **options):
    if when == "before":
        kill()
    result = function(*args, **options)
    if when == "after":
        kill()
    return result

setattr(owner, name, killing)
from app.cli.main import main
main()
"""

# A notebook: the same process starts a run again.
AGAIN = """
import os, signal, sys
from pathlib import Path
from pyspark import SparkContext
from app.api import replay
from app.errors import StreamFailedError
from app.monitor.listener import Listener

class Killer(Listener):
    def committed(self, record):
        os.kill(SparkContext._gateway.proc.pid, signal.SIGKILL)

options = dict(
    input=sys.argv[1], format="csv", label="label", workdir=sys.argv[2], rows_per_batch=100,
    n_hidden_layers=2, n_hidden_units=4,
)
try:
    replay(listener=Killer(), **options)
except StreamFailedError as error:
    print(error)
print(replay(**options).total.rows_learned)
"""


def python(*arguments: str) -> tuple[int, list[str], list[str]]:
    """Return the exit code of a process, and the lines of its output and of its errors.

    Of the errors without what a run tells of its model and its work.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", *arguments], cwd=ROOT, env=clean, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with ended(process):
        out, told = process.communicate(timeout=300)
    return (
        process.returncode,
        out.splitlines(),
        [x for x in told.splitlines() if not _TOLD.match(x)],
    )


def replay(place: str, stream: Path, workdir: Path) -> tuple[int, list[str], list[str]]:
    return python(
        KILLED, place, "replay", "--input", str(stream), "--format", "csv", "--label", "label",
        "--workdir", str(workdir), "--layers", "2", "--units", "4", "--rows-per-batch", "100",
    )  # fmt: skip


@pytest.mark.parametrize(
    "place",
    [
        "app.streaming.run:before bind_model",
        "app.streaming.query:before _wait_for_end",
        "app.streaming.loop:before MicroBatchLoop._publish",
    ],
    ids=["before the query", "as it starts", "in a batch"],
)
def test_a_killed_jvm_is_told_in_one_line(tmp_path, place):
    stream = small_csv(tmp_path / "in.csv", 200)
    code, out, told = replay(place, stream, tmp_path / "w")
    assert (code, out, told) == (1, [], [f"error: {LOST}"])


def test_a_jvm_that_is_killed_when_all_is_done_is_not_missed(tmp_path):
    stream = small_csv(tmp_path / "in.csv", 200)
    code, out, told = replay("app.streaming.run:after run_query", stream, tmp_path / "w")
    assert (code, told) == (0, [])
    assert any(line.split() == ["rows", "learned", "200"] for line in out)


def test_a_notebook_goes_on_with_a_jvm_of_its_own(tmp_path):
    stream = small_csv(tmp_path / "in.csv", 300)
    code, out, told = python(AGAIN, str(stream), str(tmp_path / "w"))
    assert (code, out, told) == (0, [LOST, "300"], [])
