"""Asking a Kafka broker, by the client that Spark's connector brings to the JVM."""

from __future__ import annotations

from typing import Any

from py4j.java_gateway import JavaClass
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

_CLOSE_SECONDS = 1


class BrokerError(Exception):
    """Raised when a broker refuses, or none answers.

    Attributes
    ----------
    kind
        Simple name of Kafka's exception.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def has_connector(spark: SparkSession) -> bool:
    """Return whether the session was started with Spark's connector for Kafka."""
    provider = _jvm(spark).org.apache.spark.sql.kafka010.KafkaSourceProvider
    return isinstance(provider, JavaClass)


def describe_topic(spark: SparkSession, servers: str, topic: str, timeout_seconds: float) -> None:
    """Make sure that a broker answers and has a topic.

    Raises
    ------
    BrokerError
    """
    jvm = _jvm(spark)
    milliseconds = str(int(timeout_seconds * 1000))
    properties = jvm.java.util.HashMap()
    properties["bootstrap.servers"] = servers
    properties["request.timeout.ms"] = milliseconds
    properties["default.api.timeout.ms"] = milliseconds
    try:
        client = jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
        try:
            topics = jvm.java.util.Collections.singleton(topic)
            client.describeTopics(topics).allTopicNames().get()
        finally:
            client.close(jvm.java.time.Duration.ofSeconds(_CLOSE_SECONDS))
    except Py4JJavaError as error:
        raise _innermost(error) from error


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm


def _innermost(error: Py4JJavaError) -> BrokerError:
    """Return the first cause of a Java exception."""
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return BrokerError(cause.getClass().getSimpleName(), cause.getMessage())
