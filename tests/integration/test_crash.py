"""A run that dies at some step, and the next that goes on from there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.monitor.batch_log import BatchLog
from app.registry.registry import ModelRegistry
from app.streaming.sinks import WriteOnceParquet
from tests.integration.streams import (
    comparable,
    read_predictions,
    small_csv,
    small_replay,
)

N, ROWS_PER_BATCH = 200, 100
DEADLINE_SECONDS = 120


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_csv(tmp_path_factory.mktemp("stream") / "rows.csv", N)


@pytest.fixture(scope="module")
def undisturbed(stream: Path, tmp_path_factory: pytest.TempPathFactory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return small_replay(stream, workdir), comparable(read_predictions(workdir))


def assert_equal_to_undisturbed(summary, workdir: Path, undisturbed) -> None:
    expected, predictions = undisturbed
    assert summary.state_sha256 == expected.state_sha256
    assert summary.version == expected.version
    assert comparable(read_predictions(workdir)).equals(predictions)
    assert (summary.total.rows_learned, summary.total.served_error) == (
        expected.total.rows_learned,
        expected.total.served_error,
    )
    assert summary.total.prequential_error == expected.total.prequential_error


class Crash(Exception):
    pass


CRASH_POINTS = {
    "before_predictions": (WriteOnceParquet, "write", "before"),
    "predictions_written": (WriteOnceParquet, "write", "after"),
    "snapshot_written": (ModelRegistry, "stage", "after"),
    "batch_recorded": (BatchLog, "write", "after"),
    "published": (ModelRegistry, "commit", "after"),
    "head_written": (ModelRegistry, "record_head", "after"),
}


@pytest.mark.parametrize("crash_at", CRASH_POINTS)
def test_a_batch_that_crashes_at_any_step_is_counted_once(
    crash_at, stream, undisturbed, tmp_path, monkeypatch
):
    owner, method, when = CRASH_POINTS[crash_at]
    original, calls = getattr(owner, method), []

    def crash_in_second_batch(*args, **kwargs):
        calls.append(method)
        if len(calls) == 2 and when == "before":
            raise Crash(crash_at)
        result = original(*args, **kwargs)
        if len(calls) == 2:
            raise Crash(crash_at)
        return result

    with monkeypatch.context() as patched:
        patched.setattr(owner, method, crash_in_second_batch)
        with pytest.raises(Crash):
            small_replay(stream, tmp_path)
    assert len(calls) == 2
    summary = small_replay(stream, tmp_path)
    assert_equal_to_undisturbed(summary, tmp_path, undisturbed)


def test_a_batch_that_spark_did_not_commit_is_not_learned_again(stream, undisturbed, tmp_path):
    small_replay(stream, tmp_path)
    last = tmp_path / "checkpoint" / "commits" / "1"
    last.unlink()
    (last.parent / ".1.crc").unlink(missing_ok=True)
    summary = small_replay(stream, tmp_path)
    assert summary.run.rows_in == 0
    assert_equal_to_undisturbed(summary, tmp_path, undisturbed)


def test_a_process_group_killed_in_the_middle_loses_nothing(stream, undisturbed, tmp_path):
    command = [
        sys.executable, "-m", "app", "replay", "--input", str(stream), "--format", "csv",
        "--label", "label", "--workdir", str(tmp_path), "--rows-per-batch", str(ROWS_PER_BATCH),
        "--layers", "3", "--units", "8",
    ]  # fmt: skip
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not list(tmp_path.glob("batches/*/00000001.json")):
        assert run.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "the second batch was never recorded"
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    summary = small_replay(stream, tmp_path)
    assert_equal_to_undisturbed(summary, tmp_path, undisturbed)


def test_a_lost_race_learns_again_on_top_of_the_winner(stream, tmp_path, monkeypatch):
    """Another learner publishes between this one's snapshot and its commit, once."""
    original, raced = ModelRegistry.commit, []

    def lose_first_race(registry, base, lease, record, data):
        if not raced:
            raced.append(base.version)
            rival = registry.acquire("rival")
            _, state, metadata = registry.load()
            staged = registry.stage(base, rival, 0, state, metadata)
            original(registry, base, rival, *staged)
        original(registry, base, lease, record, data)

    monkeypatch.setattr(ModelRegistry, "commit", lose_first_race)
    summary = small_replay(stream, tmp_path)
    assert raced == [0]
    assert summary.version == N // ROWS_PER_BATCH + 1
    assert summary.total.rows_learned == N


def test_predictions_kept_from_an_earlier_try_are_not_scored_again(stream, tmp_path, monkeypatch):
    small_replay(stream, tmp_path, rows_per_batch=N)
    (written,) = (tmp_path / "predictions").glob("query=*/batch=00000000/*.parquet")
    before = written.read_bytes()
    # Forget that the batch was learned, and keep what it predicted.
    shutil.rmtree(tmp_path / "snapshots")
    (tmp_path / "checkpoint" / "commits" / "0").unlink()
    (tmp_path / "checkpoint" / "commits" / ".0.crc").unlink(missing_ok=True)
    summary = small_replay(stream, tmp_path, rows_per_batch=N)
    assert summary.run.rows_learned == N
    assert written.read_bytes() == before
