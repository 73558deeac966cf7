"""What a Spark query fails with."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException

from app.errors import HedgestreamError, StreamFailedError
from app.streaming.spark.bridge import LOST, is_lost, quiet_bridge

SPARK_ERRORS: tuple[type[Exception], ...] = (PySparkException, Py4JError)
"""What Spark raises, in its own classes or in those of the bridge to Java."""

# Two drivers on one checkpoint, or files of it that are gone.
_CHECKPOINT_TAKEN = "CONCURRENT_STREAM_LOG_UPDATE"

# What follows the message: the state and the plan of the query, where in the program the
# expression is, the plan that could not be resolved, or a trace.
_DUMPS = re.compile(
    r"\n=== Streaming Query ===|\n\n?JVM stacktrace:|\n== (?:DataFrame|SQL)\b|SQLSTATE: \w{5};"
)
_QUERY = re.compile(r"\A\[STREAM_FAILED\] Query \[.*?\] terminated with exception:\s*")
_SQLSTATE = re.compile(r"\s*\(?SQLSTATE: \w{5}\)?")
_JSON_PLACE = re.compile(r"\s+at \[Source: [^\n]*\]")

_PYTHON_TRACE = "Traceback (most recent call last):"
# Its last lines are not indented: the exception's class, and its message.
_PYTHON_CAUSE = re.compile(r"^\S.*", re.MULTILINE | re.DOTALL)
_FROM_JAVA = "py4j.protocol.Py4JJavaError: "
# Of exceptions whose message speaks for itself.
_KNOWN_CLASS = re.compile(r"\A(?:app\.errors|pyspark\.errors[\w.]*)\.\w+: ")

_JAVA_FRAME = re.compile(r"\n(?:\s+at (?!\[Source)|\s+\.\.\. \d+ more|Driver stacktrace:)[^\n]*")
_JAVA_CAUSE = re.compile(r"^(?:: |Caused by: )", re.MULTILINE)
_TASK = re.compile(r"\AJob aborted due to stage failure: .*? executor \S+\): ", re.DOTALL)
_JAVA_PACKAGE = re.compile(r"\A(?:[a-z_]\w*\.)+(?=[A-Z])")
# Spark says it in these words, or only finds the connection to a Python process closed.
_WORKER_DIED = re.compile(
    r"Python worker exited unexpectedly|(?:EOFException|SocketException)[^\n]*"
    r"(?:\n\s+at java\.[^\n]*)*\n\s+at org\.apache\.spark\.[\w.]*\bpython\b"
)
_WORKER_LATE = "Python worker failed to connect back"


@contextlib.contextmanager
def spark_failures() -> Iterator[None]:
    """Raise what Spark fails with in a block as the project's own exception, and print none of it.

    Raises
    ------
    StreamFailedError
        In one line.
    """
    try:
        with quiet_bridge():
            yield
    except HedgestreamError:
        raise
    except Exception as error:
        if is_lost(error):
            raise StreamFailedError(LOST) from error
        if isinstance(error, SPARK_ERRORS):
            raise StreamFailedError(f"Spark failed: {line_of_cause(error)}") from error
        raise


def is_checkpoint_taken(error: PySparkException) -> bool:
    """Return whether Spark found its checkpoint changed meanwhile.

    Another query may have written to it, or files of it may have been removed.
    """
    return _CHECKPOINT_TAKEN in _conditions(error)


def line_of_cause(error: BaseException) -> str:
    """Return in one line what made Spark fail, in the words of what failed first.

    Parameters
    ----------
    error
        As Spark raised it, with traces of Python and Java, and a dump of the query.
    """
    if is_lost(error):
        return LOST
    try:
        text = str(error)
    except Exception:
        # A message of Java's is asked of the JVM.
        return LOST
    trace = f"{text}\n{getattr(error, '_stackTrace', '')}"
    text = _QUERY.sub("", _DUMPS.split(text, maxsplit=1)[0])
    said = _of_python(text)
    if said is None and _WORKER_DIED.search(trace):
        return "a Python worker has ended unexpectedly (was it killed, or out of memory?)"
    if said is None and _WORKER_LATE in text:
        return (
            "a Python worker did not start within the ten seconds that Spark gives it (is the "
            "machine overloaded?). Run the same command again to go on"
        )
    said = said or _of_java(text)
    said = _JSON_PLACE.sub("", _SQLSTATE.sub("", said))
    return " ".join(said.split()) or f"{type(error).__name__} without a message"


def _of_python(text: str) -> str | None:
    """Return the exception that the last Python trace in a text ends with."""
    _, found, trace = text.rpartition(_PYTHON_TRACE)
    if not found:
        return None
    cause = _PYTHON_CAUSE.search(_JAVA_FRAME.split(trace.lstrip("\n"), maxsplit=1)[0])
    if cause is None or cause[0].startswith(_FROM_JAVA):
        return None
    return _KNOWN_CLASS.sub("", cause[0])


def _of_java(text: str) -> str:
    """Return the innermost cause in a trace of Java's that has a message, or what is no trace."""
    first, *causes = _JAVA_CAUSE.split(_JAVA_FRAME.sub("", text))
    said = next((cause for cause in reversed(causes) if ": " in cause), first)
    return _JAVA_PACKAGE.sub("", _TASK.sub("", _JAVA_PACKAGE.sub("", said)))


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
