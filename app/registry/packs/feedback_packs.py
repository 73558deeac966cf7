"""The labelled rows of many batches in one file each, for all but the newest batches of a query.

``batches=00001200.parquet`` holds batches 1200 to 1299, as far as they had labelled rows, one row
group a batch: the columns of a batch's own file, and ``batch``. A pack is created exclusively once
the query is past its batches, and is never written again; what it holds is removed elsewhere after
that, so that packers need no lock.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from app.files.atomic import create_durably_by

PER_PACK = 100
NEVER_PACKED = 16
"""So many of a query's newest batches keep a file of their own."""

_NAME = re.compile(r"batch=(\d{8,})\.parquet")
_BATCH = "batch"
_UNREADABLE = (OSError, pa.ArrowException, ValueError)


class _CannotBeRead(Exception):
    """Raised when a batch's own file is damaged, or gone because another packer was faster."""


class FeedbackPacks:
    """The files of labelled rows of one query.

    Parameters
    ----------
    directory
        Need not be there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def single(self, batch: int) -> Path:
        """Return the file that holds the rows of one batch."""
        return self._directory / f"batch={batch:08d}.parquet"

    def pack_of(self, batch: int) -> Path:
        """Return the file that holds those of a batch and others, once there is one."""
        return self._directory / f"batches={batch - batch % PER_PACK:08d}.parquet"

    def has(self, batch: int) -> bool:
        """Return whether a batch was packed. Raises as :meth:`read` does."""
        return self._find(batch) is not None

    def read(self, batch: int) -> pa.Table | None:
        """Return the rows of a batch as its own file had them; None if it was not packed.

        Raises
        ------
        OSError, pa.ArrowException, ValueError
            When the pack is damaged.
        """
        found = self._find(batch)
        if found is None:
            return None
        pack, groups = found
        return pack.read_row_groups(groups).drop_columns([_BATCH])

    def _find(self, batch: int) -> tuple[pq.ParquetFile, list[int]] | None:
        """Return the pack of a batch and which of its row groups are the batch's."""
        try:
            pack = pq.ParquetFile(self.pack_of(batch))
        except FileNotFoundError:
            return None
        groups = _groups_of(pack, batch)
        return (pack, groups) if groups else None

    def pack(self) -> int:
        """Pack the rows of all but the newest batches, and return how many batches were packed.

        A pack that would lack a batch, because its file is damaged, is not made.

        Raises
        ------
        StorageError
            When the filesystem refuses.
        """
        batches = self._singles()
        last = batches[-1] - NEVER_PACKED if batches else -1
        packed = 0
        for first, group in itertools.groupby(batches, lambda batch: batch - batch % PER_PACK):
            if first + PER_PACK - 1 <= last:
                packed += self._pack(list(group))
        return packed

    def _pack(self, batches: list[int]) -> int:
        path = self.pack_of(batches[0])
        if not path.exists():
            try:
                create_durably_by(path, lambda file: self._write(file, batches))
            except _CannotBeRead:
                return 0
        return sum(map(self._remove_packed, batches))

    def _write(self, file: BinaryIO, batches: list[int]) -> None:
        with contextlib.ExitStack() as stack:
            writer = None
            for batch in batches:
                try:
                    table = as_float64(pq.ParquetFile(self.single(batch)).read())
                except _UNREADABLE as error:
                    raise _CannotBeRead from error
                table = table.append_column(_BATCH, pa.array([batch] * len(table), pa.int64()))
                if writer is None:
                    writer = pq.ParquetWriter(file, table.schema, compression="zstd")
                    stack.enter_context(writer)
                writer.write_table(table, row_group_size=max(1, len(table)))

    def _remove_packed(self, batch: int) -> int:
        """Remove a batch's own file if its pack has the same rows; return how many were removed."""
        path = self.single(batch)
        try:
            packed = self.read(batch)
            single = as_float64(pq.ParquetFile(path).read())
            if packed is None or not as_float64(packed).equals(single):
                return 0
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            # Another packer was faster.
            return 0
        except _UNREADABLE:
            return 0
        return 1

    def _singles(self) -> list[int]:
        """Return the batches that have a file of their own, in order."""
        found = self._directory.glob("batch=*")
        matches = (_NAME.fullmatch(path.name) for path in found)
        return sorted(int(match.group(1)) for match in matches if match)


def as_float64(table: pa.Table) -> pa.Table:
    """Return labelled rows with features in float64: older releases kept float32."""
    place = table.schema.get_field_index("features")
    kind = table.schema.field(place).type if place >= 0 else None
    if kind is None or not pa.types.is_fixed_size_list(kind):
        return table
    wide = pa.list_(pa.float64(), kind.list_size)
    return table.set_column(place, "features", table["features"].cast(wide))


def _groups_of(pack: pq.ParquetFile, batch: int) -> list[int]:
    """Return which row groups of a pack are those of a batch."""
    column = pack.schema_arrow.get_field_index(_BATCH)
    if column < 0:
        raise ValueError("it has no column 'batch'")
    # The path of a list's elements makes leaves of the schema more than its fields: the last one.
    leaf = pack.metadata.num_columns - 1
    groups = []
    for group in range(pack.metadata.num_row_groups):
        statistics = pack.metadata.row_group(group).column(leaf).statistics
        if statistics is not None and statistics.min == batch:
            groups.append(group)
    return groups
