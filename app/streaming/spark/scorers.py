"""The scoring side of a run: the UDF, and Python workers that are ready before the first batch."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyspark.sql import SparkSession

from app.config.run import RunSettings
from app.redis_io.url import check_redis_url
from app.registry.open import OpenModel
from app.registry.redis_store import READER_TIMEOUT_SECONDS, RedisVersionStore
from app.registry.version import ModelVersion
from app.scoring.live_model import InitialModel, ModelSource
from app.streaming.spark.bridge import unless_lost
from app.streaming.spark.runtime import broadcast
from app.streaming.spark.waiting import waits_told
from udfs.model_cache import WorkerModel
from udfs.score import WarmUp

logger = logging.getLogger(__name__)

_WARM_UP_ROWS = 4096


@dataclass(frozen=True)
class Scorers:
    """The scoring side of a run.

    Attributes
    ----------
    wanted
        Gives what a worker needs to score with a version or a later one.
    warming
        Readies the first Python workers.
    """

    wanted: Callable[[ModelVersion], WorkerModel]
    warming: threading.Thread


@contextlib.contextmanager
def ready_scorers(
    spark: SparkSession,
    settings: RunSettings,
    opened: OpenModel,
    version: ModelVersion,
    n_features: int,
    rows_per_task: int,
    tasks: int,
    warn: Callable[[str], None] = lambda message: None,
) -> Iterator[Scorers]:
    """Ready the scorers of a run.

    Parameters
    ----------
    spark
    settings
    opened
    version
        The one that ``opened`` holds the state of.
    n_features
        Length of the rows that they will be given.
    rows_per_task
        How many rows of a batch one of them will be given.
    tasks
        How many score at the same time.
    warn
        Called when they, or any other tasks of the run, wait for a core.
    """
    initial = broadcast(spark, InitialModel(version, opened.stored.data))
    source = ModelSource(
        redis_url=settings.executor_redis_url or opened.redis_url,
        model=settings.model,
        min_version=version,
        snapshots=str(opened.registry.directory.resolve()),
        fail_on_outage=settings.on_registry_outage == "fail",
        max_staleness=settings.max_staleness,
    )
    run = secrets.token_hex(8)

    def wanted(min_version: ModelVersion) -> WorkerModel:
        held = dataclasses.replace(source, min_version=min_version)
        return WorkerModel(run, initial, held)

    warm_up = WarmUp(wanted(version), min(rows_per_task, _WARM_UP_ROWS), n_features)
    warming = in_background(_warm_workers, spark, warm_up, tasks)
    with waits_told(spark, warn):
        try:
            yield Scorers(wanted, warming)
        finally:
            # A worker that is still warming up would be busy when the next query needs one.
            warming.join()
            with unless_lost():
                initial.destroy()


def check_executor_url(settings: RunSettings) -> None:
    """Try the scorers' URL here, and not first in a Python worker, which would go on without."""
    url = settings.executor_redis_url
    if url is not None:
        check_redis_url(url, "executor_redis_url")
        store = RedisVersionStore(url, settings.model, READER_TIMEOUT_SECONDS)
        with contextlib.closing(store):
            store.read_current()


def in_background(work: Callable[..., None], *args: object) -> threading.Thread:
    """Start work that a later step would do itself if it were not done, or failed.

    What it fails with is left to that step, which will tell it.
    """

    def attempt() -> None:
        try:
            work(*args)
        except Exception:
            logger.debug("%s failed", work.__name__, exc_info=True)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    return thread


def import_model() -> None:
    """Import TensorFlow while the JVM starts."""
    import app.model.classifier  # noqa: F401
    from app.model.backend import use_one_thread

    use_one_thread()


def _warm_workers(spark: SparkSession, warm_up: WarmUp, tasks: int) -> None:
    """Have Python workers load and compile the model while the query starts."""
    ids = spark.range(0, tasks, 1, tasks)
    ids.mapInArrow(warm_up, ids.schema).write.format("noop").mode("overwrite").save()
