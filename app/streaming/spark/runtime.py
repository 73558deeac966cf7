"""What is asked of a running Spark beyond its public Python interface."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession

_QUERY_ID_PROPERTY = "sql.streaming.queryId"

T = TypeVar("T")


def end_with_the_jvm_quietly() -> None:
    """Have this process, the planner of a data source, end without a trace when the JVM is gone.

    A query that ends closes the socket of a planner that may still be at work, and Python would
    print what its last write failed with.
    """
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError):
            before(kind, error, trace)

    sys.excepthook = show


def hadoop_path(path: Path) -> str:
    """Return a local path in Hadoop's notation, which is a URI without its escapes."""
    return f"file://{path}"


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks run at the same time."""
    return spark.sparkContext.defaultParallelism


def wants_core(spark: SparkSession) -> bool:
    """Return whether tasks wait for a core, and none runs."""
    # Not by the status tracker, which learns of a stage that waits when its first task ends.
    pool = spark.sparkContext._jsc.sc().taskScheduler().rootPool()
    return not pool.runningTasks() and not pool.getSortedTaskSetQueue().isEmpty()


def query_of_batch(df: DataFrame) -> str:
    """Return the id of the streaming query that a micro-batch belongs to."""
    query = df.sparkSession.sparkContext.getLocalProperty(_QUERY_ID_PROPERTY)
    assert query is not None, "Spark sets the property for every micro-batch"
    return query


def broadcast(spark: SparkSession, value: T) -> Broadcast[T]:
    """Send a value to every executor once."""
    return spark.sparkContext.broadcast(value)
