"""The long form of the fault tests: ``make chaos``.

Replays a stream undisturbed, then again under faults, and compares what is left.
Prints one line for each check and ends with code 1 if one of them differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.learners import problems_of_learners_at_once
from tests.chaos.replays import Replay, differences, kill_at_random, kill_redis_at_random
from tests.integration.streams import small_csv
from tests.redis_server import RedisServer

ROWS_PER_BATCH = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of the whole process group")
    parser.add_argument("--redis-kills", type=int, default=20)
    parser.add_argument("--learners", type=int, default=4, help="of one model at once")
    parser.add_argument("--batches", type=int, default=400, help=f"of {ROWS_PER_BATCH} rows")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)

    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        root = Path(directory)
        stream = small_csv(root / "rows.csv", options.batches * ROWS_PER_BATCH, options.seed)
        undisturbed = Replay(stream, root / "undisturbed", ROWS_PER_BATCH)
        undisturbed.finish()
        expected = undisturbed.outcome()
        print(
            f"undisturbed: version {expected['version']}, {expected['rows_learned']} rows learned, "
            f"{expected['state_sha256'][:16]}",
            flush=True,
        )
        faults = {
            "SIGKILL of the process group": (kill_at_random, options.kills),
            "SIGKILL of Redis": (kill_redis_at_random, options.redis_kills),
        }
        failed = False
        for number, (name, (fault, count)) in enumerate(faults.items()):
            started = time.monotonic()
            replay = Replay(stream, root / f"disturbed-{number}", ROWS_PER_BATCH)
            done = fault(replay, count, random.Random(options.seed))
            replay.finish()
            found = differences(replay.outcome(), expected)
            # Fewer mean that the stream ended before the faults did.
            failed |= bool(found) or done < count
            print(
                f"{name}: {done} of {count} in {time.monotonic() - started:.0f} s: "
                f"{'; '.join(found) or 'equal'}",
                flush=True,
            )
        started = time.monotonic()
        with RedisServer(root) as server:
            found = problems_of_learners_at_once(root / "learners", options.learners, server.url)
        failed |= bool(found)
        print(
            f"{options.learners} learners of one model in {time.monotonic() - started:.0f} s: "
            f"{'; '.join(found) or 'nothing lost, nothing twice'}",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
