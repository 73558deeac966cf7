"""SQLite files, with what the disk refuses raised as :class:`StorageError`."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from app.errors import StorageError


class Database:
    """One SQLite file, synced at each commit.

    Parameters
    ----------
    path
        Created when missing, with the directories above it.
    schema
        Statements that may be run at each start.
    write_ahead
        Whether changes go to a log first, which is faster and needs a filesystem that shares
        memory between processes: a local one.
    cache_kib
        Pages kept in memory, in KiB.

    Attributes
    ----------
    connection
        For use within :meth:`transaction` or :meth:`reading`.

    Raises
    ------
    StorageError
        When the file cannot be used.
    """

    def __init__(
        self, path: Path, schema: str, *, write_ahead: bool = False, cache_kib: int = 2000
    ) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            if write_ahead:
                self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.execute(f"PRAGMA cache_size = -{cache_kib}")
            self.connection.executescript(schema)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{path} cannot be used: {error}") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Write within one transaction, which is undone when the block is left by an error.

        Raises
        ------
        StorageError
            When the disk refuses. Nothing was written.
        """
        try:
            # As a writer from the start: a reader that becomes one may be refused halfway.
            self.connection.execute("BEGIN IMMEDIATE")
            yield
            self.connection.execute("COMMIT")
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise StorageError(f"{self._path} cannot be written: {error}") from error
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read.

        Raises
        ------
        StorageError
            When the file cannot be read.
        """
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"{self._path} cannot be read: {error}") from error

    def close(self) -> None:
        self.connection.close()
