"""What the disk refuses is one error that names the file, and nothing is half written."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import DamagedFileError, StorageError
from app.files.database import Database

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x TEXT);"


@contextlib.contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what the largest one there has."""
    largest = max(path.stat().st_size for path in directory.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A write beyond the limit is then an error, as on a full disk, and no signal.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("write_ahead", [False, True])
def test_a_full_disk_is_a_storage_error_and_undoes_the_transaction(tmp_path, write_ahead):
    database = Database(tmp_path / "d" / "x.sqlite", SCHEMA, write_ahead=write_ahead)
    with database.transaction():
        database.connection.execute("INSERT INTO t VALUES ('kept')")
    with full_disk(tmp_path / "d"), pytest.raises(StorageError, match="x.sqlite cannot be written"):
        with database.transaction():
            for _ in range(1000):
                database.connection.execute("INSERT INTO t VALUES (?)", ("x" * 4000,))
    with database.reading():
        assert database.connection.execute("SELECT x FROM t").fetchall() == [("kept",)]
    database.close()


def test_an_error_of_the_caller_passes_through_and_undoes_the_transaction(tmp_path):
    database = Database(tmp_path / "x.sqlite", SCHEMA)
    with pytest.raises(ZeroDivisionError), database.transaction():
        database.connection.execute("INSERT INTO t VALUES ('lost')")
        _ = 1 / 0
    with database.reading():
        assert database.connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    database.close()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(os.urandom(4096))
    with pytest.raises(DamagedFileError, match="x.sqlite is damaged: file is not a database"):
        Database(tmp_path / "x.sqlite", SCHEMA)


def test_what_cannot_be_read_is_named(tmp_path):
    database = Database(tmp_path / "x.sqlite", SCHEMA)
    with pytest.raises(StorageError, match="x.sqlite cannot be read"), database.reading():
        database.connection.execute("SELECT * FROM missing")
    database.close()


def test_a_file_that_must_exist_is_not_made(tmp_path):
    with pytest.raises(StorageError, match="x.sqlite cannot be used: unable to open"):
        with Database.existing(tmp_path / "d" / "x.sqlite"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_found_whatever_its_name(tmp_path):
    path = tmp_path / "a?mode=ro%20#b c.sqlite"
    Database(path, SCHEMA).close()
    with Database.existing(path) as database, database.reading():
        assert database.has_table("t")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "x.sqlite"
    database = Database(path, SCHEMA)
    with database.transaction():
        for _ in range(100):
            database.connection.execute("INSERT INTO t VALUES (?)", ("x" * 4000,))
    database.close()
    return path


def test_a_file_that_lost_its_end_is_damaged(filled):
    os.truncate(filled, filled.stat().st_size // 2)
    with pytest.raises(DamagedFileError, match="x.sqlite is damaged"):
        Database(filled, SCHEMA)


@pytest.mark.parametrize("verb", ["reading", "transaction"])
def test_a_page_that_is_none_is_damage(verb, filled):
    content = bytearray(filled.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    filled.write_bytes(content)
    database = Database(filled, SCHEMA)
    with pytest.raises(DamagedFileError, match="x.sqlite is damaged"), getattr(database, verb)():
        database.connection.execute("SELECT sum(length(x)) FROM t").fetchall()
    database.close()
