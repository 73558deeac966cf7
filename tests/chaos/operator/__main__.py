"""An operator's mishaps, one after another: ``python -m tests.chaos.operator``.

A seeded random walk over a work directory and a Redis. In each step something happens to the
files, to Redis, to what a run is told or to a run at work, and the next run is judged: either it
refuses in one clear line before it has changed anything, and the walk undoes what it did and
another run goes on; or what there is equals what the rows say there must be, held in memory: each
row predicted or a dead letter once, each labelled row learned once and in order, the state that of
a learner given these rows and nothing else.

Prints a line for each step, then a table; ends with code 1 if there was a problem, and says how to
take the steps that lead to it again.

Two kinds of faults are judged less strictly. Files of earlier versions and batches may stay damaged
until somebody needs them: a run does not look at what has no end. And what Spark alone reads, its
state store, is found damaged only in the batch, which has been planned by then.

What the walk does not do, since it cannot be told from an honest state, and no promise covers it:

- flip a bit within a cell of an SQLite file, which has no checksums;
- rewrite an input file that was read with other rows, in the same number of bytes;
- restore work directory, input and Redis together: that is an earlier time.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.operator.walk import Visit, Walk, planned


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.operator", description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--replay-steps",
        metavar="VISIT",
        type=Visit.parse,
        nargs="+",
        help="as a problem is printed with",
    )
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    visits = options.replay_steps or planned(options.seed, options.steps)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="operator-") as directory:
        with contextlib.closing(Walk(Path(directory), options.seed)) as walk:
            for visit in visits:
                walk.visit(visit)
    print("\n".join(walk.table()))
    print(f"in {time.monotonic() - started:.0f} s", flush=True)
    return int(bool(walk.problems))


if __name__ == "__main__":
    sys.exit(main())
