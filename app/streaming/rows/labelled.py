"""The labelled rows of a batch, brought to the driver in the order they are learned."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.registry.feedback_log import LearnedRows

ORDER = [("event_time", "ascending"), ("sequence", "ascending"), ("event_id", "ascending")]
ORDER_COLUMNS = [name for name, _ in ORDER]

UNKNOWN = -1
"""In place of a class that was predicted, before it was."""


@dataclass(frozen=True)
class LabelledRows(LearnedRows):
    """Labelled rows in their total order: time, sequence, event id.

    Attributes
    ----------
    sequences : ndarray, shape (n,), int64
        Row numbers.
    served : ndarray, shape (n,), int32
        The class that was predicted for each when it was scored; ``UNKNOWN`` before that.
    """

    sequences: np.ndarray
    served: np.ndarray

    @classmethod
    def from_arrow(cls, table: pa.Table, n_features: int) -> LabelledRows:
        """Take the good rows with a label out of ``table``."""
        good = pc.is_null(table["reason"])
        table = table.filter(pc.and_(good, pc.is_valid(table["label_index"]))).sort_by(ORDER)
        values = table["features"].combine_chunks().flatten()
        return cls(
            table["event_id"].to_pylist(),
            values.to_numpy().reshape(-1, n_features),
            table["label_index"].to_numpy(),
            table["sequence"].to_numpy(),
            np.full(len(table), UNKNOWN, np.int32),
        )

    def with_served(self, served: np.ndarray) -> LabelledRows:
        """Return the same rows with what was predicted for each."""
        return dataclasses.replace(self, served=served)

    def __len__(self) -> int:
        return len(self.labels)
