"""Files that a crash leaves whole: the old content or the new, and none in between."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from app.errors import StorageError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, sync it, rename it, sync its directory.

    Raises
    ------
    StorageError
        When the filesystem refuses. ``path`` is as it was.
    """
    with _written(path, lambda file: file.write(data)) as temporary:
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
    return create_durably_by(path, lambda file: file.write(data))


def create_durably_by(path: Path, write: Callable[[BinaryIO], object]) -> bool:
    """Do as :func:`create_durably` with what ``write`` writes into the file it is given."""
    with _written(path, write) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


def exchange(one: Path, other: Path) -> bool:
    """Give two files or directories each other's name in one step, and sync where they lie.

    Returns
    -------
    bool
        False when the system or the filesystem cannot; both are as they were.

    Raises
    ------
    StorageError
        When it can, and refuses.
    """
    code = _renameat2(os.fsencode(one), os.fsencode(other))
    if code in _NO_EXCHANGE:
        return False
    if code:
        raise StorageError(f"{one} cannot be exchanged for {other}: {os.strerror(code)}")
    for directory in {one.parent, other.parent}:
        sync_directory(directory)
    return True


def _renameat2(one: bytes, other: bytes) -> int:
    """Exchange two paths; return the error's number, 0 for none."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return errno.ENOSYS
    failed = call(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE)
    return ctypes.get_errno() if failed else 0


@contextmanager
def _written(path: Path, write: Callable[[BinaryIO], object]) -> Iterator[Path]:
    """Yield a synced temporary file; when the block is left, sync the directory."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        make_durably(path.parent)
        try:
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def make_durably(directory: Path) -> None:
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
