"""Spark's own doings: each row is scored once, and a task that is retried changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.live import LiveRun
from tests.chaos.replays import ROOT, differences
from tests.integration import watched_udf
from tests.integration.live_streams import live_run, live_stream, write_json
from tests.integration.watched_udf import events_scored, watched_scorer


def sources(root: Path, n: int) -> tuple[str, str]:
    rows = live_stream(n)
    write_json(root / "events", rows.events)
    write_json(root / "feedback", rows.feedback)
    return f"json:{root}/events", f"json:{root}/feedback"


@pytest.mark.timeout(600)
def test_the_udf_is_evaluated_once_a_row_and_a_retried_task_changes_nothing(tmp_path, monkeypatch):
    n = 250
    streams = sources(tmp_path, n)
    once, twice = tmp_path / "once", tmp_path / "twice"
    once.mkdir()
    twice.mkdir()
    with monkeypatch.context() as patched:
        patched.setattr("app.streaming.rows.scored.RowScorer", watched_scorer(once))
        live_run(tmp_path / "a", *streams, max_rows_per_batch=100)
    assert events_scored(once) == n + 1

    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
    # Two cores, and up to four attempts a task: a local master has one unless it is told.
    submitted = subprocess.run(
        [
            str(Path(sys.executable).parent / "spark-submit"), "--master", "local[2,4]",
            "--properties-file", "spark-conf/local.conf", watched_udf.__file__,
            *streams, str(tmp_path / "b"), str(twice),
        ],
        cwd=ROOT, text=True, capture_output=True, timeout=200,
        env=clean | {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert submitted.returncode == 0, submitted.stderr[-3000:]
    assert json.loads(submitted.stdout.splitlines()[-1])["rows_scored"] == n + 1
    # Each row was scored by an attempt that failed, and by one that did not.
    assert events_scored(twice) == 2 * (n + 1)
    outcomes = [LiveRun(tmp_path / name, *streams).outcome() for name in "ba"]
    assert not differences(*outcomes)
