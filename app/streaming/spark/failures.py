"""What a Spark query fails with."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException

SPARK_ERRORS: tuple[type[Exception], ...] = (PySparkException, Py4JError)
"""What Spark raises, in its own classes or in those of the bridge to Java."""

# Two drivers on one checkpoint.
_CHECKPOINT_TAKEN = "CONCURRENT_STREAM_LOG_UPDATE"


def is_checkpoint_taken(error: PySparkException) -> bool:
    """Return whether another query has written to the checkpoint meanwhile."""
    return _CHECKPOINT_TAKEN in _conditions(error)


def first_line_of_cause(error: BaseException) -> str:
    """Return the line of an error, Java's or a Python worker's, that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("at ", "File ", "JVM stacktrace"))]
    raised = [line for line in said if "Error: " in line or "Exception: " in line]
    return (raised or said or ["no reason was given"])[-1]


@contextlib.contextmanager
def quiet_gateway() -> Iterator[None]:
    """Keep the bridge to Java from logging each exception that foreachBatch then raises anyway."""
    logger = logging.getLogger("py4j")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _conditions(error: PySparkException) -> Iterator[str]:
    """Yield the error conditions that Spark gives an exception and its causes.

    PySpark keeps those of the exception alone: a cause of a class that it does not know has none
    in Python.
    """
    gateway: Any = SparkContext._gateway
    cause: Any = getattr(error, "_origin", None)
    while gateway is not None and cause is not None:
        if is_instance_of(gateway, cause, "org.apache.spark.SparkThrowable"):
            yield gateway.jvm.PythonErrorUtils.getCondition(cause)
        cause = cause.getCause()
