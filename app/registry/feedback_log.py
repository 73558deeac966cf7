"""The feedback log: the labelled rows of each batch in the order they were learned.

It is what a past version is rebuilt from, so it is durable before the version is
published, and written once: ``feedback/query=<id>/batch=<n>.parquet``.
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


@dataclass(frozen=True)
class LearnedRows:
    """Rows in the order they were learned.

    Attributes
    ----------
    event_ids
    features : ndarray, shape (n, D), float32
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
        return self.directory / f"query={query}" / f"batch={batch:08d}.parquet"

    def write(self, query: str, batch: int, rows: LearnedRows) -> None:
        """Write a batch's rows; if they are there already, from an earlier try, those stay."""
        width = rows.features.shape[1]
        table = pa.table(
            {
                "event_id": pa.array(rows.event_ids, pa.string()),
                "features": pa.FixedSizeListArray.from_arrays(
                    pa.array(rows.features.reshape(-1), pa.float32()), width
                ),
                "label_index": pa.array(rows.labels, pa.int32()),
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        create_durably(self.path(query, batch), buffer.getvalue())

    def read(self, query: str, batch: int) -> LearnedRows:
        """Return a batch's rows.

        Raises
        ------
        ModelNotFoundError
            When they were not recorded.
        RegistryError
            When the file is damaged.
        """
        path = self.path(query, batch)
        try:
            # One file, and not a dataset: its directories' names are no columns.
            table = pq.ParquetFile(path).read()
            features, labels = table["features"].combine_chunks(), table["label_index"]
            if not pa.types.is_fixed_size_list(features.type) or labels.null_count:
                raise ValueError("its columns are not those of the log")
            return LearnedRows(
                table["event_id"].to_pylist(),
                features.flatten().to_numpy().reshape(len(table), -1),
                labels.to_numpy(),
            )
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"no labelled rows were recorded in {path}") from error
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise RegistryError(f"{path} holds no labelled rows: {error}") from error
