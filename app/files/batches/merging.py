"""Merging the many small files of older batches, so that readers see the same rows all the time.

The merged files of a directory are built in a hidden one beside it, which readers pass over. Then
the two are exchanged in one step, and the old files are removed. A crash leaves a hidden directory,
which the next attempt clears: what is in it is either not yet, or no more, what readers see.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import HedgestreamError
from app.files.atomic import create_durably_by, exchange, sync_directory
from app.files.batches.dataset import (
    BATCH_COLUMN,
    directories_of,
    merged_file,
    merged_in,
    read_of_merged,
    singles_in,
)

ROWS_PER_GROUP = 64 * 1024


@dataclass
class Merged:
    """What was done.

    Attributes
    ----------
    files
        Small files that were merged.
    into
        Files that they are now.
    problems
        Why directories were left as they are, a message each.
    """

    files: int = 0
    into: int = 0
    problems: list[str] = field(default_factory=list)


class _CannotMerge(HedgestreamError):
    """Raised when a directory is better left as it is."""


def merge_closed(root: Path) -> Merged:
    """Merge the files of each thousand of batches that is followed by another of its query.

    One process at a time; a run may write meanwhile.
    """
    done = Merged()
    for query in sorted(root.glob("query=*")):
        for directory in directories_of(query)[:-1]:
            try:
                _merge(directory, done)
            except HedgestreamError as error:
                done.problems.append(f"{directory} is left as it is: {error}")
    return done


def _merge(directory: Path, done: Merged) -> None:
    hidden = directory.with_name(f".{directory.name}.merging")
    _clear(hidden, directory)
    sources: dict[str, list[Path]] = {kind: [path] for kind, path in merged_in(directory).items()}
    singles = singles_in(directory)
    for _, kind, path in singles:
        sources.setdefault(kind, []).append(path)
    if all(len(paths) == 1 for paths in sources.values()):
        return
    try:
        hidden.mkdir()
        for kind, paths in sources.items():
            _write(merged_file(hidden, kind), paths)
        sync_directory(hidden)
    except (OSError, pa.ArrowException, ValueError) as error:
        _clear(hidden, directory)
        raise _CannotMerge(str(error)) from error
    except HedgestreamError:
        _clear(hidden, directory)
        raise
    if not exchange(hidden, directory):
        _clear(hidden, directory)
        raise _CannotMerge("this filesystem cannot exchange two directories in one step")
    _clear(hidden, directory)
    done.files += len(singles)
    done.into += len(sources)


def _write(target: Path, sources: Sequence[Path]) -> None:
    """Write the rows of files into one, in their order, as old as the youngest of them."""
    n_rows = 0

    def write(file: BinaryIO) -> None:
        nonlocal n_rows
        schema = pq.ParquetFile(sources[0]).schema_arrow
        with pq.ParquetWriter(file, schema) as writer:
            for table in _in_groups(_tables(sources, schema)):
                n_rows += len(table)
                writer.write_table(table)

    create_durably_by(target, write)
    if pq.ParquetFile(target).metadata.num_rows != n_rows:
        raise _CannotMerge(f"{target} does not hold the {n_rows:,} rows that were written")
    changed = max(path.stat().st_mtime for path in sources)
    os.utime(target, (changed, changed))


def _tables(sources: Sequence[Path], schema: pa.Schema) -> Iterator[pa.Table]:
    for path in sources:
        try:
            file = pq.ParquetFile(path)
            for group in range(file.metadata.num_row_groups):
                table = file.read_row_group(group)
                if set(table.column_names) != set(schema.names):
                    raise ValueError(f"its columns are {', '.join(table.column_names)}")
                yield table.select(schema.names).cast(schema)
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:
            raise _CannotMerge(f"{path} cannot be merged: {error}") from error


def _in_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows of tables as fewer and larger ones."""
    taken: list[pa.Table] = []
    for table in tables:
        taken.append(table)
        if sum(map(len, taken)) >= ROWS_PER_GROUP:
            yield pa.concat_tables(taken)
            taken = []
    if taken:
        yield pa.concat_tables(taken)


def _clear(hidden: Path, directory: Path) -> None:
    """Remove a hidden directory; bring back what is in no merged file, and was written late."""
    if not hidden.exists():
        return
    merged = merged_in(directory)
    for batch, kind, path in singles_in(hidden):
        # Before the exchange there is no file of a single batch in it.
        if kind in merged and len(read_of_merged(merged[kind], batch, [BATCH_COLUMN])):
            path.unlink()
        else:
            path.rename(directory / path.name)
    for path in hidden.iterdir():
        if path in merged_in(hidden).values() or path.suffix == ".tmp":
            path.unlink()
        else:
            path.rename(directory / path.name)
    hidden.rmdir()
    with contextlib.suppress(OSError):
        sync_directory(directory.parent)
