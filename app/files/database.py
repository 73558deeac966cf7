"""SQLite files, with what the disk refuses raised as :class:`StorageError`."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from app.errors import DamagedFileError, HedgestreamError, StorageError

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY_CODE = 0xFF


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
    must_exist
        Whether a file that is missing is an error, and not made.

    Attributes
    ----------
    connection
        For use within :meth:`transaction` or :meth:`reading`.

    Raises
    ------
    StorageError
        When the file cannot be used.
    DamagedFileError
        From every method, when the file is no database, or not a whole one.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        *,
        write_ahead: bool = False,
        cache_kib: int = 2000,
        must_exist: bool = False,
    ) -> None:
        self._path = path
        connection = None
        try:
            if not must_exist:
                path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'rw' if must_exist else 'rwc'}",
                uri=True,
                check_same_thread=False,
                isolation_level=None,
            )
            if write_ahead:
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = -{cache_kib}")
            connection.executescript(schema)
        except (OSError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            raise self._failure("used", error) from error
        self.connection = connection

    @classmethod
    @contextlib.contextmanager
    def existing(cls, path: Path) -> Iterator[Database]:
        """Open a file that is there as it is, for as long as the block lasts."""
        database = cls(path, "", must_exist=True)
        try:
            yield database
        finally:
            database.close()

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
                # Of two errors the first says more; what is not committed is undone at the latest
                # when the file is opened again.
                with contextlib.suppress(sqlite3.Error):
                    self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failure("written", error) from error
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
            raise self._failure("read", error) from error

    def has_table(self, name: str) -> bool:
        found = self.connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)
        )
        return found.fetchone() is not None

    def close(self) -> None:
        self.connection.close()

    def _failure(self, verb: str, error: Exception) -> HedgestreamError:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & _PRIMARY_CODE in _DAMAGE:
            return DamagedFileError(self._path, str(error))
        return StorageError(f"{self._path} cannot be {verb}: {error}")
