"""The bridge between Python and Spark's JVM, and what is left of it when the JVM has ended."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError, Py4JNetworkError
from pyspark import SparkContext
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

LOST = (
    "Spark's JVM has ended (was it killed, or out of memory?). Run the same command again to go "
    "on; if it ends again, give it more memory: spark-submit --driver-memory 4g"
)

_PROBE_SECONDS = 2.0

# Of modules of the bridge that log to the root.
_BRIDGE_MODULES = ("java_gateway", "clientserver")

_CONTEXT_LOGGERS = ("DataFrameQueryContextLogger", "SQLQueryContextLogger")


def is_lost(error: BaseException) -> bool:
    """Return whether an error comes of the end of the JVM."""
    if isinstance(error, Py4JJavaError):
        # Java itself has answered.
        return False
    if isinstance(error, Py4JNetworkError):
        return True
    return isinstance(error, (Py4JError, ConnectionError, EOFError)) and has_ended()


def has_ended() -> bool:
    """Return whether there was a JVM, and nobody answers in its place any more."""
    gateway = SparkContext._gateway
    if gateway is None:
        return False
    process = gateway.__dict__.get("proc")
    if process is not None and process.poll() is not None:
        return True
    java = gateway.gateway_parameters
    try:
        with socket.create_connection((java.address, java.port), _PROBE_SECONDS):
            return False
    except OSError:
        return True


def forget_ended() -> None:
    """Let the next session of this process start a JVM of its own, if the one there was has ended.

    Notebooks live on.
    """
    if not has_ended():
        return
    context: Any = SparkContext._active_spark_context
    if context is not None and context._accumulatorServer is not None:
        context._accumulatorServer.shutdown()
    SparkContext._active_spark_context = None
    SparkContext._gateway = None
    SparkContext._jvm = None
    SparkSession._instantiatedSession = None


@contextlib.contextmanager
def unless_lost() -> Iterator[None]:
    """Put right within a block what the end of the JVM puts right as well."""
    try:
        yield
    except Exception as error:
        if not is_lost(error):
            raise


def stop_query(query: StreamingQuery, wait: Callable[[], None]) -> None:
    """Stop a query. Where there is no JVM that would, ``wait`` for its batch in hand."""
    try:
        query.stop()
    except Exception as error:
        if not is_lost(error):
            raise
        wait()


@contextlib.contextmanager
def quiet_bridge() -> Iterator[None]:
    """Keep the bridge from printing within a block what it raises anyway."""
    py4j, root = logging.getLogger("py4j"), logging.getLogger()
    quiet = [py4j, *map(PySparkLogger.getLogger, _CONTEXT_LOGGERS)]
    levels = [logger.level for logger in quiet]
    for logger in quiet:
        logger.setLevel(logging.CRITICAL)
    root.addFilter(_is_of_others)
    try:
        yield
    finally:
        root.removeFilter(_is_of_others)
        for logger, level in zip(quiet, levels, strict=True):
            logger.setLevel(level)


def quiet_accumulators(context: SparkContext) -> None:
    """Keep the server that a context takes accumulators with from printing that the JVM ended."""
    server: Any = context._accumulatorServer
    print_error = type(server).handle_error

    def handle_error(request: object, address: object) -> None:
        if not isinstance(sys.exc_info()[1], (EOFError, ConnectionError)):
            print_error(server, request, address)

    server.handle_error = handle_error


def _is_of_others(record: logging.LogRecord) -> bool:
    return record.module not in _BRIDGE_MODULES
