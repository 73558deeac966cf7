"""Where predictions go beside the work directory.

A sink is given the file of a batch as it was written, once. So whatever is tried
again after a crash, it is the same rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from app.config.connectors import SinkSpec, SourceSpec
from app.streaming.sinks.delta import append_to_delta
from app.streaming.sinks.kafka import write_kafka
from app.streaming.spark.runtime import hadoop_path

_SHOWN_ROWS = 20


class Sink(Protocol):
    """Takes the predictions of each batch."""

    def deliver(self, spark: SparkSession, predictions: Path, query: str, batch: int) -> None:
        """Hand on a batch's predictions, which may have been handed on before."""


class ConsoleSink:
    """Prints the first predictions of each batch."""

    def deliver(self, spark: SparkSession, predictions: Path, query: str, batch: int) -> None:
        rows = _read(predictions)
        print(f"batch {batch}: {len(rows):,} predictions", flush=True)
        shown = rows.slice(0, _SHOWN_ROWS).to_pandas().drop(columns="batch_id")
        print(shown.to_string(index=False), flush=True)


class DeltaSink:
    """Appends each batch to a Delta table, once."""

    def __init__(self, table: Path) -> None:
        self._table = table

    def deliver(self, spark: SparkSession, predictions: Path, query: str, batch: int) -> None:
        append_to_delta(self._table, _read(predictions), query=query, batch=batch)


class KafkaSink:
    """Sends each batch to a Kafka topic, at least once."""

    def __init__(self, topic: SourceSpec) -> None:
        self._topic = topic

    def deliver(self, spark: SparkSession, predictions: Path, query: str, batch: int) -> None:
        rows = spark.read.parquet(hadoop_path(predictions))
        write_kafka(rows, self._topic, query=query, batch=batch)


def sink_of(spec: SinkSpec) -> Sink:
    """Return the sink that a text of the command line names."""
    if spec.kind == "delta":
        return DeltaSink(Path(spec.place))
    if spec.kind == "kafka":
        return KafkaSink(SourceSpec("kafka", "json", spec.place, spec.servers))
    return ConsoleSink()


def _read(predictions: Path) -> pa.Table:
    # One file, and not a dataset: its directories' names are no columns.
    return pq.ParquetFile(predictions).read()
