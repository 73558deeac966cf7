"""The predictions of a batch: their columns, written once, and read back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contract import Contract
from app.files.batches.dataset import WriteOnceParquet


def prediction_table(scored: pa.Table, contract: Contract, batch: int) -> pa.Table:
    """Return the predictions table of rows that were scored.

    Parameters
    ----------
    scored
        ``event_id``, ``event_time``, and the columns of :func:`udfs.score.score`.
    contract
    batch
    """
    return pa.table(
        {
            "event_id": scored["event_id"],
            "event_time": scored["event_time"],
            "prediction": _labels(contract).take(scored["prediction"]),
            **{
                name: scored[name]
                for name in ("probabilities", "model_version", "model_age_ms", "stale")
            },
            "batch_id": pa.array([batch] * len(scored), pa.int64()),
        }
    )


@dataclass(frozen=True)
class Served:
    """What the readers of a batch's predictions were served.

    Attributes
    ----------
    event_ids
    classes
        Class index by event, in the same order.
    rows_stale
        Events scored while Redis could not be asked for a newer version.
    """

    event_ids: pa.ChunkedArray
    classes: pa.ChunkedArray
    rows_stale: int

    def __len__(self) -> int:
        return len(self.event_ids)

    def to(self, event_ids: list[str]) -> np.ndarray:
        """Return the class index that each of some events was given, int32, shape (n,)."""
        places = pc.index_in(pa.array(event_ids, pa.string()), self.event_ids)
        return np.asarray(self.classes.take(places).to_numpy())

    def by_event(self) -> dict[str, int]:
        """Return the class index of each event id."""
        return dict(zip(self.event_ids.to_pylist(), self.classes.to_pylist(), strict=True))


def read_served(
    predictions: WriteOnceParquet, query: str, batch: int, contract: Contract
) -> Served:
    """Read the predictions of a batch back, none if it has no file.

    Raises
    ------
    DamagedFileError
        When they cannot be read.
    """
    schema = pa.schema(
        [
            ("event_id", pa.string()),
            ("prediction", _labels(contract).type),
            ("stale", pa.bool_()),
        ]
    )
    written = predictions.read(query, batch, schema.names)
    table = schema.empty_table() if written is None else written
    classes = pc.index_in(table["prediction"], _labels(contract))
    return Served(table["event_id"], classes, pc.sum(table["stale"]).as_py() or 0)


def _labels(contract: Contract) -> pa.Array:
    """Return the classes as labels, in class order."""
    integers = contract.has_integer_labels
    return pa.array(list(map(int, contract.classes)) if integers else list(contract.classes))
