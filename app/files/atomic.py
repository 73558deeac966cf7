"""Files that a crash leaves whole: the old content or the new, and none in between."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import StorageError


def write_durably(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it, sync its directory.

    Raises
    ------
    StorageError
        When the filesystem refuses. ``path`` is as it was.
    """
    with _written(path, data) as temporary:
        os.replace(temporary, path)


def create_durably(path: Path, data: bytes) -> bool:
    """Write a file that must not exist yet, in one step that only one process can win.

    Returns
    -------
    bool
        False when ``path`` exists; it is as it was.

    Raises
    ------
    StorageError
        When the filesystem refuses, or knows no hard links.
    """
    with _written(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """Yield a synced temporary file; when the block is left, sync the directory."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _make_durably(path.parent)
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def _make_durably(directory: Path) -> None:
    """Make a directory and those above it, with their names synced where they were missing."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_directory(made.parent)


def sync_directory(directory: Path) -> None:
    """Make renames inside a directory survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
