"""Features of many events that wait for a label, kept in blocks.

A row of a table for each event would cost more than to score it. An event is known by the batch
that brought it and by its place in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

TABLE = """
    CREATE TABLE IF NOT EXISTS blocks (
        batch INTEGER NOT NULL, first INTEGER NOT NULL, newest INTEGER NOT NULL,
        n_rows INTEGER NOT NULL, rows BLOB NOT NULL, PRIMARY KEY (batch, first)
    );
    CREATE INDEX IF NOT EXISTS blocks_by_time ON blocks (newest);
"""
# blocks.first is the place of a block's first row, and newest the time of its last.

# A label makes a whole block be read.
_BLOCK_BYTES = 64 * 1024


class Place(NamedTuple):
    """Where the features of an event are: in which batch, and the how manieth there."""

    batch: int
    place: int


class FeatureBlocks:
    """The blocks of one ledger, within transactions of the caller's.

    Parameters
    ----------
    connection
        To a database with :data:`TABLE`.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def add(self, batch: int, times: Sequence[int], rows: Sequence[bytes]) -> None:
        """Keep the features of a batch's events, whose places are those in the sequences.

        Parameters
        ----------
        batch
            One that has none here.
        times
            Of the events, in ascending order.
        rows
            Features of each, all of one length.
        """
        size = max(1, _BLOCK_BYTES // max(1, len(rows[0]))) if rows else 1
        blocks = []
        for first in range(0, len(rows), size):
            block = rows[first : first + size]
            newest = times[first + len(block) - 1]
            blocks.append((batch, first, newest, len(block), b"".join(block)))
        self._db.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", blocks)

    def read(self, places: Sequence[Place]) -> dict[Place, bytes]:
        """Return the features at some places, those that are kept."""
        found: dict[Place, bytes] = {}
        batch, first, n_rows, block = -1, 0, 0, b""
        for place in sorted(set(places)):
            if place.batch != batch or place.place >= first + n_rows:
                row = self._db.execute(
                    "SELECT first, n_rows, rows FROM blocks WHERE batch = ? AND first <= ? "
                    "ORDER BY first DESC LIMIT 1",
                    place,
                ).fetchone()
                batch = place.batch
                first, n_rows, block = (0, 0, b"") if row is None else row
            if place.place < first + n_rows:
                width = len(block) // n_rows
                start = (place.place - first) * width
                found[place] = block[start : start + width]
        return found

    def drop_before(self, time: int) -> None:
        """Drop the blocks whose events are all of before a time, in microseconds since 1970."""
        self._db.execute("DELETE FROM blocks WHERE newest < ?", (time,))
