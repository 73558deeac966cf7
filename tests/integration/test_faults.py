"""Everything that can go wrong around a run: nothing is lost, nothing is counted twice.

The long form is ``make chaos``.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from app.errors import RegistryUnavailableError, StorageError, StreamFailedError
from app.monitor.listener import Listener
from app.registry.feedback_log import FeedbackLog
from app.registry.open import join_model, version_log_of
from app.registry.rebuild import Rebuilder
from app.registry.rollback import roll_back
from app.streaming.loop import MicroBatchLoop
from app.streaming.replay import replay
from app.streaming.steps import Step
from tests.chaos.learners import problems_of_learners_at_once
from tests.chaos.replays import Replay, differences, ended, kill_at_random
from tests.integration.streams import read_predictions, small_csv, small_replay, small_settings
from tests.redis_server import RedisServer
from tests.waiting import wait_until

ROWS_PER_BATCH = 50
BATCHES = 12


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_csv(tmp_path_factory.mktemp("stream") / "rows.csv", BATCHES * ROWS_PER_BATCH)


@pytest.fixture(scope="module")
def undisturbed(stream: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    workdir = tmp_path_factory.mktemp("undisturbed")
    small_replay(stream, workdir, rows_per_batch=ROWS_PER_BATCH)
    return Replay(stream, workdir, ROWS_PER_BATCH).outcome()


@pytest.fixture
def server(tmp_path: Path):
    with RedisServer(tmp_path) as server:
        yield server


def on_step(monkeypatch: pytest.MonkeyPatch, action) -> None:
    """Have ``action(step, batch)`` called after every step, batches counted from 0."""
    fenced: list[Step] = []

    def reached(loop: MicroBatchLoop, step: Step) -> None:
        if step is Step.FENCED:
            fenced.append(step)
        action(step, len(fenced) - 1)

    monkeypatch.setattr(MicroBatchLoop, "_reached", reached)


def test_process_groups_killed_at_random_leave_what_an_undisturbed_run_leaves(
    stream, undisturbed, tmp_path
):
    run = Replay(stream, tmp_path, ROWS_PER_BATCH)
    assert kill_at_random(run, kills=2, rng=random.Random(1), seconds=1.0) == 2
    small_replay(stream, tmp_path, rows_per_batch=ROWS_PER_BATCH)
    assert not differences(run.outcome(), undisturbed)


def test_redis_lost_after_each_step_costs_no_version(
    stream, undisturbed, server, tmp_path, monkeypatch
):
    steps = list(Step)
    lost = []

    def lose_redis(step: Step, batch: int) -> None:
        # Batch i loses it after the i-th step.
        if batch < len(steps) and step is steps[batch] and step not in lost:
            server.restart()
            lost.append(step)

    on_step(monkeypatch, lose_redis)
    workdir = tmp_path / "w"
    small_replay(stream, workdir, rows_per_batch=ROWS_PER_BATCH, redis_url=server.url)
    assert lost == steps
    assert not differences(Replay(stream, workdir, ROWS_PER_BATCH).outcome(), undisturbed)


class BringsRedisBack(Listener):
    """Starts Redis again as soon as the driver waits for it: when a batch is scored."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def warned(self, message: str) -> None:
        if message.startswith("waiting"):
            self._server.start()


def test_scorers_go_on_without_redis_and_say_so(stream, server, tmp_path, monkeypatch):
    def take_away(step: Step, batch: int) -> None:
        if (step, batch) == (Step.FENCED, 1):
            server.kill()

    on_step(monkeypatch, take_away)
    settings = small_settings(stream, tmp_path / "w", rows_per_batch=200, redis_url=server.url)
    summary = replay(settings, BringsRedisBack(server))
    assert (summary.run.rows_stale, summary.run.rows_learned) == (200, 600)
    stale = read_predictions(tmp_path / "w").groupby("batch_id")["stale"].mean()
    assert stale.to_dict() == {0: 0, 1: 1, 2: 0}


def test_a_redis_that_answers_nothing_is_waited_for(stream, server, tmp_path, monkeypatch):
    def freeze(step: Step, batch: int) -> None:
        if (step, batch) == (Step.SNAPSHOT_WRITTEN, 1):
            server.freeze()
            threading.Timer(1.0, server.thaw).start()

    on_step(monkeypatch, freeze)
    summary = small_replay(stream, tmp_path / "w", rows_per_batch=200, redis_url=server.url)
    assert (summary.version, summary.run.rows_learned) == (3, 600)


def test_scorers_end_the_run_when_told_to(stream, server, tmp_path, monkeypatch):
    def take_away(step: Step, batch: int) -> None:
        if (step, batch) == (Step.FENCED, 1):
            server.kill()

    settings = {"rows_per_batch": 200, "redis_url": server.url, "on_registry_outage": "fail"}
    with monkeypatch.context() as patched:
        on_step(patched, take_away)
        with pytest.raises(StreamFailedError, match="Redis at redis://"):
            small_replay(stream, tmp_path / "w", **settings)
    server.start()
    assert small_replay(stream, tmp_path / "w", **settings).total.rows_learned == 600


def test_an_outage_longer_than_the_patience_ends_the_run_and_loses_nothing(
    stream, undisturbed, server, tmp_path, monkeypatch
):
    def take_away(step: Step, batch: int) -> None:
        if (step, batch) == (Step.SNAPSHOT_WRITTEN, 3):
            server.kill()

    settings = {
        "rows_per_batch": ROWS_PER_BATCH, "redis_url": server.url, "registry_patience": 0.5
    }  # fmt: skip
    with monkeypatch.context() as patched:
        on_step(patched, take_away)
        with pytest.raises(RegistryUnavailableError, match="cannot be reached"):
            small_replay(stream, tmp_path / "w", **settings)
    server.start()
    small_replay(stream, tmp_path / "w", **settings)
    found = Replay(stream, tmp_path / "w", ROWS_PER_BATCH).outcome()
    assert not differences(found, undisturbed)


def test_a_learner_that_was_stopped_and_overtaken_ends_as_stale(
    stream, undisturbed, server, tmp_path, monkeypatch
):
    monkeypatch.setattr("app.files.runs.TAKEOVER_SECONDS", 0.0)
    run = Replay(stream, tmp_path / "w", ROWS_PER_BATCH, redis_url=server.url)
    first = run.start()
    with ended(first):
        assert run.wait_for_learner(first, before=0)
        wait_until(
            lambda: list(run.workdir.glob("predictions/query=*/batches=*/*3.parquet")),
            "batch 3",
            60,
        )
        os.killpg(first.pid, signal.SIGSTOP)
        small_replay(
            stream,
            run.workdir,
            rows_per_batch=ROWS_PER_BATCH,
            redis_url=server.url,
            if_running="takeover",
        )
        os.killpg(first.pid, signal.SIGCONT)
        _, told = first.communicate(timeout=120)
    assert first.returncode == 1
    (line,) = (line for line in told.splitlines() if line.startswith("error: "))
    assert "a newer learner runs on" in line
    assert not differences(run.outcome(), undisturbed)


def test_learners_of_one_model_at_once_lose_nothing(server, tmp_path):
    assert not problems_of_learners_at_once(tmp_path, 2, server.url)


def test_a_rollback_while_the_loop_runs_is_learned_on_top_of(stream, tmp_path):
    run = Replay(stream, tmp_path / "w", ROWS_PER_BATCH)
    process = run.start()
    with ended(process):
        assert run.wait_for_learner(process, before=0)
        wait_until(lambda: list(run.workdir.glob("snapshots/v0000000002-*")), "version 2", 60)
        with join_model(run.workdir, None) as opened:
            registry = opened.registry
            feedback = FeedbackLog.of(registry.directory)
            rebuilder = Rebuilder(registry.versions, registry.snapshots, feedback)
            rolled = roll_back(registry, rebuilder, 1)
        _, told = process.communicate()
    assert process.returncode == 0, told

    records = list(version_log_of(run.workdir).records())
    assert [r.origin["kind"] for r in records].count("rollback") == 1
    assert records[rolled.version].state_sha256 == records[1].state_sha256
    batches = [r.origin["batch"] for r in records if r.origin["kind"] == "batch"]
    assert batches == list(range(BATCHES))
    # What was learned since, learned again on top of the rollback, has the hashes published.
    for record in records[rolled.version + 1 :]:
        registry.snapshots.drop(record.snapshot)
    rebuilder.rebuild(records[-1].version)


def test_a_full_disk_ends_the_run_and_loses_nothing(stream, undisturbed, tmp_path, monkeypatch):
    fsync, written = os.fsync, []

    def fill_up(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        written.append(name)
        if sum(".safetensors" in name for name in written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fill_up)
        with pytest.raises(StorageError, match="v0000000004-.* cannot be written: No space left"):
            small_replay(stream, tmp_path, rows_per_batch=ROWS_PER_BATCH)
    small_replay(stream, tmp_path, rows_per_batch=ROWS_PER_BATCH)
    assert not differences(Replay(stream, tmp_path, ROWS_PER_BATCH).outcome(), undisturbed)
