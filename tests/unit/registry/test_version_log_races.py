"""Learners that race for a version or an epoch: one has it, and readers see whole records."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import VersionConflictError
from app.registry.version import ModelVersion
from app.registry.version_log import VersionLog
from tests.unit.registry.test_version_log import record, reopened

REPOSITORY = Path(__file__).parents[3]
DEADLINE_SECONDS = 60


@pytest.fixture
def log(tmp_path) -> VersionLog:
    return VersionLog(tmp_path / "snapshots", "m")


def run_together(actions: list[Callable[[], object]]) -> list[object]:
    """Call all actions at one moment, each in a thread of its own."""
    barrier = threading.Barrier(len(actions))

    def act(action: Callable[[], object]) -> object:
        barrier.wait(DEADLINE_SECONDS)
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(act, actions))


def wins(log: VersionLog, each: ModelVersion) -> bool:
    try:
        log.append(each)
    except VersionConflictError:
        return False
    return True


def test_one_of_several_racing_threads_has_each_version(log):
    log.append(record(0))
    learners = [reopened(log) for _ in range(8)]
    for version in range(1, 11):
        rivals = [record(version, f"{version}-by-{n}") for n in range(len(learners))]
        won = run_together(
            [
                lambda log=log, each=each: wins(log, each)
                for log, each in zip(learners, rivals, strict=True)
            ]
        )

        assert won.count(True) == 1
        winner = rivals[won.index(True)]
        assert [log.newest() for log in learners] == [winner] * len(learners)


def test_one_of_several_racing_processes_has_each_version(log):
    versions = 50
    log.append(record(0))
    script = """
        import sys
        from pathlib import Path
        from app.errors import VersionConflictError
        from app.registry.version_log import VersionLog
        from tests.unit.registry.test_version_log import record

        log, me = VersionLog(Path(sys.argv[1]), "m"), sys.argv[2]
        print("ready", flush=True)
        sys.stdin.readline()
        for version in range(1, int(sys.argv[3]) + 1):
            try:
                log.append(record(version, f"{version}-by-{me}"))
                print(version)
            except VersionConflictError:
                pass
    """
    learners = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), log.directory, me, str(versions)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in ("a", "b", "c")
    ]
    for learner in learners:
        assert learner.stdout.readline() == "ready\n"
    for learner in learners:
        learner.stdin.write("go\n")
        learner.stdin.flush()
    printed = [learner.communicate(timeout=DEADLINE_SECONDS)[0] for learner in learners]

    won = {
        version: me
        for me, text in zip("abc", printed, strict=True)
        for version in map(int, text.split())
    }
    assert sum(len(text.split()) for text in printed) == len(won) == versions
    commits = [each.commit for each in reopened(log).records(1)]
    assert commits == [f"{version}-by-{won[version]}" for version in range(1, versions + 1)]


def test_reader_meets_whole_records_only_and_never_goes_back(log):
    log.append(record(0))
    done = threading.Event()

    def read() -> list[int]:
        follower, seen = reopened(log), []
        while not done.is_set():
            seen += [follower.newest().version, reopened(log).newest().version]
        return [*seen, follower.newest().version]

    def write() -> None:
        try:
            for version in range(1, 101):
                log.append(record(version))
                log.write_current(record(version))
        finally:
            done.set()

    seen, _ = run_together([read, write])
    assert seen == sorted(seen)
    assert seen[-1] == 100
