"""Bringing the files of batches from format 2 of the work directory to format 3, by renames.

Format 2 had a directory for each batch: ``query=<id>/batch=00001234/predictions.parquet``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from app.files.atomic import make_durably, sync_directory
from app.files.batches.dataset import WriteOnceParquet

_NAME = re.compile(r"batch=(\d+)")


def bring_from_directories(root: Path, kinds: Mapping[str, str]) -> None:
    """Rename the files of a dataset; what a crash has left undone, the next call does.

    Parameters
    ----------
    root
    kinds
        The kind of each file name of format 2.

    Raises
    ------
    OSError
        When the filesystem refuses.
    """
    for query in root.glob("query=*"):
        made = set()
        name = query.name.removeprefix("query=")
        for directory in query.glob("batch=*"):
            match = _NAME.fullmatch(directory.name)
            if match is None:
                continue
            for older, kind in kinds.items():
                target = WriteOnceParquet(root, kind).path(name, int(match.group(1)))
                if (directory / older).exists() and not target.exists():
                    if target.parent not in made:
                        make_durably(target.parent)
                        made.add(target.parent)
                    (directory / older).rename(target)
            for torn in directory.glob(".*.tmp"):
                torn.unlink()
            # Somebody else's file keeps it.
            with contextlib.suppress(OSError):
                directory.rmdir()
        for parent in [*made, query]:
            sync_directory(parent)
