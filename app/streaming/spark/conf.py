"""How Spark is to run the queries of this application."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from pyspark.sql import SparkSession

from app.streaming.spark.bridge import unless_lost

QUERY_CONF = {
    # The default starts a process (readlink, chmod) for every file that it renames, and the work
    # directory is always a local or mounted one.
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing"
        ".FileSystemBasedCheckpointFileManager"
    ),
    "spark.sql.streaming.minBatchesToRetain": "10",
}
"""How Spark is to run a query whose batches take less time than planning them would."""

STREAM_CONF = QUERY_CONF | {
    # A batch is small, and generating code for it takes longer than interpreting its plan.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""How Spark is to run a live stream."""

JOIN_CONF = {
    # RocksDB keeps state off the JVM's heap, a batch writes only what it changed, and version 3
    # keeps one store a partition, not four.
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    "spark.sql.streaming.join.stateFormatVersion": "3",
    # Which rows are late is decided by the ledger; see JoinWindow.spark_delay.
    "spark.sql.streaming.multipleWatermarkPolicy": "max",
}
"""How Spark is to keep what it joins, where it does."""


@contextlib.contextmanager
def configured(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """Set a session's configuration within a block, and put back what it was."""
    before: dict[str, str | None] = {key: spark.conf.get(key, None) for key in conf}
    try:
        for key, value in conf.items():
            spark.conf.set(key, value)
        yield
    finally:
        with unless_lost():
            for key, before_block in before.items():
                if before_block is None:
                    spark.conf.unset(key)
                else:
                    spark.conf.set(key, before_block)
