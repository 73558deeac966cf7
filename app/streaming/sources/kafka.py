"""Kafka topics: rows that stream in from one, predictions that are written to one.

Spark's own connector does both. It is a package for the JVM, not for Python:
:func:`kafka_package` names the one that fits.
"""

from __future__ import annotations

import re

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from app.config.connectors import SourceSpec
from app.errors import StreamFailedError, UserError
from app.files.sequence import SEQUENCE_COLUMN
from app.parsing.arrow_messages import ROW_BITS
from app.parsing.packed_rows import ROWS_COLUMN
from app.streaming.spark.kafka_admin import BrokerError, describe_topic, has_connector
from app.streaming.spark.packages import kafka_package

_OFFSET_BITS = 40
_MICROSECONDS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"

# What Spark says, over several lines, when offsets are missing or have gone back.
_LOST = re.compile(r"Some data may have been lost.*?Reason: ([^\n]*?)\.?(?:\n|$)", re.DOTALL)
_NO_TOPIC = "UnknownTopicOrPartitionException"
_KAFKA_ERROR = re.compile(
    r"org\.apache\.kafka\.[\w.$]*?(\w+Exception: .*?)(?: SQLSTATE.*)?(?:\n|$)"
)


def check_topic(spark: SparkSession, spec: SourceSpec, *, timeout_seconds: float = 30.0) -> None:
    """Make sure that a broker answers and has the topic, before a query is started on it.

    Spark itself would wait for minutes, and then name neither.

    Parameters
    ----------
    spark
    spec
    timeout_seconds
        How long a broker is waited for.

    Raises
    ------
    UserError
    """
    _require_connector(spark)
    try:
        describe_topic(spark, spec.servers, spec.place, timeout_seconds)
    except BrokerError as error:
        if error.kind == _NO_TOPIC:
            problem = f"the broker has no topic '{spec.place}'. Create it, or name another"
        elif error.kind == "TimeoutException":
            problem = (
                f"no broker answered at {spec.servers} within {timeout_seconds:g} s. Start it, or "
                "name another"
            )
        else:
            problem = str(error)
        raise UserError(f"{spec}: {problem}") from error


def read_kafka(
    spark: SparkSession,
    spec: SourceSpec,
    *,
    max_rows_per_batch: int,
    fail_on_data_loss: bool = True,
) -> DataFrame:
    """Return the rows of a topic as a stream, from its earliest message on.

    Parameters
    ----------
    spark
    spec
        A topic, of kind ``kafka``. The value of a message is one JSON object, or with format
        ``arrow`` an Arrow IPC stream of at most 1,024 rows.
    max_rows_per_batch
        Messages in a micro-batch, from all partitions together. Spark takes at least
        one from each partition that has any, so it may be exceeded by as many as
        there are partitions.
    fail_on_data_loss
        Whether the query fails when messages are gone that it has not read yet.

    Returns
    -------
    DataFrame
        ``sequence`` (long, of the message's first row: partition, offset and row in the
        message, in 13, 40 and 10 bits), and ``rows`` (binary), the message.

    Raises
    ------
    UserError
        When the session has no connector.
    """
    _require_connector(spark)
    messages = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", spec.servers)
        # What a producer took back is not learned from.
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", spec.place)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", max_rows_per_batch)
        .option("failOnDataLoss", str(fail_on_data_loss).lower())
        .load()
    )
    partition = F.shiftleft(F.col("partition").cast("long"), _OFFSET_BITS + ROW_BITS)
    sequence = partition.bitwiseOR(F.shiftleft("offset", ROW_BITS)).alias(SEQUENCE_COLUMN)
    return messages.select(sequence, F.col("value").alias(ROWS_COLUMN))


def explain_failure(error: BaseException, *topics: SourceSpec) -> StreamFailedError | None:
    """Return what made a query on topics fail, in one line, or None if it was not Kafka.

    Parameters
    ----------
    error
        As Spark raised it, Java's stack trace and all.
    *topics
        Those that the query reads. Where Kafka does not say which one it is, all are named.

    Examples
    --------
    >>> spec = SourceSpec("kafka", "json", "t", "h:1")
    >>> explain_failure(ValueError("what happened is not Kafka's fault"), spec)
    """
    text = str(error)
    partitions = {topic: rf"(?<![\w.-]){re.escape(topic.place)}-\d+(?![\w.-])" for topic in topics}
    named = [topic for topic, pattern in partitions.items() if re.search(pattern, text)] or topics
    if lost := _LOST.search(text):
        problem = (
            f"messages are gone that this query has not read: {lost.group(1)}; "
            "--no-fail-on-data-loss goes on without them"
        )
    elif _NO_TOPIC in text:
        names = " or ".join(f"'{topic.place}'" for topic in named)
        problem = f"the broker has no topic {names} any more"
    elif said := _KAFKA_ERROR.search(text):
        problem = said.group(1)
    else:
        return None
    return StreamFailedError(f"{' or '.join(map(str, named))}: {problem}")


def _require_connector(spark: SparkSession) -> None:
    """Refuse a session that somebody else started without the connector."""
    if not has_connector(spark):
        raise UserError(
            "kafka://: this Spark session has no Kafka connector. Start it with "
            f"--packages {kafka_package()}"
        )
