"""Each batch is written once, and found again in its own file or in one of many."""

from __future__ import annotations

import pytest

from app.errors import DamagedFileError
from app.files.batches.dataset import DIVERGED, PREDICTED, REJECTED, WriteOnceParquet
from app.files.batches.merging import merge_closed
from tests.unit.files.batches.datasets import files, fill, rows, seen


@pytest.fixture
def root(tmp_path):
    return tmp_path / "predictions"


def test_a_thousand_batches_share_a_directory(root):
    fill(root, [0, 999, 1000, 123_456_789])
    fill(root, [999], "p", REJECTED)
    assert files(root) == [
        "query=p/batches=00000000/00000999-rejected.parquet",
        "query=q/batches=00000000/00000000.parquet",
        "query=q/batches=00000000/00000999.parquet",
        "query=q/batches=00001000/00001000.parquet",
        "query=q/batches=123456000/123456789.parquet",
    ]


def test_what_was_written_stays(root):
    dataset = fill(root, [3])
    dataset.write(rows(3, n=9), "q", 3)
    assert dataset.read("q", 3, ["event_id"])["event_id"].to_pylist() == ["3-0", "3-1"]


def test_kinds_and_queries_are_apart(root):
    fill(root, [1], kind=REJECTED)
    for kind, query, batch in ((REJECTED, "q", 1), (DIVERGED, "q", 1), (REJECTED, "p", 1)):
        found = WriteOnceParquet(root, kind).has(query, batch)
        assert found == ((kind, query) == (REJECTED, "q"))


@pytest.mark.parametrize("is_merged", [False, True])
def test_a_batch_is_found_whichever_file_it_is_in(root, monkeypatch, is_merged):
    monkeypatch.setattr("app.files.batches.merging.ROWS_PER_GROUP", 5)
    dataset = fill(root, [*range(0, 40, 3), 1000])
    if is_merged:
        assert merge_closed(root).files == 14
    for batch in range(40):
        assert dataset.has("q", batch) == (batch % 3 == 0)
        table = dataset.read("q", batch, ["event_id", "batch_id"])
        assert table is None if batch % 3 else table.equals(rows(batch).select(table.column_names))


def test_a_merged_batch_is_not_written_again_and_another_is(root):
    dataset = fill(root, [1, 2, 1000])
    merge_closed(root)
    dataset.write(rows(2, n=9), "q", 2)
    dataset.write(rows(3), "q", 3)
    assert seen(root)["batch_id"].tolist() == [1, 1, 2, 2, 3, 3, 1000, 1000]


@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_damaged_file_is_named(root, kept):
    dataset = fill(root, [1, 2, 1000])
    merge_closed(root)
    merged = dataset.path("q", 2).with_name("merged.parquet")
    for batch, path in ((2, merged), (1000, dataset.path("q", 1000))):
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(DamagedFileError, match=f"{path} is damaged"):
            dataset.read("q", batch, ["event_id"])


def test_one_kind_is_the_kind_of_predictions(root):
    assert fill(root, [7]).path("q", 7) == WriteOnceParquet(root, PREDICTED).path("q", 7)
