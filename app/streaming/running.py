"""Running one query to its end, whatever ends it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql.streaming import StreamingQuery

from app.errors import StaleLearnerError, StreamFailedError, UserError
from app.monitor.batch_log import BatchLog, RunSummary, Tally, Totals
from app.registry.record import HeadRecord
from app.streaming.loop import MicroBatchLoop
from app.streaming.sinks import hadoop_path

# Spark's own word for two drivers on one checkpoint.
_CHECKPOINT_TAKEN = "CONCURRENT_STREAM_LOG_UPDATE"

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
    stream : DataFrame
    loop : MicroBatchLoop
    checkpoint : Path
    available_now : bool
        End when what is there at the start has been read.
    stop : StopRequest, optional
    explain : callable
        Tells the cause of a failure that it knows better.

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
    while not query.awaitTermination(_POLL_SECONDS):
        if stop is not None and stop.was_made:
            gate.close()
            _wait_for_commit(query, checkpoint, gate.last)
            return


def _wait_for_commit(query: StreamingQuery, checkpoint: Path, batch: int | None) -> None:
    """Wait until Spark has committed the batch that the loop has done."""
    deadline = time.monotonic() + _COMMIT_SECONDS
    commit = checkpoint / "commits" / str(batch)
    while batch is not None and not commit.exists() and time.monotonic() < deadline:
        if query.awaitTermination(_POLL_SECONDS / 10):
            return


def _failure(
    query: StreamingQuery,
    loop: MicroBatchLoop,
    error: PySparkException,
    explain: Callable[[Exception], str | None],
) -> Exception:
    """Return what a query's end is to be told as."""
    if _CHECKPOINT_TAKEN in str(error):
        return StaleLearnerError(
            f"this learner of query {query.id} found its checkpoint moved on: a newer learner "
            "runs on it"
        )
    failure = loop.failure or error
    where = "before its first batch"
    if loop.batch is not None:
        where = f"in batch {loop.batch} on version {loop.version}"
    where = f"query {query.id} failed {where}"
    if isinstance(failure, (PySparkException, Py4JError, UserError)):
        # A Python worker's errors come as Spark's.
        return StreamFailedError(f"{where}: {explain(failure) or _cause(failure)}")
    failure.add_note(where)
    return failure


def _cause(error: Exception) -> str:
    """Return the line of a failed query's error that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("at ", "File ", "JVM stacktrace"))]
    raised = [line for line in told if "Error: " in line or "Exception: " in line]
    return (raised or told or ["no reason was given"])[-1]


def summary_of(
    tally: Tally, log: BatchLog, loop: MicroBatchLoop, head: HeadRecord, started: float
) -> RunSummary:
    """Return what a run did that was started at ``started``, by ``time.perf_counter``."""
    totals = Totals.of(log.read())
    ended = time.perf_counter()
    began, last = (ended, ended) if loop.began is None else (loop.began, loop.ended)
    tally.count({"start_up": began - started, "end": ended - last})
    first = loop.first_predicted
    return RunSummary(
        run=tally.totals(),
        total=totals,
        version=head.version,
        state_sha256=head.state_sha256,
        seconds=ended - started,
        first_prediction_seconds=None if first is None else round(first - started, 3),
    )


def query_of(checkpoint: Path) -> str | None:
    """Return the id of the query that a checkpoint belongs to, or None before its first start."""
    metadata = checkpoint / "metadata"
    return json.loads(metadata.read_bytes())["id"] if metadata.exists() else None


def prepare_workdir(workdir: Path) -> Path:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir: {workdir} cannot be made: {error.strerror}") from error
    if not os.access(workdir, os.W_OK):
        raise UserError(f"--workdir: {workdir} is not writable")
    return workdir.resolve()
