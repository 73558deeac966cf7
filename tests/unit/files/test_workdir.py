"""A work directory is brought to the present format, and one of a newer release is refused."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import DamagedFileError, NewerFormatError, UserError, WorkdirInUseError
from app.files.batches.dataset import DIVERGED, PREDICTED, REJECTED, WriteOnceParquet
from app.files.finders import NamedFinder
from app.files.manifest import FileManifest, listed_files
from app.files.workdir import FORMAT, WorkDirectory, check_format, is_unfinished, open_workdir
from tests.unit.deaths import every_death


def test_a_new_directory_is_of_the_present_format(tmp_path):
    opened = open_workdir(tmp_path / "a" / "run")
    assert check_format(opened.path) == FORMAT
    assert opened.path == (tmp_path / "a" / "run").resolve()


def test_the_files_that_format_1_listed_keep_their_places(tmp_path):
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv", "/a.csv"]))
    opened = open_workdir(tmp_path)
    manifest = FileManifest(opened.replay_files, NamedFinder(["/a.csv", "/b.csv"]))
    manifest.look()
    assert manifest.files == ["/z.csv", "/a.csv", "/b.csv"]
    open_workdir(tmp_path)
    again = FileManifest(opened.replay_files, NamedFinder([]))
    assert again.files == ["/z.csv", "/a.csv", "/b.csv"]


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    (tmp_path / "format.json").write_text('{"format": 4}')
    (tmp_path / "input.json").write_text("[]")
    with pytest.raises(NewerFormatError, match=r"--workdir: .* is of format 4.* formats 1 to 3"):
        open_workdir(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["format.json", "input.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": "two"}', '{"format": "2"}', "7", "[" * 100_000]
)
def test_a_format_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "format.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"format.json is damaged"):
        open_workdir(tmp_path)


def test_a_file_in_its_place_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="--workdir: .*run cannot be made"):
        open_workdir(tmp_path / "run")


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[" * 100_000])
def test_a_list_of_format_1_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "input.json").write_text(content)
    with pytest.raises(DamagedFileError, match=r"input.json is damaged: .*Restore it"):
        open_workdir(tmp_path)


def test_files_that_an_older_release_has_read_since_are_not_passed_over(tmp_path):
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv"]))
    opened = open_workdir(tmp_path)
    FileManifest(opened.replay_files, NamedFinder(["/y.csv"])).look()
    open_workdir(tmp_path)
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv", "/x.csv"]))
    with pytest.raises(UserError, match="an older release has used"):
        open_workdir(tmp_path)


def test_a_list_of_format_1_goes_with_the_checkpoint_that_it_belonged_to(tmp_path):
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv", "/a.csv"]))
    opened = open_workdir(tmp_path)
    opened.set_replay_files_aside()
    FileManifest(opened.replay_files, NamedFinder(["/a.csv", "/z.csv"])).look()
    assert listed_files(open_workdir(tmp_path).replay_files) == ["/a.csv", "/z.csv"]


def rows(batch: int, name: str) -> pa.Table:
    return pa.table({"event_id": [f"{name}-{batch}"], "batch_id": pa.array([batch], pa.int64())})


def in_format_2(path: Path, queries: tuple[str, ...] = ("q", "p")) -> Path:
    """Make a work directory as the release before left it."""
    for directory, name, batches in (
        ("predictions", "predictions", (0, 1, 999, 1000, 100_000_000)),
        ("dead_letters", "rejected", (1, 1000)),
        ("dead_letters", "diverged", (1, 2)),
    ):
        for query, batch in itertools.product(queries, batches):
            place = path / directory / f"query={query}" / f"batch={batch:08d}"
            place.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows(batch, name), place / f"{name}.parquet")
    (path / "predictions/query=q/batch=00000001/.predictions.parquet.0badcafe.tmp").touch()
    (path / "format.json").write_text('{"format": 2}')
    return path


def read(path: Path) -> list[pd.DataFrame]:
    """Return what a reader sees of predictions and dead letters."""
    tables = [pd.read_parquet(path / directory) for directory in ("predictions", "dead_letters")]
    order = ["query", "event_id"]
    return [table[["event_id", "batch_id", "query"]].sort_values(order) for table in tables]


def assert_brought(path: Path, before: list[pd.DataFrame]) -> None:
    assert check_format(path) == FORMAT
    for found, expected in zip(read(path), before, strict=True):
        pd.testing.assert_frame_equal(found, expected, check_like=True)
    assert not list(path.rglob("batch=*"))
    workdir = WorkDirectory(path)
    for query in before[0]["query"].unique():
        predicted = WriteOnceParquet(workdir.predictions, PREDICTED)
        rejected = WriteOnceParquet(workdir.dead_letters, REJECTED)
        diverged = WriteOnceParquet(workdir.dead_letters, DIVERGED)
        assert [predicted.has(query, batch) for batch in (0, 1, 2, 1000)] == [
            True,
            True,
            False,
            True,
        ]
        assert [rejected.has(query, batch) for batch in (0, 1, 2, 1000)] == [
            False,
            True,
            False,
            True,
        ]
        assert [diverged.has(query, batch) for batch in (0, 1, 2, 1000)] == [
            False,
            True,
            True,
            False,
        ]


def test_the_batches_of_format_2_are_brought_to_their_thousands(tmp_path):
    before = read(in_format_2(tmp_path / "w"))
    open_workdir(tmp_path / "w")
    assert_brought(tmp_path / "w", before)
    assert not is_unfinished(tmp_path / "w")
    open_workdir(tmp_path / "w")
    assert_brought(tmp_path / "w", before)


def test_dying_at_any_step_of_that_leaves_the_rest_to_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    before = read(in_format_2(tmp_path / "kept", ("q",)))
    for dies in every_death():
        shutil.copytree(tmp_path / "kept", tmp_path / "w")
        dies(lambda: open_workdir(tmp_path / "w"))
        open_workdir(tmp_path / "w")
        assert_brought(tmp_path / "w", before)
        shutil.rmtree(tmp_path / "w")


def test_an_older_release_refuses_what_is_on_its_way(tmp_path, monkeypatch):
    in_format_2(tmp_path)
    monkeypatch.setattr("app.files.workdir.bring_from_directories", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_workdir(tmp_path)
    assert json.loads((tmp_path / "format.json").read_text())["format"] == FORMAT
    assert is_unfinished(tmp_path)


def test_a_run_of_an_older_release_is_not_disturbed(tmp_path):
    in_format_2(tmp_path)
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(WorkdirInUseError, match="another run is using"):
            open_workdir(tmp_path)
    assert check_format(tmp_path) == 2
    open_workdir(tmp_path)
    assert check_format(tmp_path) == FORMAT


def test_a_file_of_another_is_left_where_it_is(tmp_path):
    before = read(in_format_2(tmp_path))
    note = tmp_path / "predictions/query=q/batch=00000001/_SUCCESS"
    note.write_text("mine")
    open_workdir(tmp_path)
    assert note.read_text() == "mine"
    pd.testing.assert_frame_equal(read(tmp_path)[1], before[1], check_like=True)
