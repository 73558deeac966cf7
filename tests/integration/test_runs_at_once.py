"""Two runs of one work directory at once, and runs that are asked to end before they began."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.chaos.live import LiveRun
from tests.chaos.replays import Replay, differences, ended, epochs
from tests.integration.live_streams import live_stream, write_json
from tests.integration.streams import small_csv
from tests.redis_server import RedisServer
from tests.waiting import wait_until

# Processes start several times in each, on a machine that may be busy.
pytestmark = [pytest.mark.spark, pytest.mark.redis, pytest.mark.timeout(600)]

ROWS, ROWS_PER_BATCH = 600, 20


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Path:
    return small_csv(tmp_path_factory.mktemp("stream") / "rows.csv", ROWS)


@pytest.fixture(scope="module")
def undisturbed(stream, tmp_path_factory):
    run = Replay(stream, tmp_path_factory.mktemp("undisturbed"), ROWS_PER_BATCH)
    run.finish()
    return run.outcome()


@pytest.fixture(params=["embedded", "shared"])
def redis_url(request, tmp_path):
    if request.param == "embedded":
        yield None
    else:
        with RedisServer(tmp_path) as server:
            yield server.url


def complaint(told: str) -> str:
    """Return the one line with which a run has ended, of which nothing else is an error."""
    assert "Traceback" not in told
    (line,) = (line for line in told.splitlines() if line.startswith("error: "))
    return line


def test_a_replay_leaves_one_at_work_alone_and_a_newer_one_may_take_over(
    stream, undisturbed, redis_url, tmp_path
):
    run = Replay(stream, tmp_path / "w", ROWS_PER_BATCH, redis_url)
    first = run.start()
    with ended(first):
        assert run.wait_for_batch(first, 0)
        # So that it is still at work when the others have started.
        os.killpg(first.pid, signal.SIGSTOP)
        second = run.start()
        with ended(second):
            _, told = second.communicate()
        assert second.returncode == 3
        assert f"another run (process {first.pid}) is using" in complaint(told)

        third = run.start("--if-running", "takeover")
        with ended(third):
            wait_until(
                lambda: (run.workdir / ".runs" / "2").exists() or third.poll() is not None,
                "the newer run",
                60,
            )
            os.killpg(first.pid, signal.SIGCONT)
            _, told = first.communicate()
            assert first.returncode == 4
            assert "a newer run has taken over" in complaint(told)
            _, told = third.communicate()
            assert third.returncode == 0, told
    assert f"taking over from the run at work (process {first.pid})" in told
    assert not differences(run.outcome(), undisturbed)


def test_a_replay_told_to_end_says_that_it_has_not_read_all(stream, undisturbed, tmp_path):
    run = Replay(stream, tmp_path / "w", ROWS_PER_BATCH)
    process = run.start()
    with ended(process):
        assert run.wait_for_batch(process, 0)
        os.kill(process.pid, signal.SIGTERM)
        _, told = process.communicate()
    assert process.returncode == 143
    assert "asked to end before all was read" in complaint(told)
    run.finish()
    assert not differences(run.outcome(), undisturbed)


class TestStream:
    @pytest.fixture
    def run(self, tmp_path) -> LiveRun:
        rows = live_stream(200)
        write_json(tmp_path / "events", rows.events)
        write_json(tmp_path / "feedback", rows.feedback)
        sources = f"json:{tmp_path}/events", f"json:{tmp_path}/feedback"
        return LiveRun(tmp_path / "w", *sources, rows_per_batch=50, available_now=False)

    def ready(self, run: LiveRun, process: subprocess.Popen[str]) -> None:
        """Wait until a run may be told to end, before its query is up."""
        wait_until(
            lambda: list(run.workdir.glob(".runs/[0-9]*")) or process.poll() is not None,
            "the run has begun",
            60,
        )

    def test_told_to_end_before_the_query_is_up_it_says_so(self, run):
        process = run.start()
        with ended(process):
            self.ready(run, process)
            os.kill(process.pid, signal.SIGTERM)
            out, told = process.communicate()
        assert process.returncode == 143
        assert "asked to end before the query was up, so nothing was read" in complaint(told)
        assert out == ""

    def test_an_idle_stream_is_taken_over_by_a_newer_one(self, run):
        first = run.start()
        with ended(first):
            assert run.wait_for_batches(first, 4)
            second = run.start()
            with ended(second):
                _, told = first.communicate()
                assert first.returncode == 4
                assert "a newer run has taken over" in complaint(told)
                wait_until(
                    lambda: epochs(run.workdir) > 1 or second.poll() is not None,
                    "the newer run",
                    60,
                )
                os.kill(second.pid, signal.SIGTERM)
                _, told = second.communicate()
            assert second.returncode in (0, 143), told
