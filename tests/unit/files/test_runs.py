from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.config.run import EXIT, TAKEOVER, WAIT
from app.errors import StoppedEarlyError, StorageError, TakenOverError, WorkdirInUseError
from app.files import runs
from app.files.runs import claimed
from tests.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[3]


class InBackground:
    """A claim made in a thread of its own, and what became of it."""

    def __init__(self, workdir, if_running, **options):
        self.warnings: list[str] = []
        self.error: BaseException | None = None
        self.claim = None
        self._end = threading.Event()

        def claim():
            try:
                with claimed(workdir, if_running, warn=self.warnings.append, **options) as held:
                    self.claim = held
                    self._end.wait(30)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=claim)
        self.thread.start()

    def end(self):
        self._end.set()
        self.thread.join(30)


class TestAlone:
    @pytest.mark.parametrize("if_running", [TAKEOVER, WAIT, EXIT])
    def test_a_run_alone_claims_at_once_and_leaves_nothing_in_the_way(self, tmp_path, if_running):
        for _ in range(2):
            with claimed(tmp_path, if_running) as claim:
                assert not claim.is_taken_over
                claim.check()

    def test_a_run_that_fails_lets_go(self, tmp_path):
        with pytest.raises(ZeroDivisionError), claimed(tmp_path, EXIT):
            raise ZeroDivisionError

        with claimed(tmp_path, EXIT):
            pass

    def test_a_killed_run_leaves_nothing_in_the_way(self, tmp_path):
        script = (
            "import sys; from pathlib import Path; from app.files.runs import claimed\n"
            "with claimed(Path(sys.argv[1]), 'exit'): print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, tmp_path],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as run:
            assert run.stdout.readline() == b"held\n"
            with pytest.raises(WorkdirInUseError, match=f"another run .process {run.pid}."):
                claimed(tmp_path, EXIT).__enter__()
            run.kill()

        with claimed(tmp_path, EXIT) as claim:
            assert not claim.is_taken_over

    def test_without_locks_runs_do_not_see_each_other(self, tmp_path, monkeypatch):
        def refuse(file, operation):
            raise OSError(95, os.strerror(95))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with claimed(tmp_path, EXIT) as older, claimed(tmp_path, EXIT) as newer:
            assert newer.number > older.number

    def test_a_directory_that_cannot_be_used_is_reported(self, tmp_path):
        (tmp_path / ".runs").write_text("")

        with pytest.raises(StorageError, match="cannot be used"):
            claimed(tmp_path, EXIT).__enter__()


class TestExit:
    def test_the_second_run_is_kept_out_and_the_first_is_not_taken_over(self, tmp_path):
        with claimed(tmp_path, EXIT) as first:
            with pytest.raises(WorkdirInUseError, match="--if-running wait or takeover") as raised:
                claimed(tmp_path, EXIT).__enter__()
            assert raised.value.exit_code == 3
            assert not first.is_taken_over


class TestWait:
    def test_the_second_run_begins_when_the_first_has_ended(self, tmp_path):
        with claimed(tmp_path, EXIT) as first:
            second = InBackground(tmp_path, WAIT)
            wait_until(lambda: second.warnings, "a run that waits")
            assert second.claim is None
            assert not first.is_taken_over
        wait_until(lambda: second.claim, "the run that waited")
        second.end()
        assert second.error is None
        assert second.warnings == [f"waiting for the run at work (process {os.getpid()}) to end"]

    def test_a_stop_ends_the_wait(self, tmp_path):
        def stop():
            raise StoppedEarlyError("asked to end")

        with claimed(tmp_path, EXIT):
            with pytest.raises(StoppedEarlyError):
                claimed(tmp_path, WAIT, check_stop=stop).__enter__()


class TestTakeover:
    def test_the_first_run_is_asked_to_end_and_waited_for(self, tmp_path):
        with claimed(tmp_path, EXIT) as first:
            second = InBackground(tmp_path, TAKEOVER)
            wait_until(lambda: first.is_taken_over, "a takeover")
            with pytest.raises(TakenOverError) as raised:
                first.check()
            assert raised.value.exit_code == 4
            wait_until(lambda: second.warnings, "a run that waits")
            assert second.claim is None
        wait_until(lambda: second.claim, "the newer run")
        assert not second.claim.is_taken_over
        second.end()

    def test_one_that_hangs_is_left_behind(self, tmp_path, monkeypatch):
        monkeypatch.setattr(runs, "TAKEOVER_SECONDS", 0.0)
        warnings: list[str] = []
        with claimed(tmp_path, TAKEOVER) as hung:
            with claimed(tmp_path, TAKEOVER, warn=warnings.append) as newer:
                assert hung.is_taken_over
                assert not newer.is_taken_over
            assert "can publish no more" in warnings[-1]

    def test_of_three_the_newest_stays(self, tmp_path):
        with claimed(tmp_path, EXIT) as first:
            second = InBackground(tmp_path, TAKEOVER)
            wait_until(lambda: first.is_taken_over, "a takeover")
            third = InBackground(tmp_path, TAKEOVER)
            wait_until(lambda: second.error, "the end of the second")
            assert isinstance(second.error, TakenOverError)
        wait_until(lambda: third.claim, "the newest run")
        third.end()
        assert third.error is None
        second.end()

    def test_of_many_at_once_one_is_left(self, tmp_path):
        runs_at_once = [InBackground(tmp_path, TAKEOVER) for _ in range(8)]

        def settled() -> bool:
            held = [run for run in runs_at_once if run.claim]
            for run in held:
                if run.claim.is_taken_over:
                    run.end()
            left = [run for run in held if not run.claim.is_taken_over]
            ended = [run for run in runs_at_once if not run.thread.is_alive()]
            return len(left) == 1 and len(ended) == len(runs_at_once) - 1

        wait_until(settled, "one run that is left")
        for run in runs_at_once:
            run.end()
