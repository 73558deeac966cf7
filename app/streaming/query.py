"""Running one query to its end, whatever ends it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from app.errors import StaleLearnerError, StreamFailedError, UserError
from app.streaming.loop import MicroBatchLoop
from app.streaming.spark.failures import SPARK_ERRORS, first_line_of_cause, is_checkpoint_taken
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
    stop: StopRequest | None = None,
    explain: Callable[[Exception], str | None] = lambda error: None,
) -> None:
    """Run a loop over a stream until it ends, fails, or is asked to stop.

    Parameters
    ----------
    stream
    loop
    checkpoint
    available_now
        End when what is there at the start has been read.
    stop
        Ends the query after the batch in hand.
    explain
        Returns the cause of a failure where it knows it better than Spark.

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
        _wait_for_end(query, gate, checkpoint, stop)
    except PySparkException as error:
        if gate.is_closed and loop.failure is None:
            return
        raise _failure(query, loop, error, explain) from error
    finally:
        query.stop()


def _wait_for_end(
    query: StreamingQuery, gate: _Gate, checkpoint: Path, stop: StopRequest | None
) -> None:
    """Wait until the query has ended, or may be ended between two batches."""
    while not _has_ended(query, _POLL_SECONDS):
        if stop is not None and stop.was_made:
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
    error: PySparkException,
    explain: Callable[[Exception], str | None],
) -> Exception:
    """Return the exception that the end of a query is raised as."""
    if is_checkpoint_taken(error):
        return StaleLearnerError(
            f"this learner of query {query.id} found its checkpoint moved on: a newer learner "
            "runs on it"
        )
    failure = loop.failure or error
    where = "before its first batch"
    if loop.batch is not None:
        where = f"in batch {loop.batch} on version {loop.version}"
    where = f"query {query.id} failed {where}"
    if isinstance(failure, (*SPARK_ERRORS, UserError)):
        # A Python worker's errors come as Spark's.
        return StreamFailedError(f"{where}: {explain(failure) or first_line_of_cause(failure)}")
    failure.add_note(where)
    return failure


def query_of(checkpoint: Path) -> str | None:
    """Return the id of the query that a checkpoint belongs to, or None before its first start."""
    metadata = checkpoint / "metadata"
    return json.loads(metadata.read_bytes())["id"] if metadata.exists() else None
