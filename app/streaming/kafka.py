"""Kafka topics: rows that stream in from one, predictions that are written to one.

Spark's own connector does both. It is a package for the JVM, not for Python:
:func:`kafka_package` names the one that fits.
"""

from __future__ import annotations

import re

import pyspark
from py4j.java_gateway import JavaClass
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from app.errors import StreamFailedError, UserError
from app.source_spec import SourceSpec
from app.streaming.arrow_messages import MESSAGE_COLUMN, ROW_BITS, RowsOfMessages
from app.streaming.files import SEQUENCE_COLUMN, TEXT_COLUMN

_OFFSET_BITS = 40
_MICROSECONDS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"
_CLOSE_SECONDS = 1

# What Spark says, over several lines, when offsets are missing or have gone back.
_LOST = re.compile(r"Some data may have been lost.*?Reason: ([^\n]*?)\.?(?:\n|$)", re.DOTALL)
_NO_TOPIC = "UnknownTopicOrPartitionException"
_KAFKA_ERROR = re.compile(
    r"org\.apache\.kafka\.[\w.$]*?(\w+Exception: .*?)(?: SQLSTATE.*)?(?:\n|$)"
)


def kafka_package() -> str:
    """Return the Maven coordinate of the Kafka connector for this Spark.

    Examples
    --------
    >>> kafka_package()
    'org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0'
    """
    # Of the minor's first release: Maven Central does not have the connector of every patch
    # release that PyPI has of pyspark (4.2.1 is one it has not), and the connector's interface
    # with Spark does not change within a minor.
    major, minor = pyspark.__version__.split(".")[:2]
    return f"org.apache.spark:spark-sql-kafka-0-10_2.13:{major}.{minor}.0"


def check_topic(spark: SparkSession, spec: SourceSpec, *, timeout_seconds: float = 30.0) -> None:
    """Make sure that a broker answers and has the topic, before a query is started on it.

    Spark itself would wait for minutes, and then name neither.

    Parameters
    ----------
    spark : SparkSession
    spec : SourceSpec
    timeout_seconds : float
        How long a broker is waited for.

    Raises
    ------
    UserError
    """
    _require_connector(spark)
    jvm = spark._jvm
    milliseconds = str(int(timeout_seconds * 1000))
    properties = jvm.java.util.HashMap()
    properties["bootstrap.servers"] = spec.servers
    properties["request.timeout.ms"] = milliseconds
    properties["default.api.timeout.ms"] = milliseconds
    try:
        client = jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
        try:
            topics = jvm.java.util.Collections.singleton(spec.place)
            client.describeTopics(topics).allTopicNames().get()
        finally:
            client.close(jvm.java.time.Duration.ofSeconds(_CLOSE_SECONDS))
    except Py4JJavaError as error:
        kind, message = _innermost(error)
        if kind == _NO_TOPIC:
            problem = f"the broker has no topic '{spec.place}'. Create it, or name another"
        elif kind == "TimeoutException":
            problem = (
                f"no broker answered at {spec.servers} within {timeout_seconds:g} s. Start it, or "
                "name another"
            )
        else:
            problem = message
        raise UserError(f"{spec}: {problem}") from error


def read_kafka(
    spark: SparkSession,
    spec: SourceSpec,
    *,
    max_rows_per_batch: int,
    schema: T.StructType | None,
    fail_on_data_loss: bool = True,
) -> DataFrame:
    """Return the rows of a topic as a stream, from its earliest message on.

    Parameters
    ----------
    spark : SparkSession
    spec : SourceSpec
        Of kind ``kafka``. The value of a message is one JSON object, or with format
        ``arrow`` an Arrow IPC stream of at most 1,024 rows.
    max_rows_per_batch : int
        Messages in a micro-batch, from all partitions together. Spark takes at least
        one from each partition that has any, so it may be exceeded by as many as
        there are partitions.
    schema : StructType or None
        Of the rows; needed for ``arrow`` alone.
    fail_on_data_loss : bool
        Whether the query fails when messages are gone that it has not read yet.

    Returns
    -------
    DataFrame
        ``sequence`` (long: partition, offset and row in the message, in 13, 40 and
        10 bits), and ``text`` (string, null for a message without a value) or the
        columns of ``schema``, all null for a message that is no stream of such rows.

    Raises
    ------
    UserError
        When the session has no connector, or ``arrow`` no usable schema.
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
    if spec.format == "json":
        text = F.make_valid_utf8(F.col("value").cast("string"))
        return messages.select(sequence, text.alias(TEXT_COLUMN))
    columns = _typed_columns(spec, schema)
    return messages.select(sequence, F.col("value").alias(MESSAGE_COLUMN)).mapInArrow(
        RowsOfMessages(to_arrow_schema(columns, timezone="UTC")),
        T.StructType([T.StructField(SEQUENCE_COLUMN, T.LongType()), *columns]),
    )


def write_kafka(predictions: DataFrame, spec: SourceSpec, *, query: str, batch: int) -> None:
    """Send a micro-batch of predictions to a topic, each as one JSON object.

    A message has the event id as its key and the headers ``query``, ``batch`` and
    ``version`` (of the model), all text in UTF-8. Delivery is at least once: a batch
    that is tried again after a crash is sent again, in whole or in part. A consumer
    drops what it has seen by the key together with the headers ``query`` and
    ``batch``: a batch has an event id once.

    Parameters
    ----------
    predictions : DataFrame
        With ``event_id`` (string) and ``model_version`` (long); every column is sent.
    spec : SourceSpec
        Of kind ``kafka``.
    query : str
        Id of the streaming query.
    batch : int

    Raises
    ------
    StreamFailedError
        When the topic did not take it all.
    """
    every = F.struct(*(F.col(name) for name in predictions.columns))
    kept = {"ignoreNullFields": "false", "timestampFormat": _MICROSECONDS}
    headers = {
        "query": F.lit(query),
        "batch": F.lit(str(batch)),
        "version": F.col("model_version").cast("string"),
    }
    messages = predictions.select(
        F.col("event_id").alias("key"),
        F.to_json(every, kept).alias("value"),
        F.array(
            *(
                F.struct(F.lit(name).alias("key"), value.cast("binary").alias("value"))
                for name, value in headers.items()
            )
        ).alias("headers"),
    )
    writer = messages.write.format("kafka").option("kafka.bootstrap.servers", spec.servers)
    try:
        writer.option("topic", spec.place).save()
    except (PySparkException, Py4JJavaError) as error:
        explained = explain_failure(error, spec)
        if explained is None:
            raise
        raise explained from error


def explain_failure(error: BaseException, spec: SourceSpec) -> StreamFailedError | None:
    """Return what made a query on a topic fail, in one line, or None if it was not Kafka.

    Parameters
    ----------
    error : BaseException
        As Spark or py4j raised it, Java's stack trace and all.
    spec : SourceSpec

    Examples
    --------
    >>> spec = SourceSpec("kafka", "json", "t", "h:1")
    >>> explain_failure(ValueError("what happened is not Kafka's fault"), spec)
    """
    text = str(error)
    if lost := _LOST.search(text):
        problem = (
            f"messages are gone that this query has not read: {lost.group(1)}. Allow for data "
            "loss to go on without them"
        )
    elif _NO_TOPIC in text:
        problem = f"the broker has no topic '{spec.place}' any more"
    elif told := _KAFKA_ERROR.search(text):
        problem = told.group(1)
    else:
        return None
    return StreamFailedError(f"{spec}: {problem}")


def _require_connector(spark: SparkSession) -> None:
    """Refuse a session that somebody else started without the connector."""
    provider = spark._jvm.org.apache.spark.sql.kafka010.KafkaSourceProvider
    if not isinstance(provider, JavaClass):
        raise UserError(
            "kafka://: this Spark session has no Kafka connector. Start it with "
            f"--packages {kafka_package()}"
        )


def _typed_columns(spec: SourceSpec, schema: T.StructType | None) -> T.StructType:
    """Return the columns of an Arrow message; each may be null, whatever the schema says."""
    if schema is None or not schema.fields:
        raise UserError(f"{spec}: format=arrow needs a schema of the rows")
    if SEQUENCE_COLUMN in schema.names:
        raise UserError(f"{spec}: a column may not be named '{SEQUENCE_COLUMN}'")
    return T.StructType([T.StructField(field.name, field.dataType) for field in schema])


def _innermost(error: Py4JJavaError) -> tuple[str, str]:
    """Return the simple class name and the message of the first cause of a Java exception."""
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    kind = cause.getClass().getSimpleName()
    return kind, f"{kind}: {cause.getMessage()}"
