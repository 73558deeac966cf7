"""Files with names and times for tests of manifests."""

from __future__ import annotations

import os
from pathlib import Path


def place(directory: Path, name: str, seconds: int = 0) -> Path:
    """Write a file and give it a time of modification."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(name))
    os.utime(path, (seconds, seconds))
    return path


def names(files) -> list[str]:
    return [Path(file).name for file in files]
