"""A run that dies at some step, and the next that goes on from there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.registry.registry import ModelRegistry
from app.streaming.loop import MicroBatchLoop
from app.streaming.steps import Step
from tests.integration.streams import (
    comparable,
    read_predictions,
    small_csv,
    small_replay,
)

N, ROWS_PER_BATCH = 200, 100


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


@pytest.mark.parametrize("crash_after", Step)
def test_a_batch_that_crashes_after_any_step_is_counted_once(
    crash_after, stream, undisturbed, tmp_path, monkeypatch
):
    passed = []

    def crash_in_second_batch(loop, step):
        passed.append(step)
        if passed.count(crash_after) == 2:
            raise Crash(crash_after)

    with monkeypatch.context() as patched:
        patched.setattr(MicroBatchLoop, "_reached", crash_in_second_batch)
        with pytest.raises(Crash):
            small_replay(stream, tmp_path)
    assert passed[-1] == crash_after
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


def test_a_lost_race_learns_again_on_top_of_the_winner(stream, tmp_path, monkeypatch):
    """Another learner publishes between this one's snapshot and its commit, once."""
    original, raced = ModelRegistry.commit, []

    def lose_first_race(registry, base, staged, lease=None):
        if not raced:
            raced.append(base.version)
            rival = registry.acquire("rival")
            stored = registry.read(base)
            state, metadata = stored.state, stored.metadata
            theirs = registry.stage(base, rival, 0, state, metadata)
            original(registry, base, theirs, rival)
        original(registry, base, staged, lease)

    monkeypatch.setattr(ModelRegistry, "commit", lose_first_race)
    summary = small_replay(stream, tmp_path)
    assert raced == [0]
    assert summary.version == N // ROWS_PER_BATCH + 1
    assert summary.total.rows_learned == N


def test_predictions_kept_from_an_earlier_try_are_not_scored_again(stream, tmp_path, monkeypatch):
    small_replay(stream, tmp_path, rows_per_batch=N)
    (written,) = (tmp_path / "predictions").glob("query=*/batches=00000000/00000000.parquet")
    before = written.read_bytes()
    # Forget that the batch was learned, and keep what it predicted.
    shutil.rmtree(tmp_path / "snapshots")
    (tmp_path / "checkpoint" / "commits" / "0").unlink()
    (tmp_path / "checkpoint" / "commits" / ".0.crc").unlink(missing_ok=True)
    summary = small_replay(stream, tmp_path, rows_per_batch=N)
    assert summary.run.rows_learned == N
    assert written.read_bytes() == before
