"""The file of a ledger: its tables, and how one of an older release is brought to them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from app.errors import NewerFormatError
from app.files.database import Database
from app.streaming.feedback import feature_blocks
from app.streaming.feedback.decision import Decision
from app.streaming.feedback.join_window import JoinWindow

SCHEMA = 3
"""Number of the tables below.

Schema 1 had no number, and kept features by id in ``features``; schema 2 kept those of every event
in ``waiting``.
"""

_TABLES = f"""
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER);
    CREATE TABLE IF NOT EXISTS decisions (batch INTEGER PRIMARY KEY, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS events (
        id TEXT PRIMARY KEY, time INTEGER NOT NULL, sequence INTEGER NOT NULL,
        late INTEGER NOT NULL, served INTEGER, batch INTEGER, place INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS events_by_time ON events (time);
    CREATE TABLE IF NOT EXISTS waiting (
        id TEXT NOT NULL, sequence INTEGER NOT NULL, time INTEGER NOT NULL,
        float32 BLOB NOT NULL, learned INTEGER, PRIMARY KEY (id, sequence)
    );
    CREATE INDEX IF NOT EXISTS waiting_by_time ON waiting (time) WHERE learned IS NULL;
    CREATE INDEX IF NOT EXISTS waiting_by_batch ON waiting (learned) WHERE learned IS NOT NULL;
    CREATE TABLE IF NOT EXISTS labels (
        id TEXT PRIMARY KEY, time INTEGER NOT NULL, sequence INTEGER NOT NULL,
        label INTEGER NOT NULL, row TEXT
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS labels_by_time ON labels (time);
    CREATE INDEX IF NOT EXISTS labels_pending ON labels (time) WHERE row IS NOT NULL;
    {feature_blocks.TABLE}
"""
# events.late is null or 0 of an event that came in time, and else says by which setting it did not.
# events.batch is the batch that brought it, and place that of its features there, null where
# blocks have none.
# waiting.learned is the batch that learns the features, null while those that schema 2 has left
# wait for a label.

_CACHE_KIB = 32 * 1024


def open_ledger(path: Path, window: JoinWindow) -> Database:
    """Open a ledger, made when missing, and bring an older one to the present schema.

    Raises
    ------
    StorageError, DamagedFileError
        When the file cannot be used.
    NewerFormatError
    """
    if path.exists():
        # Before a table is made in it.
        position_of(path)
    database = Database(path, _TABLES, write_ahead=True, cache_kib=_CACHE_KIB)
    try:
        with database.transaction():
            _migrate(database, window)
    except BaseException:
        database.close()
        raise
    return database


def position_of(path: Path) -> int | None:
    """Return the last batch that was entered into a ledger, None when none was.

    Parameters
    ----------
    path
        A file that is there. It is not changed.

    Raises
    ------
    StorageError, DamagedFileError
        When it cannot be read.
    NewerFormatError
    """
    with Database.existing(path) as database, database.reading():
        if not database.has_table("meta"):
            return None
        found = read_meta(database.connection, "schema") or 1
        if found > SCHEMA:
            raise NewerFormatError(str(path), found, SCHEMA)
        return read_meta(database.connection, "batch")


def read_meta(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def write_meta(connection: sqlite3.Connection, name: str, value: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _migrate(database: Database, window: JoinWindow) -> None:
    connection = database.connection
    found = read_meta(connection, "schema") or 1
    if found == SCHEMA:
        return
    if not _has_column(connection, "events", "place"):
        connection.execute("ALTER TABLE events ADD COLUMN batch INTEGER")
        connection.execute("ALTER TABLE events ADD COLUMN place INTEGER")
    if found == 1:
        _migrate_first(database, window)
    write_meta(connection, "schema", SCHEMA)


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    found = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
    return (column,) in found.fetchall()


def _migrate_first(database: Database, window: JoinWindow) -> None:
    """Bring what schema 1 has left to schema 2."""
    connection = database.connection
    decisions = {
        batch: Decision.from_json(body)
        for batch, body in connection.execute("SELECT batch, body FROM decisions")
    }
    newest = (read_meta(connection, f"newest_{kind}") for kind in ("event", "label"))
    reached = [window.watermark(*newest), *(each.watermark for each in decisions.values())]
    if known := [watermark for watermark in reached if watermark is not None]:
        write_meta(connection, "watermark", max(known))
    if database.has_table("features"):
        connection.execute(
            "INSERT OR REPLACE INTO waiting SELECT id, sequence, features.time, float32, NULL "
            "FROM features JOIN events USING (id)"
        )
        connection.execute("DROP TABLE features")
    connection.executemany(
        "UPDATE waiting SET learned = ? WHERE id = ? AND sequence = ?",
        [(batch, *match.key) for batch, each in decisions.items() for match in each.matches],
    )
