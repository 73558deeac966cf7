"""Finders of the files of an input: named ones, those of a directory, those of a Delta table."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import DataLossError, UserError
from app.files.delta_log import (
    newest_version,
    not_plain,
    open_table,
    read_commit,
    snapshot_files,
)
from app.files.manifest import State
from app.files.paths import natural_order

if TYPE_CHECKING:
    from deltalake import DeltaTable


class NamedFinder:
    """Files that were found already, in the order given.

    Parameters
    ----------
    files
        Absolute paths.
    delta_table
        The table whose data files they are, if they are a table's.

    Raises
    ------
    UserError
        From ``find``, when the table was rewritten since its files were listed: its rows
        would come again under other names.
    """

    def __init__(self, files: Sequence[str], delta_table: Path | None = None) -> None:
        self._files = files
        self._table = delta_table

    def find(self, known: Collection[str], state: State) -> tuple[list[str], State]:
        if self._table is not None:
            table = self._table.resolve()
            own = {path for path in known if Path(path).is_relative_to(table)}
            if not own <= set(self._files):
                raise UserError(
                    f"--input: Delta table {self._table} was rewritten since the last run; "
                    "a replay follows tables that are only appended to"
                )
        return [path for path in self._files if path not in known], state


class DirectoryFinder:
    """All files below a directory, those found together in order of their modification, then of
    their names.

    A name that starts with ``.`` or ``_``, of a file or of a directory above it, hides
    a file. Files must appear whole: write one under a hidden name or beside the
    directory, then rename it. A name is read once, whatever is written to it later.
    A directory that is not there yet has no files.

    Parameters
    ----------
    directory
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()

    def find(self, known: Collection[str], state: State) -> tuple[list[str], State]:
        found = []
        for path in self._paths():
            if path in known:
                continue
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                found.append((status.st_mtime_ns, path))
        found.sort(key=lambda each: (each[0], natural_order(each[1])))
        return [path for _, path in found], state

    def _paths(self) -> Iterator[str]:
        for parent, directories, names in os.walk(self._directory, onerror=_refuse):
            directories[:] = [name for name in directories if name[0] not in "._"]
            yield from (os.path.join(parent, name) for name in names if name[0] not in "._")


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise UserError(f"{error.filename} cannot be listed: {error.strerror}")


class DeltaFinder:
    """The data files of an append-only Delta table in the order of their commits.

    The first look takes the table as it is then, and each later one what was
    committed since. A compaction adds no rows. A table that is not there yet has
    no files.

    Parameters
    ----------
    path

    Raises
    ------
    DataLossError
        From ``find``, when commits were cleaned up before they were read, or the table is
        another one than before.
    UserError
        From ``find``, when a commit removed rows, or the table cannot be read as files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self._id: str | None = None

    def find(self, known: Collection[str], state: State) -> tuple[list[str], State]:
        newest = newest_version(self._path)
        if not state:
            return self._snapshot() if newest is not None else ([], state)
        version: int = state["version"]
        if newest is None or newest < version:
            raise self._replaced(version)
        added: list[str] = []
        while (commit := read_commit(self._path, version + 1)) is not None:
            version += 1
            if not commit.is_plain:
                raise UserError(f"version {version}: {not_plain(self._path)}")
            if commit.removes_rows:
                raise UserError(
                    f"version {version} of Delta table {self._path} removed or changed rows, and "
                    "a stream follows tables that are only appended to. Start a new checkpoint, "
                    "which reads the table as it is, or stream from a table without deletes"
                )
            added += commit.added
        # The log was listed before: a version below its newest had been committed.
        if newest > version:
            raise DataLossError(
                f"versions {version + 1} to {self._oldest_after(version, newest) - 1} of Delta "
                f"table {self._path} were cleaned up before they were read. Keep its log for "
                "longer than the stream stands still (delta.logRetentionDuration), and start a "
                "new checkpoint"
            )
        # Opening a table is not for every look: one that is replaced later starts at 0 again.
        self._id = self._id or _table_id(open_table(self._path, "source"))
        if self._id != state["table"]:
            raise self._replaced(state["version"])
        files = [path for path in map(self._absolute, added) if path not in known]
        return files, state | {"version": version}

    def _snapshot(self) -> tuple[list[str], State]:
        table = open_table(self._path, "source")
        self._id = _table_id(table)
        files = [self._absolute(name) for name in snapshot_files(table, self._path)]
        return files, {"version": table.version(), "table": self._id}

    def _replaced(self, version: int) -> DataLossError:
        return DataLossError(
            f"{self._path} is not the Delta table that was read up to version {version}: it was "
            "removed or replaced. Restore it, or start a new checkpoint"
        )

    def _oldest_after(self, version: int, newest: int) -> int:
        there = (v for v in range(version + 1, newest) if read_commit(self._path, v))
        return next(there, newest)

    def _absolute(self, name: str) -> str:
        return str(self._path / name)


def _table_id(table: DeltaTable) -> str:
    # A string, though deltalake's annotation says int.
    return str(table.metadata().id)
