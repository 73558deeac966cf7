"""Columns that are the same in all rows of a file: its directories name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from app.parsing.raw_batch import RawBatch, to_json

Partition = Mapping[str, str | None]


class PartitionedBatch:
    """Rows with the columns of their file's partition beside their own.

    Parameters
    ----------
    rows
    n
        How many rows are rows.
    partition
        Values by column, none of which the rows have.
    """

    def __init__(self, rows: RawBatch, n: int, partition: Partition) -> None:
        self._rows, self._n = rows, n
        self._partition = partition

    @property
    def kept(self) -> np.ndarray | None:
        return self._rows.kept

    @property
    def malformed(self) -> str:
        return self._rows.malformed

    def column(self, name: str) -> pa.Array | None:
        if name not in self._partition:
            return self._rows.column(name)
        return pa.repeat(pa.scalar(self._partition[name], pa.string()), self._n)

    def arrays(self, name: str) -> pa.Array | None:
        return None if name in self._partition else self._rows.arrays(name)

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        return None if self._partition.keys() & set(names) else self._rows.matrix(names)

    def as_json(self, place: int) -> str:
        row = self._rows.as_json(place)
        is_row = self.kept is None or place in self.kept
        return with_partition(row, self._partition) if is_row else row


def with_partition(row: str, partition: Partition) -> str:
    """Return a row, a JSON object, with the columns of a partition after its own.

    >>> with_partition('{"x": 1}', {"day": "2024-01-01"}), with_partition("{}", {"day": None})
    ('{"x": 1, "day": "2024-01-01"}', '{"day": null}')
    """
    if not partition:
        return row
    own = row.rstrip().removesuffix("}").rstrip()
    return own + ("" if own == "{" else ", ") + to_json(partition).removeprefix("{")
