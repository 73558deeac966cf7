"""The scoring side of a run: the UDF, and Python workers that are ready before the first batch."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyspark.errors import PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from app.config import RunSettings
from app.registry.head import READER_TIMEOUT_SECONDS, HeadStore
from app.registry.opening import OpenModel
from app.registry.record import HeadRecord
from app.registry.url import check_redis_url
from udfs.model_cache import ModelSource
from udfs.score import score_udf

_WARM_UP_ROWS = 4096


@dataclass(frozen=True)
class Scoring:
    """The scoring side of a run.

    Attributes
    ----------
    udf : callable
        Gives the UDF that scores with a version or a later one.
    warming : Thread
        Readies the first Python workers.
    """

    udf: Callable[[HeadRecord], Callable[[str], Column]]
    warming: threading.Thread


@contextlib.contextmanager
def scoring(
    spark: SparkSession,
    settings: RunSettings,
    opened: OpenModel,
    n_features: int,
    rows_per_task: int,
    tasks: int = 1,
) -> Iterator[Scoring]:
    """Ready the scorers of a run: as many as ``tasks``, for rows of ``n_features`` features."""
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
        max_staleness=settings.max_staleness,
    )

    def udf(floor: HeadRecord) -> Callable[[str], Column]:
        return score_udf(dataclasses.replace(source, floor=floor))

    warming = in_background(_warm_workers, spark, udf(head), n_features, rows_per_task, tasks)
    try:
        yield Scoring(udf, warming)
    finally:
        # A worker that is still warming up would be busy when the next query needs one.
        warming.join()
        first.destroy()


def check_executor_url(settings: RunSettings) -> None:
    """Try the scorers' URL here, and not first in a Python worker, which would go on without."""
    url = settings.executor_redis_url
    if url is not None:
        check_redis_url(url, "executor_redis_url")
        with contextlib.closing(HeadStore(url, settings.model, READER_TIMEOUT_SECONDS)) as heads:
            heads.read_current()


def in_background(work: Callable[..., None], *args: object) -> threading.Thread:
    """Start work that a later step would do itself if it were not done, or failed."""
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


def import_model() -> None:
    """Import TensorFlow while the JVM starts."""
    import app.model.classifier  # noqa: F401
    from app.model.backend import use_one_thread

    use_one_thread()


def _warm_workers(
    spark: SparkSession, score: Callable[[str], Column], n_features: int, rows: int, tasks: int
) -> None:
    """Have Python workers load and compile the model while the query starts."""
    zeros = F.array_repeat(F.lit(0.0).cast("float"), n_features).alias("features")
    ids = spark.range(0, tasks * min(rows, _WARM_UP_ROWS), 1, tasks)
    warmed = ids.select(zeros).select(score("features"))
    with contextlib.suppress(PySparkException):
        warmed.write.format("noop").mode("overwrite").save()
