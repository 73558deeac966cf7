"""The predictions of a batch: their columns, written once, and read back."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from app.streaming.schema import Contract

PREDICTIONS_FILE = "predictions.parquet"


def class_labels(contract: Contract) -> Column:
    """Return the classes as an array of labels, in class order."""
    return F.array(*map(F.lit, contract.classes)).cast(T.ArrayType(contract.label_type))


def predicted(scored: DataFrame, contract: Contract, batch: int) -> DataFrame:
    """Return the predictions table of rows with ``event_id``, ``event_time`` and ``served``.

    Parameters
    ----------
    scored : DataFrame
        Good rows; ``served`` is the struct of :func:`udfs.score.score_udf`.
    contract : Contract
    batch : int
    """
    # `get`, unlike `element_at`, is null for the rows that were not scored.
    label = F.get(class_labels(contract), F.col("served.prediction"))
    return scored.select(
        "event_id",
        "event_time",
        label.alias("prediction"),
        "served.probabilities",
        "served.model_version",
        "served.model_age_ms",
        "served.stale",
        F.lit(batch).cast("long").alias("batch_id"),
    )


def prediction_table(scored: pa.Table, contract: Contract, batch: int) -> pa.Table:
    """Return the same table of rows that are on the driver.

    Parameters
    ----------
    scored : Table
        ``event_id``, ``time`` (microseconds since 1970) and ``served``.
    contract : Contract
    batch : int
    """
    served = scored["served"].combine_chunks()
    integers = isinstance(contract.label_type, T.LongType)
    labels = pa.array(list(map(int, contract.classes)) if integers else list(contract.classes))
    return pa.table(
        {
            "event_id": scored["event_id"],
            "event_time": scored["time"].cast(pa.timestamp("us", "UTC")),
            "prediction": labels.take(served.field("prediction")),
            **{
                name: served.field(name)
                for name in ("probabilities", "model_version", "model_age_ms", "stale")
            },
            "batch_id": pa.array([batch] * len(scored), pa.int64()),
        }
    )


def served_classes(directory: Path, contract: Contract) -> dict[str, int]:
    """Return the class index that the predictions in a directory give each event id."""
    number = {name: index for index, name in enumerate(contract.classes)}
    served: dict[str, int] = {}
    for path in directory.glob("*.parquet"):
        table = pq.ParquetFile(path).read(columns=["event_id", "prediction"])
        labels = map(str, table["prediction"].to_pylist())
        served.update(zip(table["event_id"].to_pylist(), map(number.get, labels), strict=True))
    return served
