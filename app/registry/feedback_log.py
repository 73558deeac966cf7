"""The feedback log: the labelled rows of each batch in the order they were learned.

It is what a past version is rebuilt from, so it is durable before the version is
published, and written once: ``feedback/query=<id>/batch=<n>.parquet``. Those of older batches are
put into files of many, see :mod:`app.registry.packs.feedback_packs`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import ModelNotFoundError, RegistryError
from app.files.atomic import create_durably
from app.registry.packs.feedback_packs import FeedbackPacks, as_float64


@dataclass(frozen=True)
class LearnedRows:
    """Rows in the order they were learned.

    Attributes
    ----------
    event_ids
    features : ndarray, shape (n, D), float64
    labels : ndarray, shape (n,), int32
        Class indices.
    """

    event_ids: list[str]
    features: np.ndarray
    labels: np.ndarray


class FeedbackLog:
    """The labelled rows of all batches that a model has learned.

    Parameters
    ----------
    directory
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, snapshots: Path) -> FeedbackLog:
        """Return the log that lies with a model's snapshots."""
        return cls(snapshots / "feedback")

    def path(self, query: str, batch: int) -> Path:
        """Return the file of a batch's rows, as long as it has one of its own."""
        return self._packs(query).single(batch)

    def write(self, query: str, batch: int, rows: LearnedRows) -> None:
        """Write a batch's rows; if they are there already, from an earlier try, those stay."""
        packs, path = self._packs(query), self.path(query, batch)
        if self._is_packed(packs, batch):
            return
        width = rows.features.shape[1]
        table = pa.table(
            {
                "event_id": pa.array(rows.event_ids, pa.string()),
                "features": pa.FixedSizeListArray.from_arrays(
                    pa.array(rows.features.reshape(-1), pa.float64()), width
                ),
                "label_index": pa.array(rows.labels, pa.int32()),
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        if create_durably(path, buffer.getvalue()) and self._is_packed(packs, batch):
            # Whoever sleeps until a batch is packed finds its place free.
            path.unlink(missing_ok=True)

    def read(self, query: str, batch: int) -> LearnedRows:
        """Return a batch's rows.

        Raises
        ------
        ModelNotFoundError
            When they were not recorded.
        RegistryError
            When the file is damaged.
        """
        packs, path = self._packs(query), self.path(query, batch)
        place = path
        try:
            try:
                # One file, and not a dataset: its directories' names are no columns.
                table = pq.ParquetFile(path).read()
            except FileNotFoundError:
                place = packs.pack_of(batch)
                table = packs.read(batch)
            if table is None:
                raise ModelNotFoundError(f"no labelled rows were recorded in {path}")
            table = as_float64(table)
            features, labels = table["features"].combine_chunks(), table["label_index"]
            if not pa.types.is_fixed_size_list(features.type) or labels.null_count:
                raise ValueError("its columns are not those of the log")
            return LearnedRows(
                table["event_id"].to_pylist(),
                features.flatten().to_numpy().reshape(len(table), -1),
                labels.to_numpy(),
            )
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise RegistryError(f"{place} holds no labelled rows: {error}") from error

    def pack(self) -> int:
        """Put the rows of all but each query's newest batches into packs.

        Safe while others read, write and pack.

        Returns
        -------
        int
            Batches that were packed.

        Raises
        ------
        StorageError
            When the filesystem refuses.
        """
        return sum(FeedbackPacks(path).pack() for path in self.directory.glob("query=*"))

    def _packs(self, query: str) -> FeedbackPacks:
        return FeedbackPacks(self.directory / f"query={query}")

    def _is_packed(self, packs: FeedbackPacks, batch: int) -> bool:
        try:
            return packs.has(batch)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise RegistryError(
                f"{packs.pack_of(batch)} holds no labelled rows: {error}"
            ) from error
