"""The live stream as a process: told to end, killed, and ended by what it meets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from app.monitor.batch_log import BatchLog
from tests.chaos.live import LiveRun
from tests.chaos.replays import differences, ended
from tests.integration.live_streams import LiveStream, live_run, live_stream, write_json

# Queries, or whole processes, start several times in each, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

N, PARTS = 600, 6


@pytest.fixture
def rows() -> LiveStream:
    return live_stream(N)


def parts(rows: list[dict]) -> list[list[dict]]:
    """Cut rows into files, which one batch each reads."""
    size = -(-len(rows) // PARTS)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def add(root: Path, rows: LiveStream, part: int) -> None:
    write_json(root / "feedback", parts(rows.feedback)[part], f"part{part}")
    write_json(root / "events", parts(rows.events)[part], f"part{part}")


def test_a_run_told_to_end_finishes_its_batch_and_the_next_goes_on_without_a_gap(rows, tmp_path):
    for part in range(PARTS // 2):
        add(tmp_path, rows, part)
    run = LiveRun(
        tmp_path / "w", f"json:{tmp_path}/events", f"json:{tmp_path}/feedback",
        rows_per_batch=N, available_now=False,
    )  # fmt: skip
    process = run.start()
    with ended(process):
        assert run.wait_for_batches(process, 1)
        os.kill(process.pid, signal.SIGTERM)
        out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "ending after the batch in hand" in told
    summary = json.loads(out)
    assert summary["rows_scored"] == sum(len(part) for part in parts(rows.events)[: PARTS // 2])
    done = {record.batch for record in BatchLog(run.workdir / "batches").read()}
    committed = {path.name for path in (run.workdir / "live/checkpoint/commits").glob("[0-9]*")}
    assert done == set(map(int, committed))

    for part in range(PARTS // 2, PARTS):
        add(tmp_path, rows, part)
    live_run(run.workdir, run.events, run.feedback, max_rows_per_batch=N)
    totals = run.totals()
    assert {"learned": totals.rows_learned, **totals.labels.dead} == rows.expected
    assert run.outcome()["events_twice"] == 0


def test_a_query_that_dies_is_told_with_its_batch_version_and_cause(rows, tmp_path):
    add(tmp_path, rows, 0)
    run = LiveRun(
        tmp_path / "w", f"json:{tmp_path}/events", f"json:{tmp_path}/feedback",
        available_now=False,
    )  # fmt: skip
    process = run.start()
    with ended(process):
        assert run.wait_for_batches(process, 1)
        query = next(run.workdir.glob("batches/*")).name
        # The predictions of the next batch have nowhere to go.
        written = run.workdir / "predictions" / f"query={query}"
        shutil.rmtree(written)
        written.write_text("in the way")
        add(tmp_path, rows, 1)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = (line for line in told.splitlines() if line.startswith("error: "))
    assert re.search(
        rf"predictions.* cannot be written: .*; query {query} failed in batch \d+ "
        r"on version \d+$",
        line,
    )
    assert "Traceback" not in told


def test_a_stream_killed_between_and_in_its_batches_ends_as_one_that_was_not(rows, tmp_path):
    for part in range(PARTS):
        add(tmp_path, rows, part)
    sources = f"json:{tmp_path}/events", f"json:{tmp_path}/feedback"
    undisturbed = LiveRun(tmp_path / "a", *sources)
    live_run(undisturbed.workdir, *sources, max_rows_per_batch=120)
    run = LiveRun(tmp_path / "b", *sources, rows_per_batch=120)
    for batches in (1, 3):
        process = run.start()
        with ended(process):
            assert run.wait_for_batches(process, batches)
            run.wait_for_entered(process, batches)
    live_run(run.workdir, *sources, max_rows_per_batch=120)
    assert not differences(run.outcome(), undisturbed.outcome())
