"""Which files an input has, in an order that never changes.

Offsets name a file by its place in a list (:mod:`app.files.sequence`), and a
directory listed again after a crash gives another order. So the order in which
files were first seen is written down, and synced, before a row of them is read.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from app.errors import StorageError, UserError
from app.files.atomic import sync_directory, write_durably
from app.files.documents import parse_json

State = dict[str, Any]
"""What a finder is given back at its next look, as JSON."""


class Finder(Protocol):
    """Looks for the files of a source."""

    def find(self, known: Collection[str], state: State) -> tuple[list[str], State]:
        """Return the files that are not ``known``, in order, and the state of the next look."""


class FileManifest:
    """The files of an input in the order they are to be read, kept in a file.

    The manifest is JSON lines, ``{"files": [...], "state": {...}}``, one for each
    look that found something. It is only ever appended to. A line is written whole
    or, after a crash, dropped and written again: files that were found together
    are remembered together, with the state that says so.

    It belongs to a checkpoint: with a new checkpoint, start a new manifest.
    Several processes may hold lists of one manifest; all see one order.

    Parameters
    ----------
    manifest
        Made with the first files that are found.
    finder

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
            line = _line(look)
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


def import_files(manifest: Path, files: list[str]) -> None:
    """Begin a manifest with files that an older release has listed. One that is there stays."""
    if files and not manifest.exists():
        write_durably(manifest, _line({"files": files, "state": {}}))


def listed_files(manifest: Path) -> list[str]:
    """Return the files of a manifest in their order, none when there is no manifest."""
    return FileManifest(manifest, _NoFinder()).files


class _NoFinder:
    """Finds nothing: for a manifest that is only read."""

    def find(self, known: Collection[str], state: State) -> tuple[list[str], State]:
        return [], state


def _line(look: dict[str, Any]) -> bytes:
    return json.dumps(look).encode() + b"\n"


def _look(line: bytes) -> dict[str, Any] | None:
    try:
        look = parse_json(line)
    except ValueError:
        return None
    return look if isinstance(look, dict) and look.keys() == {"files", "state"} else None
