"""A run keeps its older files few by itself, seldom, and goes on when that fails."""

from __future__ import annotations

import os

import pytest

from app.files.batches.dataset import REJECTED
from app.files.batches.retention import sole_upkeep
from app.files.workdir import open_workdir
from app.registry.feedback_log import FeedbackLog
from app.registry.packs.upkeep import EVERY, KeptDays, Upkeep
from app.registry.version_log import VersionLog
from tests.unit.files.batches.datasets import fill, seen
from tests.unit.registry.test_feedback_log import rows
from tests.unit.registry.test_version_log import extend

LONG_AGO = 1_000_000_000


@pytest.fixture
def workdir(tmp_path, small_packs):
    return open_workdir(tmp_path)


@pytest.fixture
def versions(workdir):
    versions = VersionLog(workdir.snapshots, "m")
    for batch in range(8):
        FeedbackLog.of(versions.directory).write("q", batch, rows(2))
    extend(versions, 0, 8)
    return versions


def packs(workdir) -> int:
    return len([*workdir.snapshots.rglob("*.jsonl"), *workdir.snapshots.rglob("batches=*")])


def test_the_first_batch_and_every_so_many_are_followed_by_it(workdir, versions):
    upkeep = Upkeep(workdir, versions, KeptDays(), pytest.fail)
    upkeep()
    assert packs(workdir) == 2
    extend(versions, 9, 13)
    for _ in range(EVERY - 1):
        upkeep()
    assert packs(workdir) == 2
    upkeep()
    assert packs(workdir) == 3


def test_files_are_removed_by_their_age(workdir, versions):
    fill(workdir.predictions, range(30))
    fill(workdir.dead_letters, range(30), kind=REJECTED)
    for path in workdir.path.rglob("*.parquet"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    with sole_upkeep(workdir.path):
        Upkeep(workdir, versions, KeptDays(1, 1), pytest.fail)()
    assert len(set(seen(workdir.predictions)["batch_id"])) == 30, "compact is at work"
    Upkeep(workdir, versions, KeptDays(predictions=1), pytest.fail)()
    assert len(set(seen(workdir.predictions)["batch_id"])) == 16
    assert len(set(seen(workdir.dead_letters)["batch_id"])) == 30
    assert len(list(workdir.snapshots.rglob("*.parquet"))) == 4, "rows learned are kept for good"


def test_a_failure_is_told_and_the_run_goes_on(workdir, versions, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    told: list[str] = []
    Upkeep(workdir, versions, KeptDays(), told.append)()
    (message,) = told
    assert message.startswith("older files are left as they are: ")
    assert message.endswith("cannot be written: No space left on device")
