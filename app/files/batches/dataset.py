"""A Parquet dataset of batches: each is written whole, once, however often it is tried.

::

    query=<id>/batches=00001000/00001234.parquet           one batch
                                00001234-rejected.parquet  the same, of a kind of its own
                                merged.parquet             many batches, in place of their files

A directory holds a thousand batches.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from app.errors import DamagedFileError
from app.files.atomic import create_durably

PER_DIRECTORY = 1000
BATCH_COLUMN = "batch_id"
PREDICTED, REJECTED, DIVERGED = "", "rejected", "diverged"
"""Kinds of files: predictions; rows that cannot be used, and rows that cannot be learned."""

_NAME = re.compile(r"(\d{8,})((?:-[a-z]+)?)\.parquet")
_MERGED_NAME = re.compile(r"merged((?:-[a-z]+)?)\.parquet")


class WriteOnceParquet:
    """The files of one kind in a dataset of batches.

    Parameters
    ----------
    root
        Made if it is missing.
    kind
        Part of the files' names, empty where the dataset has one kind alone.
    """

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        self._kind = f"-{kind}" if kind else ""
        root.mkdir(parents=True, exist_ok=True)

    def path(self, query: str, batch: int) -> Path:
        """Return the file of a batch, as long as it has one of its own."""
        return directory_of(self.root, query, batch) / f"{batch:08d}{self._kind}.parquet"

    def write(self, table: pa.Table, query: str, batch: int) -> None:
        """Write a batch, which may have no file if it has no rows; what is there stays."""
        if self.has(query, batch):
            return
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        create_durably(self.path(query, batch), buffer.getvalue())

    def has(self, query: str, batch: int) -> bool:
        return self.path(query, batch).exists() or self._read_merged(query, batch, []) is not None

    def read(self, query: str, batch: int, columns: Sequence[str]) -> pa.Table | None:
        """Return columns of a batch, None when it has no rows.

        Raises
        ------
        DamagedFileError
            When they cannot be read.
        """
        path = self.path(query, batch)
        try:
            return pq.ParquetFile(path).read(columns=list(columns))
        except FileNotFoundError:
            return self._read_merged(query, batch, columns)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DamagedFileError(path, str(error)) from error

    def _read_merged(self, query: str, batch: int, columns: Sequence[str]) -> pa.Table | None:
        path = merged_file(directory_of(self.root, query, batch), self._kind)
        if not path.exists():
            return None
        try:
            table = read_of_merged(path, batch, columns)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DamagedFileError(path, str(error)) from error
        return table if len(table) else None


def directory_of(root: Path, query: str, batch: int) -> Path:
    return root / f"query={query}" / f"batches={batch - batch % PER_DIRECTORY:08d}"


def directories_of(query: Path) -> list[Path]:
    """Return the directories of a query's batches, the oldest first."""
    found = query.glob("batches=*")
    return sorted(found, key=lambda path: (len(path.name), path.name))


def merged_file(directory: Path, kind: str) -> Path:
    return directory / f"merged{kind}.parquet"


def singles_in(directory: Path) -> list[tuple[int, str, Path]]:
    """Return the files of single batches, in order, each with its batch and its kind."""
    matches = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return sorted((int(m.group(1)), m.group(2), path) for m, path in matches if m)


def merged_in(directory: Path) -> dict[str, Path]:
    """Return the files of many batches by their kind."""
    matches = ((_MERGED_NAME.fullmatch(path.name), path) for path in directory.iterdir())
    return {m.group(1): path for m, path in matches if m}


def read_of_merged(path: Path, batch: int, columns: Sequence[str]) -> pa.Table:
    """Return a batch's rows from a file of many batches.

    Raises
    ------
    OSError, pa.ArrowException, ValueError
        When it cannot be read.
    """
    file = pq.ParquetFile(path)
    groups = list(_groups_with(file, batch))
    table = file.read_row_groups(groups, columns=[*columns, BATCH_COLUMN])
    return table.filter(pc.equal(table[BATCH_COLUMN], batch)).select(list(columns))


def _groups_with(file: pq.ParquetFile, batch: int) -> Iterator[int]:
    """Yield the row groups that may hold rows of a batch."""
    metadata = file.metadata
    names = [metadata.schema.column(leaf).path for leaf in range(metadata.num_columns)]
    leaf = names.index(BATCH_COLUMN)
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(leaf).statistics
        if statistics is None or statistics.min <= batch <= statistics.max:
            yield group
