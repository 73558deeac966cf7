"""A replay: files as a stream, scored and learned batch by batch until they are read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time

from pyspark.sql import DataFrame, SparkSession

from app.config import ReplaySettings
from app.monitor.batch_log import BatchLog, BatchRecord, RunSummary, Tally, Totals
from app.monitor.progress import Listener
from app.registry.opening import open_model
from app.registry.patience import Patience
from app.registry.snapshots import Retention
from app.streaming.binding import BoundModel, Roles, bind_model, find_classes
from app.streaming.fed_inputs import FedInputs
from app.streaming.inputs import InputTable, count_rows, read_layout, remember_files
from app.streaming.loop import MicroBatchLoop
from app.streaming.outputs import Outputs
from app.streaming.packed_rows import unpacked
from app.streaming.replay_source import MOST_ROWS_AT_ONCE, ReplaySource
from app.streaming.running import prepare_workdir, query_of, run_query, summary_of
from app.streaming.schema import parse_and_validate
from app.streaming.scoring import check_executor_url, import_model, in_background, scoring
from app.streaming.session import QUERY_CONF, configured, spark_session

_LEAST_ROWS_PER_TASK = 2000


def replay(settings: ReplaySettings, listener: Listener | None = None) -> RunSummary:
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
    check_executor_url(settings)
    layout = read_layout(settings)
    workdir = prepare_workdir(settings.workdir)
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
            on_launched=lambda: stack.callback(in_background(import_model).join),
        )
        bound = bind_model(
            settings,
            layout,
            Roles(settings.label, settings.id, settings.time),
            registry,
            lambda: find_classes(layout, settings.label, listener.warned),
        )
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
        tally = Tally()

        def on_batch(record: BatchRecord) -> None:
            tally.add(record)
            listener.committed(record)

        tasks = scoring_tasks(spark.sparkContext.defaultParallelism, settings.rows_per_batch)
        rows_per_task = math.ceil(settings.rows_per_batch / tasks)
        scorers = stack.enter_context(
            scoring(spark, settings, opened, bound.contract.n_features, rows_per_task, tasks)
        )
        outputs = Outputs(workdir, bound.contract, scorers.udf)
        stack.callback(outputs.close)
        in_background(bound.classifier.compile)
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
            before_scoring=scorers.warming.join,
        )
        stack.enter_context(configured(spark, QUERY_CONF))
        stream = _read(spark, layout, bound, settings.rows_per_batch, rows_per_task, tasks)
        run_query(stream, loop, workdir / "checkpoint", available_now=True)
        head = registry.current()
    return summary_of(tally, log, loop, head, started)


def scoring_tasks(cores: int, rows_per_batch: int) -> int:
    """Return how many tasks are to score a batch of so many rows.

    The learner has a core to itself, and no task has less to do than it costs.

    >>> [scoring_tasks(cores, rows_per_batch=10_000) for cores in (1, 2, 4, 64)]
    [1, 1, 3, 5]
    """
    return max(1, min(cores - 1, rows_per_batch // _LEAST_ROWS_PER_TASK))


def _read(
    spark: SparkSession,
    layout: InputTable,
    bound: BoundModel,
    rows_per_batch: int,
    rows_per_task: int,
    tasks: int,
) -> DataFrame:
    spark.dataSource.register(ReplaySource)
    packed = (
        spark.readStream.format(ReplaySource.name())
        .option("files", json.dumps(layout.files))
        .option("format", layout.file_format)
        .option("schema", layout.schema.json())
        .option("rows_per_batch", rows_per_batch)
        .option("rows_per_value", min(rows_per_task, MOST_ROWS_AT_ONCE))
        .load()
    )
    if tasks > 1:
        packed = packed.repartition(tasks)
    rows = unpacked(packed, layout.schema)
    return parse_and_validate(rows, bound.contract, layout.file_format)
