"""Epochs as files: each is given out once, and the directory stays small."""

from __future__ import annotations

import pytest

from app.errors import RegistryError
from app.registry.epochs import Epochs
from tests.unit.registry.test_version_log_races import run_together


@pytest.fixture
def epochs(tmp_path) -> Epochs:
    return Epochs(tmp_path)


def files(tmp_path, query: str = "q") -> list[str]:
    return sorted(path.name for path in tmp_path.glob(f"epochs/{query}/*"))


def test_epochs_of_a_query_grow_by_one(tmp_path, epochs):
    assert epochs.last("q") == 0
    assert [Epochs(tmp_path).claim("q", 0) for _ in range(31)] == list(range(1, 32))
    assert epochs.last("q") == 31


def test_files_do_not_grow_with_restarts(tmp_path, epochs):
    for _ in range(50):
        epochs.claim("q", 1)

    assert files(tmp_path) == [f"{epoch:06d}" for epoch in range(41, 51)]


def test_queries_have_epochs_of_their_own(epochs):
    epochs.claim("q", 5)

    assert epochs.claim("other", 1) == 1
    assert (epochs.last("q"), epochs.last("other")) == (5, 1)


def test_epoch_is_at_least_what_is_asked_and_always_a_new_one(epochs):
    claimed = [epochs.claim("q", at_least) for at_least in (7, 7, 3, 9, 1_000_000, 1)]

    assert claimed == [7, 8, 9, 10, 1_000_000, 1_000_001]


def test_what_a_killed_claim_left_is_no_epoch(tmp_path, epochs):
    epochs.claim("q", 2)
    (tmp_path / "epochs" / "q" / ".000009.0badcafe.tmp").touch()

    assert epochs.last("q") == 2


@pytest.mark.timeout(30)
def test_epoch_that_is_larger_than_any_is_no_epoch(tmp_path, epochs):
    epochs.claim("q", 2)
    # As a release before made of what it found in Redis.
    (tmp_path / "epochs" / "q" / "99999999999999999999").touch()

    assert epochs.last("q") == 2
    assert epochs.claim("q", 1) == 3


@pytest.mark.timeout(30)
def test_end_of_all_epochs_is_reported(tmp_path, epochs):
    (tmp_path / "epochs" / "q").mkdir(parents=True)
    (tmp_path / "epochs" / "q" / "9999999999999999999"[:18]).touch()

    with pytest.raises(RegistryError, match="remove that file"):
        epochs.claim("q", 1)


def test_epoch_whose_file_was_removed_is_not_given_again(tmp_path, epochs, monkeypatch):
    for _ in range(30):
        epochs.claim("q", 1)
    last, seen = Epochs.last, [3]
    # Who has looked long ago, and has not created yet.
    monkeypatch.setattr(
        Epochs, "last", lambda self, query: seen.pop() if seen else last(self, query)
    )

    assert epochs.claim("q", 1) == 31


def test_threads_that_race_for_an_epoch_get_different_ones(tmp_path):
    learners = [Epochs(tmp_path) for _ in range(8)]
    claimed: list[int] = []
    for _ in range(10):
        claimed += run_together([lambda each=each: each.claim("q", 1) for each in learners])

    assert len(set(claimed)) == 80
    assert learners[0].last("q") == max(claimed)
