"""Taking out of the way what cannot be made again."""

from __future__ import annotations

import itertools
from pathlib import Path

from app.errors import StorageError


def set_aside(path: Path) -> Path | None:
    """Rename a file or directory to a free name beside it, and return that; None if it is missing.

    Raises
    ------
    StorageError
        When the filesystem refuses.
    """
    if not path.exists():
        return None
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.aside-{number}")
        if not aside.exists():
            break
    try:
        return path.rename(aside)
    except OSError as error:
        raise StorageError(f"{path} cannot be moved: {error.strerror or error}") from error
