"""The scorer of rows, with each call written down, and made to fail where a test asks for it.

As a script it is a live stream for spark-submit, in which the first attempt of every task
that scores an event fails: ``watched_udf.py EVENTS FEEDBACK WORKDIR CALLS``.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark import TaskContext

from app.parsing.packed_rows import unpacked
from udfs.model_cache import WorkerModel
from udfs.score import KindOfRows, RowScorer

Rows = Iterator[pa.RecordBatch]


def watched_scorer(
    calls: Path, *, fail_first: bool = False
) -> Callable[
    [Mapping[str, KindOfRows], WorkerModel | None, Sequence[str]], Callable[[Rows], Rows]
]:
    """Return what stands in for :class:`udfs.score.RowScorer`.

    Parameters
    ----------
    calls : Path
        Directory that gets a file for each call of the model, with the number of events in it.
    fail_first : bool
        Fail the first attempt of each task that scores an event.
    """
    directory = str(calls)

    def scorer(
        kinds: Mapping[str, KindOfRows],
        wanted: WorkerModel | None,
        as_they_are: Sequence[str] = (),
    ) -> Callable[[Rows], Rows]:
        score = RowScorer(kinds, wanted, as_they_are)

        # Defined here, so that it is sent by value: the workers do not know the tests.
        def watched(batches: Rows) -> Rows:
            for batch in score(batches):
                (rows,) = unpacked(batch["rows"])
                if "prediction" in rows.schema.names:
                    events = len(rows) - rows["prediction"].null_count
                    if events:
                        Path(directory, uuid.uuid4().hex).write_text(str(events))
                    if events and fail_first and TaskContext.get().attemptNumber() == 0:
                        raise RuntimeError("the first attempt fails")
                yield batch

        return watched

    return scorer


def events_scored(calls: Path) -> int:
    return sum(int(path.read_text()) for path in calls.iterdir())


if __name__ == "__main__":
    from app.streaming.rows import scored
    from tests.integration.live_streams import live_run

    events, feedback, workdir, calls = sys.argv[1:]
    scored.RowScorer = watched_scorer(Path(calls), fail_first=True)
    summary = live_run(Path(workdir), events, feedback, max_rows_per_batch=100)
    print(json.dumps(summary.to_dict()))
