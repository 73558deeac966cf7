"""The predictions of a batch: their columns, written once, and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import types as T

from app.streaming.schema import Contract

PREDICTIONS_FILE = "predictions.parquet"


def prediction_table(scored: pa.Table, contract: Contract, batch: int) -> pa.Table:
    """Return the predictions table of rows that were scored.

    Parameters
    ----------
    scored : Table
        ``event_id``, ``time`` (microseconds since 1970) and ``served``, the struct of
        :func:`udfs.score.score_udf`.
    contract : Contract
    batch : int
    """
    served = scored["served"].combine_chunks()
    return pa.table(
        {
            "event_id": scored["event_id"],
            "event_time": scored["time"].cast(pa.timestamp("us", "UTC")),
            "prediction": _labels(contract).take(served.field("prediction")),
            **{
                name: served.field(name)
                for name in ("probabilities", "model_version", "model_age_ms", "stale")
            },
            "batch_id": pa.array([batch] * len(scored), pa.int64()),
        }
    )


def served_to(directory: Path, contract: Contract, event_ids: list[str]) -> np.ndarray:
    """Return the class index that the predictions in a directory give each of some events.

    Returns
    -------
    ndarray, shape (n,), int32
    """
    events, classes = _served(directory, contract)
    return classes.take(pc.index_in(pa.array(event_ids, pa.string()), events)).to_numpy()


def served_classes(directory: Path, contract: Contract) -> dict[str, int]:
    """Return the class index that the predictions in a directory give each event id."""
    events, classes = _served(directory, contract)
    return dict(zip(events.to_pylist(), classes.to_pylist(), strict=True))


def _served(directory: Path, contract: Contract) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the event ids and the class indices of the predictions in a directory."""
    schema = pa.schema([("event_id", pa.string()), ("prediction", _labels(contract).type)])
    files = [pq.ParquetFile(path) for path in directory.glob("*.parquet")]
    tables = [file.read(columns=schema.names) for file in files] or [schema.empty_table()]
    table = pa.concat_tables(tables)
    return table["event_id"], pc.index_in(table["prediction"], _labels(contract))


def _labels(contract: Contract) -> pa.Array:
    """Return the classes as labels, in class order."""
    integers = isinstance(contract.label_type, T.LongType)
    return pa.array(list(map(int, contract.classes)) if integers else list(contract.classes))
