"""A replay: files as a stream, scored and learned batch by batch until they are read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from app.config import ReplaySettings
from app.errors import StaleLearnerError, StreamFailedError, UserError
from app.monitor.batch_log import BatchLog, BatchRecord, Totals
from app.monitor.progress import Listener
from app.registry.head import READER_TIMEOUT_SECONDS, HeadStore
from app.registry.opening import OpenModel, open_model
from app.registry.patience import Patience
from app.registry.record import HeadRecord
from app.registry.snapshots import Retention
from app.registry.url import check_redis_url
from app.streaming.binding import BoundModel, bind_model
from app.streaming.fed_inputs import FedInputs, query_of
from app.streaming.inputs import InputTable, count_rows, read_layout, remember_files
from app.streaming.loop import MicroBatchLoop
from app.streaming.outputs import Outputs
from app.streaming.replay_source import ReplaySource
from app.streaming.schema import parse_and_validate
from app.streaming.session import spark_session
from app.streaming.sinks import hadoop_path
from udfs.model_cache import ModelSource
from udfs.score import score_udf

_WARM_UP_ROWS = 4096

# Spark's own word for two drivers on one checkpoint.
_CHECKPOINT_TAKEN = "CONCURRENT_STREAM_LOG_UPDATE"


@dataclass(frozen=True)
class ReplaySummary:
    """What a replay did, and where the model stands.

    Attributes
    ----------
    run : Totals
        Of this run.
    total : Totals
        Of all runs in the work directory.
    version : int
    state_sha256 : str
    seconds : float
        Wall time of this run.
    """

    run: Totals
    total: Totals
    version: int
    state_sha256: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self.run) | {
            "version": self.version,
            "state_sha256": self.state_sha256,
            "seconds": round(self.seconds, 3),
            "total": dataclasses.asdict(self.total),
        }


def replay(settings: ReplaySettings, listener: Listener | None = None) -> ReplaySummary:
    """Replay the input from where the work directory left off, and return what was done.

    Parameters
    ----------
    settings : ReplaySettings
    listener : Listener, optional
        Told of what happens while it happens.

    Raises
    ------
    UserError
        When an option, a column or a file cannot be used.
    HedgestreamError
        When the run cannot go on.
    """
    started = time.perf_counter()
    listener = listener or Listener()
    _check_executor_url(settings)
    layout = read_layout(settings)
    workdir = _prepare_workdir(settings.workdir)
    with contextlib.ExitStack() as stack:
        retention = Retention(settings.keep_snapshots, settings.keep_every)
        opened = stack.enter_context(
            open_model(
                workdir,
                settings.redis_url,
                settings.model,
                snapshots=settings.snapshots,
                retention=retention,
            )
        )
        registry = opened.registry
        # Joined before an error can be printed: the import drops standard error meanwhile.
        spark = spark_session(
            "hedgestream replay",
            on_launched=lambda: stack.callback(_in_background(_import_model).join),
        )
        bound = bind_model(settings, layout, registry, listener.warned)
        delta_table = settings.input if settings.format == "delta" else None
        query = query_of(workdir / "checkpoint")
        if query is None:
            # Without the checkpoint there is no offset that counts the files remembered.
            (workdir / "input.json").unlink(missing_ok=True)
        files = remember_files(workdir / "input.json", layout, delta_table)
        layout = dataclasses.replace(layout, files=files)
        fed = FedInputs(registry.directory / "inputs")
        if not settings.allow_relearn:
            fed.refuse_learned(files, query, registry.current())
        log = BatchLog(workdir / "batches")
        listener.started(max(0, count_rows(layout) - Totals.of(log.read()).rows_in))
        records: list[BatchRecord] = []

        def on_batch(record: BatchRecord) -> None:
            records.append(record)
            listener.committed(record)

        scoring = stack.enter_context(_scoring(spark, settings, bound, opened))
        outputs = Outputs(workdir, bound.contract, scoring.udf)
        stack.callback(outputs.close)
        _in_background(bound.classifier.compile)
        loop = MicroBatchLoop(
            registry=registry,
            outputs=outputs,
            log=log,
            metadata=bound.metadata,
            classifier=bound.classifier,
            patience=Patience(settings.registry_patience, listener.warned),
            on_query=lambda query: fed.register(query, files, layout.file_format == "csv"),
            on_batch=on_batch,
            warn=listener.warned,
            before_scoring=scoring.warming.join,
        )
        stream = _read(spark, layout, bound, settings.rows_per_batch)
        _run(stream, loop, workdir / "checkpoint")
        head = registry.current()
    return ReplaySummary(
        run=Totals.of(records),
        total=Totals.of(log.read()),
        version=head.version,
        state_sha256=head.state_sha256,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _Scoring:
    """The scoring side of a run.

    Attributes
    ----------
    udf : callable
        Gives the UDF that scores with a version or a later one.
    warming : Thread
        Readies the first Python worker.
    """

    udf: Callable[[HeadRecord], Callable[[str], Column]]
    warming: threading.Thread


@contextlib.contextmanager
def _scoring(
    spark: SparkSession, settings: ReplaySettings, bound: BoundModel, opened: OpenModel
) -> Iterator[_Scoring]:
    registry = opened.registry
    head = registry.current()
    first = spark.sparkContext.broadcast((head, registry.read_bytes(head)))
    source = ModelSource(
        redis_url=settings.executor_redis_url or opened.redis_url,
        model=settings.model,
        run=secrets.token_hex(8),
        first=first,
        floor=head,
        snapshots=str(registry.directory.resolve()),
        fail_on_outage=settings.on_registry_outage == "fail",
    )

    def udf(floor: HeadRecord) -> Callable[[str], Column]:
        return score_udf(dataclasses.replace(source, floor=floor))

    warming = _in_background(
        _warm_worker, spark, udf(head), bound.contract.n_features, settings.rows_per_batch
    )
    try:
        yield _Scoring(udf, warming)
    finally:
        # A worker that is still warming up would be busy when the next query needs one.
        warming.join()
        first.destroy()


def _check_executor_url(settings: ReplaySettings) -> None:
    """Try the scorers' URL here, and not first in a Python worker, which would go on without."""
    url = settings.executor_redis_url
    if url is not None:
        check_redis_url(url, "executor_redis_url")
        with contextlib.closing(HeadStore(url, settings.model, READER_TIMEOUT_SECONDS)) as heads:
            heads.read_current()


def _read(
    spark: SparkSession, layout: InputTable, bound: BoundModel, rows_per_batch: int
) -> DataFrame:
    spark.dataSource.register(ReplaySource)
    rows = (
        spark.readStream.format(ReplaySource.name())
        .option("files", json.dumps(layout.files))
        .option("format", layout.file_format)
        .option("schema", layout.schema.json())
        .option("rows_per_batch", rows_per_batch)
        .load()
    )
    return parse_and_validate(rows, bound.contract, layout.file_format)


def _run(stream: DataFrame, loop: MicroBatchLoop, checkpoint: Path) -> None:
    query = (
        stream.writeStream.foreachBatch(loop)
        .option("checkpointLocation", hadoop_path(checkpoint))
        .trigger(availableNow=True)
        .start()
    )
    try:
        query.awaitTermination()
    except PySparkException as error:
        if _CHECKPOINT_TAKEN in str(error):
            failure = StaleLearnerError(
                f"this learner of query {query.id} found its checkpoint moved on: a newer learner "
                "runs on it"
            )
            raise failure from error
        failure = loop.failure or error
        if isinstance(failure, PySparkException):
            # A Python worker's errors come as Spark's.
            failure = StreamFailedError(_cause(query.id, failure))
        raise failure from error
    finally:
        query.stop()


def _in_background(work: Callable[..., None], *args: object) -> threading.Thread:
    """Start work that a later step would do itself if it were not done, or failed."""
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


def _import_model() -> None:
    """Import TensorFlow while the JVM starts."""
    import app.model.classifier  # noqa: F401
    from app.model.backend import use_one_thread

    use_one_thread()


def _warm_worker(
    spark: SparkSession, score: Callable[[str], Column], n_features: int, rows: int
) -> None:
    """Have a Python worker load and compile the model while the query starts."""
    zeros = F.array_repeat(F.lit(0.0).cast("float"), n_features).alias("features")
    warmed = spark.range(0, min(rows, _WARM_UP_ROWS), 1, 1).select(zeros).select(score("features"))
    with contextlib.suppress(PySparkException):
        warmed.write.format("noop").mode("overwrite").save()


def _cause(query_id: str, error: PySparkException) -> str:
    """Return the line of a failed query's error that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("at ", "File ", "JVM stacktrace"))]
    raised = [line for line in told if "Error: " in line or "Exception: " in line]
    return f"query {query_id} failed: {(raised or told or ['no reason was given'])[-1]}"


def _prepare_workdir(workdir: Path) -> Path:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir: {workdir} cannot be made: {error.strerror}") from error
    if not os.access(workdir, os.W_OK):
        raise UserError(f"--workdir: {workdir} is not writable")
    return workdir.resolve()
