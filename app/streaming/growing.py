"""Which files a growing source has, in an order that never changes.

Offsets name a file by its place in a list (:mod:`app.streaming.files`), and a
directory listed again after a crash gives another order. So the order in which
files were first seen is written down, and synced, before a row of them is read.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from app.durable import sync_directory
from app.errors import DataLossError, StorageError, UserError
from app.streaming.delta_log import (
    newest_version,
    not_plain,
    open_table,
    read_commit,
    snapshot_files,
)

State = dict[str, Any]
"""What a finder wants to be told at its next look, as JSON."""


class Finder(Protocol):
    """Looks for the files of a source."""

    def find(self, known: Collection[str], state: State) -> tuple[list[str], State]:
        """Return the files that are not ``known``, in order, and the state of the next look."""


class GrowingList:
    """The files of a stream in the order they are to be read, kept in a file.

    The manifest is JSON lines, ``{"files": [...], "state": {...}}``, one for each
    look that found something. It is only ever appended to. A line is written whole
    or, after a crash, dropped and written again: files that were found together
    are remembered together, with the state that says so.

    It belongs to a checkpoint: with a new checkpoint, start a new manifest.
    Several processes may hold lists of one manifest; all see one order.

    Parameters
    ----------
    manifest : Path
    finder : Finder

    Raises
    ------
    UserError
        When the manifest is damaged.
    """

    def __init__(self, manifest: Path, finder: Finder) -> None:
        self._manifest = manifest
        self._finder = finder
        self._files: list[str] = []
        self._known: set[str] = set()
        self._state: State = {}
        self._n_bytes = 0
        if manifest.exists():
            self._take(manifest.read_bytes())

    @property
    def files(self) -> list[str]:
        """Absolute paths, all that were ever listed."""
        return list(self._files)

    def look(self) -> list[str]:
        """Return the files that came since the last look, after writing them down.

        Raises
        ------
        StorageError
            When the manifest cannot be written. The list is as it was.
        """
        found, state = self._finder.find(self._known, self._state)
        if not found and state == self._state:
            return []
        n_known = len(self._files)
        try:
            self._append({"files": found, "state": state})
        except OSError as error:
            raise StorageError(
                f"{self._manifest} cannot be written: {error.strerror or error}"
            ) from error
        return self._files[n_known:]

    def _append(self, look: dict[str, Any]) -> None:
        self._manifest.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self._manifest.exists()
        with open(os.open(self._manifest, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            # Released with the file, or with the process.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(self._n_bytes)
            if self._take(file.read()):
                # Another process was first. What is still missing then, the next look finds.
                return
            file.seek(self._n_bytes)
            file.truncate()
            line = json.dumps(look).encode() + b"\n"
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_directory(self._manifest.parent)
        self._take(line)

    def _take(self, content: bytes) -> int:
        """Add the looks of whole lines, and return how many there were."""
        *lines, torn = content.split(b"\n")
        for i, line in enumerate(lines):
            look = _look(line)
            if look is None:
                if torn or i + 1 < len(lines):
                    raise UserError(
                        f"{self._manifest} is damaged at byte {self._n_bytes}: no list of files "
                        "is there. Restore it, or start a new checkpoint"
                    )
                return i
            self._files += look["files"]
            self._known.update(look["files"])
            self._state = look["state"]
            self._n_bytes += len(line) + 1
        return len(lines)


def _look(line: bytes) -> dict[str, Any] | None:
    try:
        look = json.loads(line)
    except ValueError:
        return None
    return look if isinstance(look, dict) and look.keys() == {"files", "state"} else None


class DirectoryFinder:
    """All files below a directory, those found together in order of their modification.

    A name that starts with ``.`` or ``_``, of a file or of a directory above it, hides
    a file. Files must appear whole: write one under a hidden name or beside the
    directory, then rename it. A name is read once, whatever is written to it later.
    A directory that is not there yet has no files.

    Parameters
    ----------
    directory : Path
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
        return [path for _, path in sorted(found)], state

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
    path : Path

    Raises
    ------
    DataLossError
        When commits were cleaned up before they were read, or the table is
        another one than before. (From ``find``, as the next.)
    UserError
        When a commit removed rows, or the table cannot be read as files.
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
        self._id = self._id or open_table(self._path, "source").metadata().id
        if self._id != state["table"]:
            raise self._replaced(state["version"])
        files = [path for path in map(self._absolute, added) if path not in known]
        return files, state | {"version": version}

    def _snapshot(self) -> tuple[list[str], State]:
        table = open_table(self._path, "source")
        self._id = table.metadata().id
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
