"""What a job that no executor has a free core for would wait with in silence."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from pyspark.sql import SparkSession

from app.streaming.spark.runtime import wants_core

_WAITING = (
    "no executor has a free core; waiting. Spark needs a worker with one, or another application "
    "to end"
)
_GOING_ON = "an executor has a free core; going on"


@contextlib.contextmanager
def waits_told(
    spark: SparkSession,
    warn: Callable[[str], None],
    *,
    patience_seconds: float = 10.0,
    poll_seconds: float = 1.0,
) -> Iterator[None]:
    """Say so when within a block tasks wait and none runs, and when one runs again.

    Parameters
    ----------
    spark
    warn
        Called with each message, from another thread.
    patience_seconds
        How long that is not worth a word.
    poll_seconds
    """
    over = threading.Event()

    def watch() -> None:
        went_on, is_told = time.monotonic(), False
        while not over.wait(poll_seconds):
            try:
                waits = wants_core(spark)
            except Exception:
                # Without Spark, or without a JVM: the run itself will say so.
                return
            now = time.monotonic()
            if not waits:
                if is_told:
                    warn(_GOING_ON)
                went_on, is_told = now, False
            elif now - went_on >= patience_seconds and not is_told:
                warn(_WAITING)
                is_told = True

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
