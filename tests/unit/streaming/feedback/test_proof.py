"""A file beside a checkpoint that is not the checkpoint's own does not pass for a fresh start."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from app.errors import DamagedFileError, StorageError, UserError
from app.streaming.feedback.proof import check_ledger, check_no_seen_ids, check_seen_ids
from app.streaming.feedback.seen_ids import SeenIds
from tests.unit.streaming.feedback.entries import RULES, Ledger, event


def ledger(path: Path, last: int) -> None:
    ledger = Ledger(path, RULES)
    for batch in range(last + 1):
        ledger.enter(batch, [event(f"e{batch}", batch)], [])
    assert ledger.position() == (last if last >= 0 else None)
    ledger.close()


def seen_ids(path: Path, last: int) -> None:
    seen = SeenIds(path, "query")
    for batch in range(last + 1):
        seen.accept([f"e{batch}"], batch)
    seen.close()


def check_seen(path: Path, committed: int | None, planned: int | None) -> None:
    check_seen_ids(path, "query", committed, planned)


FILES = pytest.mark.parametrize(
    ("write", "check"), [(ledger, check_ledger), (seen_ids, check_seen)], ids=["ledger", "ids"]
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "side.sqlite"


@FILES
@pytest.mark.parametrize(
    ("last", "committed", "planned"), [(4, 4, 4), (4, 3, 4), (3, 3, 4), (0, None, 0)]
)
def test_a_file_of_the_checkpoints_position_passes(write, check, last, committed, planned, path):
    write(path, last)
    check(path, committed, planned)


@FILES
def test_a_file_may_be_missing_before_a_batch_is_committed(write, check, path):
    check(path, None, 0)
    assert not path.exists()


@FILES
def test_a_file_behind_the_checkpoint_is_refused(write, check, path):
    write(path, 4)
    with pytest.raises(UserError, match="side.sqlite belongs to batch 4, but .* committed batch 9"):
        check(path, 9, 9)


@FILES
@pytest.mark.parametrize("planned", [3, None])
def test_a_file_ahead_of_the_checkpoint_is_refused(write, check, planned, path):
    write(path, 4)
    with pytest.raises(UserError, match="belongs to batch 4, .* planned none.*: it is an older"):
        check(path, planned, planned)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def without_rows(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        connection.execute(f"DELETE FROM {table}")
    connection.close()


@FILES
@pytest.mark.parametrize("damage", [Path.unlink, emptied, without_rows])
def test_a_file_that_was_removed_or_emptied_is_refused(write, check, damage, path):
    write(path, 4)
    damage(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(UserError, match="side.sqlite does not say .* committed batch 4: restore"):
        check(path, 4, 4)
    assert (path.read_bytes() if path.exists() else None) == before


@FILES
@pytest.mark.parametrize("content", [b"no database" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_damaged(write, check, content, path):
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="side.sqlite is damaged"):
        check(path, 4, 4)
    assert path.read_bytes() == content


@FILES
def test_a_file_that_is_cut_short_is_damaged(write, check, path):
    write(path, 400)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DamagedFileError, match="side.sqlite is damaged"):
        check(path, 400, 400)


@FILES
def test_a_place_that_cannot_be_opened_says_so(write, check, path):
    path.mkdir()
    with pytest.raises(StorageError, match="side.sqlite cannot be used"):
        check(path, 4, 4)


OLD_SEEN_IDS = """
    CREATE TABLE seen (
        query TEXT, id TEXT, batch INTEGER NOT NULL, PRIMARY KEY (query, id)
    ) WITHOUT ROWID;
    INSERT INTO seen VALUES ('query', 'e0', 0);
"""


@pytest.fixture
def old(path: Path) -> Path:
    """Seen ids of a release that did not write down how far it got."""
    connection = sqlite3.connect(path)
    connection.executescript(OLD_SEEN_IDS)
    connection.close()
    return path


def test_ids_of_an_older_release_are_taken_on_trust(old):
    check_seen(old, 9, 9)
    seen = SeenIds(old, "query")
    assert seen.accept(["e0", "e1"], 10) == [0]
    seen.close()
    check_seen(old, 10, 10)
    with pytest.raises(UserError, match="belongs to batch 10"):
        check_seen(old, 11, 11)


def test_ids_of_another_query_prove_nothing(old):
    with pytest.raises(UserError, match="does not say which ids were taken"):
        check_seen_ids(old, "another", 9, 9)


def test_a_query_that_has_taken_ids_does_not_go_on_without(old):
    with pytest.raises(UserError, match="--id is not given, but .* begun with one"):
        check_no_seen_ids(old, "query")


def test_a_query_that_has_never_taken_ids_goes_on_without(old, tmp_path):
    check_no_seen_ids(old, "another")
    check_no_seen_ids(tmp_path / "missing.sqlite", "query")
    assert not (tmp_path / "missing.sqlite").exists()


def test_a_batch_without_good_rows_counts(path):
    seen_ids(path, 0)
    seen = SeenIds(path, "query")
    seen.accept([], 1)
    seen.close()
    check_seen(path, 1, 1)
