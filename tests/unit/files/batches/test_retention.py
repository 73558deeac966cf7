"""Old files go by their age, the newest batches' never; and one process at a time sees to that."""

from __future__ import annotations

import os

import pytest

from app.files.batches import retention
from app.files.batches.merging import merge_closed
from app.files.batches.retention import remove_older, sole_upkeep
from tests.unit.files.batches.datasets import fill, seen

DAY = 86_400
NOW = 1000 * DAY


@pytest.fixture(autouse=True)
def few_kept(monkeypatch):
    monkeypatch.setattr(retention, "NEVER_REMOVED", 2)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "predictions"


def fill_daily(root, batches, query="q") -> None:
    """Write batches of which each is a day younger than the one before, the last of this moment."""
    dataset = fill(root, batches, query)
    for age, batch in enumerate(reversed(batches)):
        os.utime(dataset.path(query, batch), (NOW - age * DAY,) * 2)


def left(root) -> list[int]:
    return sorted(set(seen(root)["batch_id"]))


def test_files_older_than_so_many_days_are_removed(root):
    batches = [*range(995, 1005)]
    fill_daily(root, batches)
    assert remove_older(root, 7.5, NOW) == 2
    assert left(root) == batches[2:]
    assert remove_older(root, 4.5, NOW) == 3
    assert left(root) == batches[5:]
    assert [path.name for path in (root / "query=q").iterdir()] == ["batches=00001000"]


def test_the_newest_batches_of_each_query_are_never_removed(root):
    fill_daily(root, [*range(10)])
    fill_daily(root, [3, 4], "p")
    remove_older(root, 0.001, NOW + 100 * DAY)
    assert left(root) == [3, 4, 8, 9]


def test_merged_files_go_as_a_whole(root):
    fill_daily(root, [0, 1, 2, 1000, 1001, 1002])
    merge_closed(root)
    assert remove_older(root, 4.5, NOW) == 0
    assert remove_older(root, 2.9, NOW) == 1
    assert left(root) == [1000, 1001, 1002]


def test_nothing_is_listed_beyond_what_is_kept(root, monkeypatch):
    fill_daily(root, [0, 1000, 2000, 3000, 4000])
    looked = []
    original = retention._remove_older
    monkeypatch.setattr(
        retention, "_remove_older", lambda path, *args: looked.append(path) or original(path, *args)
    )
    remove_older(root, 3.5, NOW)
    assert [path.name for path in looked] == ["batches=00000000", "batches=00001000"]


def test_a_dataset_that_is_not_there_has_nothing_to_remove(root):
    assert remove_older(root, 1, NOW) == 0


def test_one_process_at_a_time(tmp_path):
    with sole_upkeep(tmp_path) as first:
        with sole_upkeep(tmp_path) as second:
            assert (first, second) == (True, False)
    with sole_upkeep(tmp_path) as again:
        assert again
