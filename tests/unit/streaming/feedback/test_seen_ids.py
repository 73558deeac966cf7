"""An event id is accepted once in a query, and a batch tried again decides as at first."""

from __future__ import annotations

import pytest

from app.streaming.feedback.seen_ids import SeenIds


@pytest.fixture
def path(tmp_path):
    return tmp_path / "seen_ids.sqlite"


@pytest.fixture
def seen(path):
    ids = SeenIds(path, "query")
    yield ids
    ids.close()


def test_the_first_of_equal_ids_in_a_batch_wins(seen):
    assert seen.accept(["a", "b", "a", "c", "b", "a"], 0) == [2, 4, 5]


def test_an_id_of_an_earlier_batch_is_a_duplicate(seen):
    seen.accept(["a", "b"], 0)
    assert seen.accept(["c", "b", "a"], 1) == [1, 2]
    assert seen.accept(["c", "d"], 2) == [0]


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_batch_tried_again_decides_as_at_first(seen, tries):
    seen.accept(["old"], 3)
    batch = ["a", "old", "a", "b"]
    assert [seen.accept(batch, 4) for _ in range(tries)] == [[1, 2]] * tries


def test_a_duplicate_stays_with_the_batch_that_brought_it_first(seen):
    seen.accept(["a"], 0)
    seen.accept(["a"], 1)
    assert seen.accept(["a"], 0) == []
    assert seen.accept(["a"], 1) == [0]


def test_ids_survive_reopening(path):
    first = SeenIds(path, "query")
    first.accept(["a", "b"], 0)
    first.close()
    again = SeenIds(path, "query")
    assert again.accept(["a", "b"], 0) == []
    assert again.accept(["b", "c"], 1) == [0]
    again.close()


def test_a_batch_cut_short_is_forgotten_whole(path):
    first = SeenIds(path, "query")
    with pytest.raises(RuntimeError):
        first.accept(_broken(["a", "b"]), 0)
    first.close()
    again = SeenIds(path, "query")
    assert again.accept(["a", "b"], 1) == []
    again.close()


def test_queries_do_not_share_ids(seen, path):
    seen.accept(["a"], 0)
    other = SeenIds(path, "other query")
    assert other.accept(["a"], 5) == []
    other.close()
    assert seen.accept(["a"], 1) == [0]


def test_ids_differ_by_case_and_by_space(seen):
    assert seen.accept(["a", "A", " a", "é", "1", "1.0"], 0) == []


def test_no_ids_have_no_duplicates(seen):
    assert seen.accept([], 0) == []


def _broken(ids):
    yield from ids
    raise RuntimeError
