"""Running one query to its end, whatever ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from app.errors import StreamFailedError, UserError
from app.streaming.loop import MicroBatchLoop
from app.streaming.spark.bridge import stop_query
from app.streaming.spark.failures import SPARK_ERRORS, is_checkpoint_taken, line_of_cause
from app.streaming.spark.runtime import hadoop_path

_POLL_SECONDS = 0.2
_COMMIT_SECONDS = 30.0


class _Stopped(Exception):
    """Raised to Spark for a batch that is not begun because the run is to end."""


class StopRequest:
    """Asks a running query to end after the batch in hand.

    May be made from a signal handler.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()

    def __call__(self) -> None:
        self._asked.set()

    @property
    def was_made(self) -> bool:
        return self._asked.is_set()


class _Gate:
    """The loop as Spark calls it, closed between two batches when the run is to end."""

    def __init__(self, loop: MicroBatchLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._closed = False
        self.last: int | None = None

    def __call__(self, df: DataFrame, batch: int) -> None:
        with self._lock:
            if self._closed:
                raise _Stopped
            self._loop(df, batch)
            self.last = batch

    def close(self) -> None:
        """Wait for the batch in hand to be done, and let none begin any more."""
        with self._lock:
            self._closed = True

    @property
    def is_closed(self) -> bool:
        return self._closed


def run_query(
    stream: DataFrame,
    loop: MicroBatchLoop,
    checkpoint: Path,
    *,
    available_now: bool,
    is_to_end: Callable[[], bool],
    on_start: Callable[[], None] = lambda: None,
    explain: Callable[[Exception], str | None] = lambda error: None,
) -> bool:
    """Run a loop over a stream until it ends, fails, or is to end.

    Parameters
    ----------
    stream
    loop
    checkpoint
    available_now
        End when what is there at the start has been read.
    is_to_end
        Asked a few times a second: whether the query is to end after the batch in hand.
    on_start
        Called when the query is up.
    explain
        Returns the cause of a failure where it knows it better than Spark.

    Returns
    -------
    bool
        Whether the stream ended by itself.

    Raises
    ------
    HedgestreamError
        With the query, the batch and the version it died in, when the cause is not
        one of the project's own.
    """
    gate = _Gate(loop)
    writer = stream.writeStream.foreachBatch(gate).option(
        "checkpointLocation", hadoop_path(checkpoint)
    )
    if available_now:
        writer = writer.trigger(availableNow=True)
    query = writer.start()
    try:
        on_start()
        _wait_for_end(query, gate, checkpoint, is_to_end)
    except PySparkException as error:
        if gate.is_closed and loop.failure is None:
            return False
        raise _failure(query, loop, checkpoint, error, explain) from error
    finally:
        stop_query(query, gate.close)
    return not gate.is_closed


def _wait_for_end(
    query: StreamingQuery, gate: _Gate, checkpoint: Path, is_to_end: Callable[[], bool]
) -> None:
    """Wait until the query has ended, or may be ended between two batches."""
    while not _has_ended(query, _POLL_SECONDS):
        if is_to_end():
            gate.close()
            _wait_for_commit(query, checkpoint, gate.last)
            return


def _wait_for_commit(query: StreamingQuery, checkpoint: Path, batch: int | None) -> None:
    """Wait until Spark has committed the batch that the loop has done."""
    deadline = time.monotonic() + _COMMIT_SECONDS
    # Not by the query's progress: an idle trigger reports the number of a batch yet to come.
    commit = checkpoint / "commits" / str(batch)
    while batch is not None and not commit.exists() and time.monotonic() < deadline:
        if _has_ended(query, _POLL_SECONDS / 10):
            return


def _has_ended(query: StreamingQuery, seconds: float) -> bool:
    """Wait for the end of a query for so long, and return whether it came."""
    return bool(query.awaitTermination(seconds))  # type: ignore[arg-type]  # Takes fractions too.


def _failure(
    query: StreamingQuery,
    loop: MicroBatchLoop,
    checkpoint: Path,
    error: PySparkException,
    explain: Callable[[Exception], str | None],
) -> Exception:
    """Return the exception that the end of a query is raised as."""
    if is_checkpoint_taken(error):
        return loop.overtaken() or StreamFailedError(
            f"query {query.id} found the files of its checkpoint {checkpoint} changed by something "
            "else while it ran, or damaged; no newer learner has begun on it. Run the same command "
            "again to learn which file is missing, and restore it"
        )
    failure = loop.failure or error
    where = "before its first batch"
    if loop.batch is not None:
        where = f"in batch {loop.batch} on version {loop.version}"
    where = f"query {query.id} failed {where}"
    if isinstance(failure, (*SPARK_ERRORS, UserError)):
        # A Python worker's errors come as Spark's.
        return StreamFailedError(f"{where}: {explain(failure) or line_of_cause(failure)}")
    failure.add_note(where)
    return failure
