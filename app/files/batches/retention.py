"""Removing the files of old batches, by age, and one process at a time that changes older files."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from app.errors import StorageError
from app.files.batches.dataset import directories_of, merged_in, singles_in

NEVER_REMOVED = 16
"""So many of a query's newest batches are kept however old they are: they may be tried again."""

_LOCK = ".upkeep.lock"
_SECONDS_PER_DAY = 86_400.0


@contextlib.contextmanager
def sole_upkeep(workdir: Path) -> Iterator[bool]:
    """Lock the older files of a work directory within a block; yield whether that succeeded."""
    try:
        with open(workdir / _LOCK, "w") as lock:
            try:
                # Released with the file, or with the process.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
    except OSError as error:
        raise StorageError(f"{workdir} cannot be used: {error.strerror or error}") from error


def remove_older(root: Path, days: float, now: float) -> int:
    """Remove the files of a dataset of batches that were written more than so many days ago.

    Parameters
    ----------
    root
    days
    now
        Seconds since 1970.

    Returns
    -------
    int
        Files that were removed.

    Raises
    ------
    StorageError
        When the filesystem refuses.
    """
    limit = now - days * _SECONDS_PER_DAY
    removed = 0
    for query in root.glob("query=*"):
        directories = directories_of(query)
        if not directories:
            continue
        newest = max((batch for batch, _, _ in singles_in(directories[-1])), default=0)
        for directory in directories:
            try:
                gone, left = _remove_older(directory, limit, newest - NEVER_REMOVED)
            except OSError as error:
                reason = error.strerror or str(error)
                raise StorageError(f"{directory} cannot be thinned out: {reason}") from error
            removed += gone
            if left:
                # Those after it are younger.
                break
    return removed


def _remove_older(directory: Path, limit: float, last: int) -> tuple[int, int]:
    """Remove files of batches up to ``last``; return how many, and how many are left."""
    found = [path for batch, _, path in singles_in(directory) if batch <= last]
    # There are some only where the query has gone on to another thousand.
    found += merged_in(directory).values()
    old = [path for path in found if path.stat().st_mtime < limit]
    for path in old:
        path.unlink()
    left = sum(1 for path in directory.iterdir())
    if not left:
        directory.rmdir()
    return len(old), left
