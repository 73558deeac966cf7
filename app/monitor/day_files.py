"""Lines appended to one file a day, for what is written often and read seldom.

A line is appended whole and synced. What a crash has left of one, without its end, is passed over
by readers and cut off when the next line is appended.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from app.errors import StorageError
from app.files.atomic import make_durably, sync_directory

_SUFFIX = ".jsonl"
_BLOCK_BYTES = 64 * 1024


class DayFiles:
    """The lines below one directory: ``2024-01-31.jsonl`` for each day on which there was one.

    Parameters
    ----------
    directory
        Made with the first line.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def append(self, day: str, lines_after: Callable[[Iterator[bytes]], bytes]) -> None:
        """Append lines to the file of a day, or to a later one that is there already.

        Parameters
        ----------
        day
            ISO 8601.
        lines_after
            Returns the lines, each with its end, when it is given :meth:`newest_first`. Nobody
            else appends meanwhile.

        Raises
        ------
        StorageError
            When the filesystem refuses.
        """
        # A clock may have been put back: the newest line stays the last one of the last file.
        path = max([self._directory / f"{day}{_SUFFIX}", *self._files()])
        try:
            make_durably(self._directory)
            is_new = not path.exists()
            with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
                # Released with the file, or with the process.
                fcntl.flock(file, fcntl.LOCK_EX)
                lines = lines_after(self.newest_first())
                file.truncate(_end_of_last_line(file))
                file.seek(0, os.SEEK_END)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_directory(self._directory)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error

    def __iter__(self) -> Iterator[bytes]:
        """Yield all lines, oldest first, without their ends."""
        for path in self._files():
            with open(path, "rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line[:-1]

    def newest_first(self) -> Iterator[bytes]:
        """Yield all lines from the end on, without reading more than is asked for."""
        for path in reversed(self._files()):
            with open(path, "rb") as file:
                yield from _backwards(file)

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob(f"[0-9]*{_SUFFIX}"))


def _backwards(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file from its end, what follows the last one left out."""
    # The beginning of what was read: the end of a line whose beginning was not.
    rest = b""
    has_end = False
    for block in _blocks_backwards(file):
        lines = (block + rest).split(b"\n")
        if not has_end and len(lines) > 1:
            lines.pop()
            has_end = True
        rest = lines.pop(0)
        yield from reversed(lines)
    if has_end:
        yield rest


def _end_of_last_line(file: BinaryIO) -> int:
    end = file.seek(0, os.SEEK_END)
    for block in _blocks_backwards(file):
        end -= len(block)
        if b"\n" in block:
            return end + block.rindex(b"\n") + 1
    return 0


def _blocks_backwards(file: BinaryIO) -> Iterator[bytes]:
    at = file.seek(0, os.SEEK_END)
    while at > 0:
        size = min(_BLOCK_BYTES, at)
        at -= size
        file.seek(at)
        yield file.read(size)
