"""How a run is put together, whichever kind it is: a replay of files or a live stream."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pyspark.sql import DataFrame, SparkSession

from app.config.run import NO, YES, RunSettings
from app.contract import FixedContract
from app.errors import StoppedEarlyError, TooManyDeadLettersError, UserError
from app.files.resuming.checkpoint import Checkpoint, inspect_checkpoint
from app.files.runs import claimed
from app.files.workdir import WorkDirectory, open_workdir
from app.monitor.batch_log import BatchLog
from app.monitor.lateness import horizon_note
from app.monitor.listener import Listener
from app.monitor.metrics import RunSummary, Tally
from app.monitor.records import BatchRecord
from app.redis_io.retry import OutageRetry
from app.registry.open import OpenModel, open_model
from app.registry.packs.upkeep import KeptDays, Upkeep
from app.registry.snapshots import Retention
from app.registry.version import ModelVersion
from app.streaming.batch_writer import BatchWriter
from app.streaming.lineage import Input, Lineage, refuse_other_history
from app.streaming.loop import MicroBatchLoop
from app.streaming.model_binding import BoundModel, ModelInput, bind_model
from app.streaming.query import StopRequest, run_query
from app.streaming.rows.dead_letters import DeadLetterWatch
from app.streaming.spark.conf import configured
from app.streaming.spark.failures import spark_failures
from app.streaming.spark.runtime import task_slots
from app.streaming.spark.scorers import (
    Scorers,
    check_executor_url,
    import_model,
    in_background,
    ready_scorers,
)
from app.streaming.spark.session import spark_session


class Job(Protocol):
    """What one kind of run does in its own way. Its methods are called in this order.

    Attributes
    ----------
    name
        Shown by Spark.
    packages
        Maven coordinates that the JVM needs beyond pyspark.
    is_short
        Whether the run will end within minutes.
    ends_by_itself
        Whether the query ends when what is there at its start has been read.
    given
        What the model must be made for; None leaves it to the job.
    conf
        How Spark is to run the query.
    """

    @property
    def name(self) -> str: ...

    @property
    def packages(self) -> Sequence[str]: ...

    @property
    def is_short(self) -> bool: ...

    @property
    def ends_by_itself(self) -> bool: ...

    @property
    def conf(self) -> Mapping[str, str]: ...

    @property
    def given(self) -> FixedContract | None: ...

    def inspect(self) -> None:
        """Look at the input, before anything is made.

        Raises
        ------
        UserError
            When it cannot be used.
        """

    def checkpoint(self, workdir: WorkDirectory) -> Path:
        """Return where Spark keeps the offsets of the query."""

    def verify(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        """Make sure that what lies beside a checkpoint belongs to it, before anything is changed.

        Raises
        ------
        HedgestreamError
            When a part is gone, is an older copy, or was made with other settings.
        """

    def check(self, opened: OpenModel) -> None:
        """Compare the settings with the model, before Spark is started.

        Raises
        ------
        UserError
            When they are not enough for it.
        """

    def describe(
        self, workdir: WorkDirectory, opened: OpenModel, checkpoint: Checkpoint
    ) -> tuple[ModelInput, Input]:
        """Return what the model learns from, and what that is known again by.

        Nothing is written yet.
        """

    def design(self, listener: Listener) -> FixedContract:
        """Return what a new model is made for."""

    def notes(self) -> Sequence[str]:
        """Return what a user may not expect of the input, to be told when a query is new."""

    def begin(self, workdir: WorkDirectory, checkpoint: Checkpoint) -> None:
        """Write down what the query reads, once nothing speaks against it."""

    def rows_to_read(self) -> int | None:
        """Return how many rows are still to be read, None where that is not known."""

    def scoring_tasks(self, slots: int) -> tuple[int, int]:
        """Return how many tasks are to score a batch, and how many rows each has."""

    def writer(self, workdir: WorkDirectory, bound: BoundModel, scorers: Scorers) -> BatchWriter:
        """Return what scores a batch and writes what is to be read of it."""

    def rows(
        self, spark: SparkSession, workdir: WorkDirectory, opened: OpenModel, bound: BoundModel
    ) -> DataFrame:
        """Return the stream of rows, as the writer takes them."""

    def explain(self, error: Exception) -> str | None:
        """Return what made the query fail, where the job knows it better than Spark."""


def run(
    job: Job,
    settings: RunSettings,
    listener: Listener | None = None,
    stop: StopRequest | None = None,
) -> RunSummary:
    """Do a job from where its work directory left off, and return what was done.

    Parameters
    ----------
    job
    settings
    listener
        Hears of what happens while it happens.
    stop
        When it is made, the batch in hand is finished and committed, and the run ends.

    Raises
    ------
    UserError
        When an option, a column or a source cannot be used.
    WorkdirInUseError
        When another run is at work, and the settings say to leave it alone.
    TakenOverError
        When a newer run has come.
    StoppedEarlyError
        When ``stop`` is made before the query is up, or before one that ends by itself has.
    HedgestreamError
        When the run cannot go on.
    """
    started = time.perf_counter()
    listener = listener or Listener()
    stop = stop or StopRequest()
    check_executor_url(settings)
    job.inspect()
    workdir = open_workdir(settings.workdir)

    def check_stop() -> None:
        if stop.was_made:
            raise StoppedEarlyError(
                "asked to end before the query was up, so nothing was read; the same command goes "
                "on from there"
            )

    with contextlib.ExitStack() as stack:
        claim = stack.enter_context(
            claimed(workdir.path, settings.if_running, warn=listener.warned, check_stop=check_stop)
        )
        checkpoint = inspect_checkpoint(job.checkpoint(workdir))
        job.verify(workdir, checkpoint)
        opened = stack.enter_context(
            open_model(
                workdir.path,
                settings.redis_url,
                settings.model,
                snapshots=settings.snapshots,
                retention=Retention(settings.keep_snapshots, settings.keep_every),
            )
        )
        registry = opened.registry
        log = BatchLog(workdir.batches, listener.warned)
        refuse_other_history(checkpoint, opened.current, log)
        if checkpoint.query is not None and opened.current is not None:
            done = checkpoint.with_learned(opened.current.applied.get(checkpoint.query))
            if done != checkpoint:
                job.verify(workdir, done)
        job.check(opened)
        _refuse_nothing_to_score_with(settings, opened)
        stack.enter_context(spark_failures())

        def import_model_meanwhile() -> None:
            # Joined before an error can be printed: the import drops standard error meanwhile.
            stack.callback(in_background(import_model).join)

        spark = spark_session(
            job.name,
            packages=job.packages,
            short_run=job.is_short,
            on_launched=import_model_meanwhile,
            warn=listener.warned,
        )
        rows, fed = job.describe(workdir, opened, checkpoint)
        if checkpoint.query is None and (notes := job.notes()):
            # While it is imported, what is written to standard error is dropped.
            import_model()
            for note in notes:
                listener.warned(note)
        bound = bind_model(settings, opened, rows, lambda: job.design(listener), job.given)
        current = registry.current(opened.current)
        lineage = Lineage(registry.directory / "inputs")
        if not settings.allow_relearn:
            lineage.refuse_learned(fed, checkpoint.query, current)
        job.begin(workdir, checkpoint)
        kept = KeptDays(settings.keep_predictions, settings.keep_dead_letters)
        upkeep = Upkeep(workdir, registry.versions, kept, listener.warned)
        tally = Tally()
        listener.started(job.rows_to_read())

        def on_batch(record: BatchRecord) -> None:
            tally.add(record)
            listener.committed(record)
            if not job.ends_by_itself:
                watch.look(tally.totals())

        tasks, rows_per_task = job.scoring_tasks(task_slots(spark))
        n_features = bound.contract.n_features
        scorers = stack.enter_context(
            ready_scorers(
                spark,
                settings,
                opened,
                bound.version,
                n_features,
                rows_per_task,
                tasks,
                listener.warned,
            )
        )
        writer = job.writer(workdir, bound, scorers)
        watch = DeadLetterWatch(writer, settings, listener.warned)
        stack.callback(writer.close)
        in_background(bound.classifier.compile)
        loop = MicroBatchLoop(
            registry=registry,
            writer=writer,
            log=log,
            metadata=bound.metadata,
            classifier=bound.classifier,
            base=bound.version,
            retry=OutageRetry(settings.registry_patience, listener.warned),
            on_query=lambda query: lineage.register(query, fed),
            on_batch=on_batch,
            warn=listener.warned,
            before_scoring=scorers.warming.join,
            upkeep=upkeep,
            learns=settings.learn == YES,
        )
        stack.enter_context(configured(spark, job.conf))
        stream = job.rows(spark, workdir, opened, bound)
        if checkpoint.query is not None:
            # A learner that hangs, or is out of sight, is to write nothing beside this one.
            loop.take_over(checkpoint.query)
        check_stop()
        claim.check()
        with _left_out_of_collections():
            ended = run_query(
                stream,
                loop,
                checkpoint.path,
                available_now=job.ends_by_itself,
                is_to_end=lambda: stop.was_made or claim.is_taken_over,
                on_start=lambda: listener.ready(bound.version.version),
                explain=job.explain,
            )
        claim.check()
        watch.look(tally.totals())
        if job.ends_by_itself and not ended:
            last = "the first batch was begun" if loop.batch is None else "all was read"
            raise StoppedEarlyError(
                f"asked to end before {last}; the same command goes on from there"
            )
        current = registry.current(current)
    problem = watch.problem(tally.totals())
    summary = _summary(tally, log, loop, current, started, problem)
    config = bound.classifier.config
    late = horizon_note(summary) if config.stacking and not config.horizon else None
    if late is not None:
        listener.warned(late)
    return summary


@contextlib.contextmanager
def _left_out_of_collections() -> Iterator[None]:
    """Leave what is there out of garbage collections.

    To look through TensorFlow's objects takes a quarter of a second, in each batch of many rows.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _refuse_nothing_to_score_with(settings: RunSettings, opened: OpenModel) -> None:
    if settings.learn == NO and opened.current is None:
        raise UserError(
            f"--learn no: model {settings.model!r} of {settings.workdir} is not there yet; run "
            "without it first, or name the work directory of a model that has learned"
        )


def _summary(
    tally: Tally,
    log: BatchLog,
    loop: MicroBatchLoop,
    current: ModelVersion,
    started: float,
    problem: TooManyDeadLettersError | None,
) -> RunSummary:
    """Return what a run did that was started at ``started``, by ``time.perf_counter``."""
    totals = log.totals()
    ended = time.perf_counter()
    tally.count({"start_up": (loop.began or ended) - started, "end": ended - (loop.ended or ended)})
    first = loop.first_predicted
    return RunSummary(
        run=tally.totals(),
        total=totals,
        version=current.version,
        state_sha256=current.state_sha256,
        seconds=ended - started,
        first_prediction_seconds=None if first is None else round(first - started, 3),
        problem=problem,
    )
