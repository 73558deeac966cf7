"""Small files are merged, and a reader sees every row once at any time."""

from __future__ import annotations

import os
import shutil

import pandas as pd
import pyarrow as pa
import pytest

from app.files.batches import merging
from app.files.batches.dataset import DIVERGED, REJECTED
from app.files.batches.merging import merge_closed
from tests.unit.deaths import every_death
from tests.unit.files.batches.datasets import files, fill, rows, seen


@pytest.fixture
def root(tmp_path, monkeypatch):
    # The order of steps is tried here, and not the disk.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return tmp_path / "predictions"


def test_closed_thousands_are_merged_and_the_newest_is_not(root):
    fill(root, [0, 1, 2, 1000, 1001, 2000, 2001])
    fill(root, [0, 1], "p")
    before = seen(root)
    done = merge_closed(root)
    assert (done.files, done.into, done.problems) == (5, 2, [])
    assert files(root) == [
        "query=p/batches=00000000/00000000.parquet",
        "query=p/batches=00000000/00000001.parquet",
        "query=q/batches=00000000/merged.parquet",
        "query=q/batches=00001000/merged.parquet",
        "query=q/batches=00002000/00002000.parquet",
        "query=q/batches=00002000/00002001.parquet",
    ]
    pd.testing.assert_frame_equal(seen(root), before)
    assert merge_closed(root).files == 0


def test_spark_would_pass_over_what_is_hidden(root):
    """Names that begin with a dot are passed over by Spark as by pandas."""
    fill(root, [0, 1, 1000])
    before = seen(root)
    hidden = root / "query=q" / ".batches=00000000.merging"
    shutil.copytree(root / "query=q" / "batches=00000000", hidden)
    pd.testing.assert_frame_equal(seen(root), before)


def test_kinds_keep_files_of_their_own(root):
    rejected = fill(root, [0, 1, 1000], kind=REJECTED)
    diverged = fill(root, [1], kind=DIVERGED)
    merge_closed(root)
    assert files(root)[:2] == [
        f"query=q/batches=00000000/merged-{kind}.parquet" for kind in (DIVERGED, REJECTED)
    ]
    assert [rejected.has("q", batch) for batch in (0, 1, 2)] == [True, True, False]
    assert [diverged.has("q", batch) for batch in (0, 1, 2)] == [False, True, False]


def test_a_merged_file_is_as_old_as_its_youngest_source(root):
    dataset = fill(root, [0, 1, 1000])
    for batch, time in ((0, 2000), (1, 1000)):
        os.utime(dataset.path("q", batch), (time, time))
    merge_closed(root)
    assert dataset.path("q", 0).with_name("merged.parquet").stat().st_mtime == 2000


def test_what_is_written_late_is_merged_the_next_time(root):
    fill(root, [0, 1, 1000])
    merge_closed(root)
    fill(root, [5, 6])
    before = seen(root)
    assert merge_closed(root).files == 2
    pd.testing.assert_frame_equal(seen(root), before)
    assert len(files(root)) == 2


def test_what_is_written_while_it_is_merged_is_not_lost(root, monkeypatch):
    dataset = fill(root, [0, 1, 1000])
    exchange = merging.exchange

    def writing(hidden, directory):
        dataset.write(rows(7), "q", 7)
        (directory / "_SUCCESS").write_text("mine")
        return exchange(hidden, directory)

    monkeypatch.setattr(merging, "exchange", writing)
    merge_closed(root)
    assert sorted(set(seen(root)["batch_id"])) == [0, 1, 7, 1000]
    assert (root / "query=q/batches=00000000/_SUCCESS").read_text() == "mine"


def test_dying_at_any_step_leaves_every_row_once(root):
    for dies in every_death():
        fill(root, [0, 1, 1000, 1001, 2000])
        fill(root, [1], kind=REJECTED)
        expected = seen(root)
        dies(lambda: merge_closed(root))
        pd.testing.assert_frame_equal(seen(root), expected)
        merge_closed(root)
        pd.testing.assert_frame_equal(seen(root), expected)
        assert not list(root.rglob(".*"))
        assert len(files(root)) == 4
        shutil.rmtree(root)


def test_dying_at_any_step_of_a_second_merge_leaves_every_row_once(root, tmp_path):
    fill(root, [0, 1, 1000])
    merge_closed(root)
    fill(root, [2, 3])
    expected = seen(root)
    shutil.move(root, tmp_path / "kept")
    for dies in every_death():
        shutil.copytree(tmp_path / "kept", root)
        dies(lambda: merge_closed(root))
        pd.testing.assert_frame_equal(seen(root), expected)
        merge_closed(root)
        pd.testing.assert_frame_equal(seen(root), expected)
        assert len(files(root)) == 2
        shutil.rmtree(root)


def test_a_filesystem_that_cannot_exchange_is_told_and_left_alone(root, monkeypatch):
    fill(root, [0, 1, 1000])
    before = files(root)
    monkeypatch.setattr("app.files.atomic._renameat2", lambda *_: 22)
    done = merge_closed(root)
    assert files(root) == before
    (problem,) = done.problems
    assert problem.endswith("this filesystem cannot exchange two directories in one step")
    assert (done.files, done.into) == (0, 0)


@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_damaged_file_is_told_and_others_are_merged(root, kept):
    dataset = fill(root, [0, 1, 1000, 1001, 2000])
    path = dataset.path("q", 1)
    path.write_bytes(path.read_bytes()[:kept])
    done = merge_closed(root)
    (problem,) = done.problems
    assert f"{path} cannot be merged" in problem and "\n" not in problem
    assert len(files(root)) == 4
    assert not list(root.rglob(".*"))


def test_files_of_unlike_columns_are_left_alone(root):
    dataset = fill(root, [0, 1000])
    dataset.write(pa.table({"batch_id": [1], "other": ["x"]}), "q", 1)
    done = merge_closed(root)
    (problem,) = done.problems
    assert "its columns are batch_id, other" in problem
    assert len(files(root)) == 3
