"""What a Spark query fails with, taken apart without its texts where Spark names the cause."""

from __future__ import annotations

from collections.abc import Iterator

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

SPARK_ERRORS: tuple[type[Exception], ...] = (PySparkException, Py4JError)
"""What Spark raises, in its own classes or in those of the bridge to Java."""

# Two drivers on one checkpoint.
_CHECKPOINT_TAKEN = "CONCURRENT_STREAM_LOG_UPDATE"


def is_checkpoint_taken(error: BaseException) -> bool:
    """Return whether another query has written to the checkpoint meanwhile."""
    return any(
        isinstance(cause, PySparkException) and cause.getCondition() == _CHECKPOINT_TAKEN
        for cause in _causes(error)
    )


def first_line_of_cause(error: BaseException) -> str:
    """Return the line of an error, Java's or a Python worker's, that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("at ", "File ", "JVM stacktrace"))]
    raised = [line for line in said if "Error: " in line or "Exception: " in line]
    return (raised or said or ["no reason was given"])[-1]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        # PySpark keeps Java's cause beside Python's own.
        cause = getattr(cause, "_cause", None) or cause.__cause__
