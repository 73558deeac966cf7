"""A replay: files as a stream, scored and learned batch by batch until they are read."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
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
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from app.config import ReplaySettings
from app.errors import StreamFailedError, UserError
from app.monitor.batch_log import BatchLog, BatchRecord, Totals
from app.monitor.progress import Listener
from app.registry.embedded import EmbeddedRedis
from app.registry.head import HeadStore
from app.registry.registry import ModelRegistry
from app.registry.snapshots import SnapshotStore
from app.streaming.binding import BoundModel, bind_model
from app.streaming.inputs import InputTable, count_rows, read_layout, remember_files
from app.streaming.loop import MicroBatchLoop
from app.streaming.replay_source import ReplaySource
from app.streaming.schema import parse_and_validate
from app.streaming.session import spark_session
from app.streaming.sinks import hadoop_path
from udfs.model_cache import ModelSource
from udfs.score import score_udf

_WARM_UP_ROWS = 4096


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
    layout = read_layout(settings)
    workdir = _prepare_workdir(settings.workdir)
    with contextlib.ExitStack() as stack:
        if settings.redis_url is None:
            stack.enter_context(_sole_run(workdir))
            redis_url = stack.enter_context(EmbeddedRedis()).url
        else:
            redis_url = settings.redis_url
        heads = HeadStore(redis_url, settings.model)
        stack.callback(heads.close)
        registry = ModelRegistry(heads, SnapshotStore(workdir / "snapshots"))
        registry.recover()
        # Joined before an error can be printed: the import drops standard error meanwhile.
        spark = spark_session(
            "hedgestream replay",
            on_launched=lambda: stack.callback(_in_background(_import_model).join),
        )
        bound = bind_model(settings, layout, registry, listener.warned)
        delta_table = settings.input if settings.format == "delta" else None
        files = remember_files(workdir / "input.json", layout, delta_table)
        layout = dataclasses.replace(layout, files=files)
        log = BatchLog(workdir / "batches")
        listener.started(max(0, count_rows(layout) - Totals.of(log.read()).rows_in))
        records: list[BatchRecord] = []

        def on_batch(record: BatchRecord) -> None:
            records.append(record)
            listener.committed(record)

        _run_query(spark, settings, layout, bound, registry, redis_url, on_batch)
        head = heads.read()
    return ReplaySummary(
        run=Totals.of(records),
        total=Totals.of(log.read()),
        version=head.version,
        state_sha256=head.state_sha256,
        seconds=time.perf_counter() - started,
    )


def _run_query(
    spark: SparkSession,
    settings: ReplaySettings,
    layout: InputTable,
    bound: BoundModel,
    registry: ModelRegistry,
    redis_url: str,
    on_batch: Callable[[BatchRecord], None],
) -> None:
    head = registry.heads.read()
    first = spark.sparkContext.broadcast(
        (head.version, head.state_sha256, registry.read_bytes(head))
    )
    source = ModelSource(redis_url, settings.model, secrets.token_hex(8), first)
    score = score_udf(source)
    _in_background(bound.classifier.compile)
    warming = _in_background(
        _warm_worker, spark, score, bound.contract.n_features, settings.rows_per_batch
    )
    spark.dataSource.register(ReplaySource)
    loop = MicroBatchLoop(
        registry=registry,
        contract=bound.contract,
        score=score,
        workdir=settings.workdir.resolve(),
        metadata=bound.metadata,
        classifier=bound.classifier,
        on_batch=on_batch,
        before_scoring=warming.join,
    )
    source_rows = (
        spark.readStream.format(ReplaySource.name())
        .option("files", json.dumps(layout.files))
        .option("format", layout.file_format)
        .option("schema", layout.schema.json())
        .option("rows_per_batch", settings.rows_per_batch)
        .load()
    )
    stream = parse_and_validate(source_rows, bound.contract, layout.file_format)
    query = (
        stream.writeStream.foreachBatch(loop)
        .option("checkpointLocation", hadoop_path(settings.workdir.resolve() / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    try:
        query.awaitTermination()
    except PySparkException as error:
        raise (loop.failure or StreamFailedError(_cause(query.id, error))) from error
    finally:
        query.stop()
        loop.close()
        # A worker that is still warming up would be busy when the next query needs one.
        warming.join()
        first.destroy()


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


@contextlib.contextmanager
def _sole_run(workdir: Path) -> Iterator[None]:
    """Keep a second run with a redis-server of its own out of the work directory."""
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"--workdir: another run is using {workdir}") from error
        yield
