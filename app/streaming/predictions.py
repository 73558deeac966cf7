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
    files = [pq.ParquetFile(path) for path in directory.glob("*.parquet")]
    table = pa.concat_tables(file.read(columns=["event_id", "prediction"]) for file in files)
    places = pc.index_in(pa.array(event_ids, pa.string()), table["event_id"])
    labels = table["prediction"].take(places)
    return pc.index_in(labels, _labels(contract)).to_numpy()


def served_classes(directory: Path, contract: Contract) -> dict[str, int]:
    """Return the class index that the predictions in a directory give each event id."""
    number = {name: index for index, name in enumerate(contract.classes)}
    served: dict[str, int] = {}
    for path in directory.glob("*.parquet"):
        table = pq.ParquetFile(path).read(columns=["event_id", "prediction"])
        labels = map(str, table["prediction"].to_pylist())
        served.update(zip(table["event_id"].to_pylist(), map(number.get, labels), strict=True))
    return served


def _labels(contract: Contract) -> pa.Array:
    """Return the classes as labels, in class order."""
    integers = isinstance(contract.label_type, T.LongType)
    return pa.array(list(map(int, contract.classes)) if integers else list(contract.classes))
