"""Which event ids a query has accepted, kept on disk so that memory stays flat."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from app.files.database import Database

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS seen (
        query TEXT, id TEXT, batch INTEGER NOT NULL, PRIMARY KEY (query, id)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS queries (
        query TEXT PRIMARY KEY, batch INTEGER NOT NULL
    ) WITHOUT ROWID;
"""


class SeenIds:
    """The ids accepted by one query, each with the batch that brought it.

    A batch that is tried again finds its own ids marked with its own number,
    and so decides as it did the first time.

    Parameters
    ----------
    path
        An SQLite file, created when missing.
    query

    Raises
    ------
    StorageError, DamagedFileError
        When the file cannot be used. From every method too.
    """

    def __init__(self, path: Path, query: str) -> None:
        self._database = Database(path, _SCHEMA)
        self._query = query

    def accept(self, ids: Iterable[str], batch: int) -> list[int]:
        """Record the ids of a batch, in order, and return the positions of the duplicates.

        The first of several equal ids is accepted, unless an earlier batch had it.
        """
        duplicates = []
        here: set[str] = set()
        with self._database.transaction():
            for position, event_id in enumerate(ids):
                if event_id in here or self._batch_of(event_id, batch) != batch:
                    duplicates.append(position)
                here.add(event_id)
            self._database.connection.execute(
                "INSERT INTO queries VALUES (?, ?) "
                "ON CONFLICT DO UPDATE SET batch = max(batch, excluded.batch)",
                (self._query, batch),
            )
        return duplicates

    def _batch_of(self, event_id: str, batch: int) -> int:
        """Return the batch that an id belongs to: this one if it is new."""
        (found,) = self._database.connection.execute(
            "INSERT INTO seen VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET batch = batch RETURNING batch",
            (self._query, event_id, batch),
        ).fetchone()
        return int(found)

    def close(self) -> None:
        self._database.close()


class Taken(NamedTuple):
    """What a file knows of a query.

    Attributes
    ----------
    has_ids
        Whether it holds ids of the query.
    batch
        The last batch that was entered, None when none was, or an older release has not
        written it down.
    """

    has_ids: bool = False
    batch: int | None = None


def taken_by(path: Path, query: str) -> Taken:
    """Return what a file knows of a query.

    Parameters
    ----------
    path
        It is neither made nor changed.
    query

    Raises
    ------
    StorageError, DamagedFileError
        When it cannot be read.
    """
    if not path.exists():
        return Taken()
    with Database.existing(path) as database, database.reading():

        def first(table: str, column: str) -> int | None:
            if not database.has_table(table):
                return None
            select = f"SELECT {column} FROM {table} WHERE query = ? LIMIT 1"
            row = database.connection.execute(select, (query,)).fetchone()
            return None if row is None else int(row[0])

        return Taken(first("seen", "1") is not None, first("queries", "batch"))
