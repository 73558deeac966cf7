"""What the disk refuses is one error that names the file, and nothing is half written."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.errors import StorageError
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
    with pytest.raises(StorageError, match="x.sqlite cannot be used"):
        Database(tmp_path / "x.sqlite", SCHEMA)


def test_what_cannot_be_read_is_named(tmp_path):
    database = Database(tmp_path / "x.sqlite", SCHEMA)
    with pytest.raises(StorageError, match="x.sqlite cannot be read"), database.reading():
        database.connection.execute("SELECT * FROM missing")
    database.close()
