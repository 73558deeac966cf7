"""Several learners of one model at once, each a process with a stream of its own."""

from __future__ import annotations

import contextlib
from pathlib import Path

from app.monitor.batch_log import BatchLog
from app.monitor.metrics import Totals
from app.registry.open import version_log_of
from app.registry.snapshots import SnapshotStore
from tests.chaos.replays import Replay, ended
from tests.integration.streams import small_csv

ROWS, ROWS_PER_BATCH = 600, 50


def problems_of_learners_at_once(root: Path, learners: int, redis_url: str) -> list[str]:
    """Let ``learners`` processes learn one model at once; return what is wrong afterwards."""
    root.mkdir(parents=True, exist_ok=True)
    replays = [
        Replay(
            small_csv(root / f"{number}.csv", ROWS, seed=number),
            root / f"workdir-{number}",
            ROWS_PER_BATCH,
            redis_url,
            root / "model",
        )
        for number in range(learners)
    ]
    with contextlib.ExitStack() as stack:
        processes = [replay.start() for replay in replays]
        for process in processes:
            stack.enter_context(ended(process))
        for process in processes:
            _, output = process.communicate()
            if process.returncode != 0:
                return [output]

    records = list(version_log_of(replays[0].workdir).records())
    newest, published = records[-1], records[1:]
    batches = {(record.origin["query"], record.origin["batch"]) for record in published}
    state = SnapshotStore(root / "model").read(newest).state
    logged = [Totals.of(BatchLog(replay.workdir / "batches").read()) for replay in replays]
    expected = {
        "rows in the state": (int(state["row_count"]), learners * ROWS),
        "versions": (newest.version, learners * ROWS // ROWS_PER_BATCH),
        "different batches": (len(batches), newest.version),
        "batches applied": (
            sorted(newest.applied.values()),
            [ROWS // ROWS_PER_BATCH - 1] * learners,
        ),
        "parents": ([r.parent for r in published], [r.commit for r in records[:-1]]),
        "rows logged": ([total.rows_learned for total in logged], [ROWS] * learners),
        "rows scored": ([total.rows_scored for total in logged], [ROWS] * learners),
    }
    return [f"{name}: {found}, not {right}" for name, (found, right) in expected.items()
            if found != right]  # fmt: skip
