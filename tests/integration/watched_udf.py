"""The scoring UDF, with each call written down, and made to fail where a test asks for it.

As a script it is a live stream for spark-submit, in which the first attempt of every task
that scores an event fails: ``watched_udf.py EVENTS FEEDBACK WORKDIR CALLS``.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark import TaskContext
from pyspark.sql import Column
from pyspark.sql.functions import pandas_udf

from udfs import model_cache
from udfs.model_cache import WorkerModel
from udfs.score import SCORE_TYPE, score_batch


def watched_score(
    calls: Path, *, fail_first: bool = False
) -> Callable[[WorkerModel], Callable[[str], Column]]:
    """Return what stands in for :func:`udfs.score.score_udf`.

    Parameters
    ----------
    calls : Path
        Directory that gets a file for each call, with the number of events in it.
    fail_first : bool
        Fail the first attempt of each task that scores an event.
    """
    directory = str(calls)

    def score_udf(wanted: WorkerModel) -> Callable[[str], Column]:
        # Defined here, so that it is sent by value: the workers do not know the tests.
        @pandas_udf(SCORE_TYPE)
        def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
            model = model_cache.live_model(wanted)
            for features in batches:
                # The rows that a worker is warmed up with are all zeros.
                events = sum(1 for row in features if row is not None and np.any(row))
                if events:
                    Path(directory, uuid.uuid4().hex).write_text(str(events))
                scored = score_batch(model, wanted.source, features)
                if events and fail_first and TaskContext.get().attemptNumber() == 0:
                    raise RuntimeError("the first attempt fails")
                yield scored

        return score.asNondeterministic()

    return score_udf


def events_scored(calls: Path) -> int:
    return sum(int(path.read_text()) for path in calls.iterdir())


if __name__ == "__main__":
    from app.streaming.spark import scorers
    from tests.integration.live_streams import live_run

    events, feedback, workdir, calls = sys.argv[1:]
    scorers.score_udf = watched_score(Path(calls), fail_first=True)
    summary = live_run(Path(workdir), events, feedback, max_rows_per_batch=100)
    print(json.dumps(summary.to_dict()))
