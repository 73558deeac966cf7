"""The command compact: what it does, what it prints, and what it refuses."""

from __future__ import annotations

import json
import os

import pytest

from app.files.batches.dataset import REJECTED
from app.files.batches.retention import sole_upkeep
from app.files.workdir import open_workdir
from app.registry.feedback_log import FeedbackLog
from app.registry.version_log import VersionLog
from tests.unit.files.batches.datasets import fill, seen
from tests.unit.registry.test_feedback_log import rows
from tests.unit.registry.test_version_log import extend

LONG_AGO = 1_000_000_000


@pytest.fixture
def workdir(tmp_path, small_packs):
    workdir = open_workdir(tmp_path / "w")
    fill(workdir.predictions, [0, 1, 2, 1000, 1001, 2000])
    fill(workdir.dead_letters, [0, 1, 1000], kind=REJECTED)
    log = VersionLog(workdir.snapshots, "m")
    for record in extend(log, 0, 8):
        log.write_current(record)
    for batch in range(8):
        FeedbackLog.of(log.directory).write("q", batch, rows(2))
    return workdir


def test_everything_is_merged_packed_and_told(call, workdir):
    before = seen(workdir.predictions)
    code, out, err = call("compact", "--workdir", str(workdir.path))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "predictions   5 files merged into 2; 0 removed",
        "dead letters  2 files merged into 1; 0 removed",
        "versions      5 records packed",
        "feedback      5 batches packed",
    ]
    assert seen(workdir.predictions).equals(before)
    assert len(list(VersionLog(workdir.snapshots, "m").records())) == 9
    _, again, _ = call("compact", "--workdir", str(workdir.path))
    assert again.splitlines()[0] == "predictions   0 files merged into 0; 0 removed"


def test_old_files_are_removed_when_told(call, workdir):
    for path in workdir.predictions.rglob("*.parquet"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    command = ["compact", "--workdir", str(workdir.path), "--keep-predictions", "30", "--json"]
    code, out, _ = call(*command)
    assert code == 0
    done = json.loads(out)
    assert done["removed"] == {"predictions": 5, "dead_letters": 0}
    assert done["dead_letters"] == {"files": 2, "into": 1, "problems": []}
    assert sorted(set(seen(workdir.predictions)["batch_id"])) == [2000]


def test_what_is_left_as_it_is_is_told_in_a_line(call, workdir, monkeypatch):
    monkeypatch.setattr("app.files.atomic._renameat2", lambda *_: 22)
    code, _, err = call("compact", "--workdir", str(workdir.path))
    assert code == 0
    notes = err.splitlines()
    assert len(notes) == 3
    assert all(note.startswith("note: ") and "left as it is" in note for note in notes)


@pytest.mark.parametrize("days", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("option", ["--keep-predictions", "--keep-dead-letters"])
def test_days_are_above_0(complaint, workdir, option, days):
    told = complaint("compact", "--workdir", str(workdir.path), option, days)
    assert told.startswith(f"{option} must be a number above 0, not ")


def test_a_directory_that_is_none_of_a_run_is_refused(complaint, tmp_path):
    (tmp_path / "other").mkdir()
    for path in ("other", "missing"):
        told = complaint("compact", "--workdir", str(tmp_path / path))
        assert told == f"--workdir: {tmp_path / path} is no work directory of a run"


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"format": 4}', "is of format 4, written by a newer release"),
     ('{"format": 2}', "is of format 2; the next run brings it to format 3"),
     ('{"format": 3, "unfinished": true}', "the next run brings it to format 3"),
     (None, "is of format 1; the next run brings it to format 3")],
)  # fmt: skip
def test_another_format_is_refused_and_left_alone(complaint, workdir, content, message):
    path = workdir.path / "format.json"
    path.unlink() if content is None else path.write_text(content)
    before = sorted(workdir.path.rglob("*"))
    assert message in complaint("compact", "--workdir", str(workdir.path))
    assert sorted(workdir.path.rglob("*")) == before


def test_two_at_once_are_refused(complaint, workdir):
    with sole_upkeep(workdir.path):
        told = complaint("compact", "--workdir", str(workdir.path), code=3)
    assert told == f"--workdir: {workdir.path} is being compacted already"
