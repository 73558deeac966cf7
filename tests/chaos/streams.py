"""Late labels in the long form: ``python -m tests.chaos.streams``.

A live stream with labels that are doubled, contradicted, orphaned and late is run
undisturbed, then again from the same offsets with its process group killed several
times. Every label must be accounted for, and both runs must end alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

from app.streaming.spark.packages import kafka_package
from app.streaming.spark.session import spark_session
from tests.chaos.live import LiveRun
from tests.chaos.replays import differences, ended
from tests.integration.live_streams import LiveStream, live_stream, write_json
from tests.kafka_broker import KafkaBroker
from tests.redis_server import RedisServer

SOURCES = ("json", "redis", "kafka")


@contextlib.contextmanager
def served(kind: str, rows: LiveStream, root: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield two sources that hold the rows, and what a process must have in its environment."""
    named = {"events": rows.events, "feedback": rows.feedback}
    if kind == "json":
        for name, part in named.items():
            write_json(root / name, part)
        yield f"json:{root}/events", f"json:{root}/feedback", {}
    elif kind == "redis":
        with RedisServer(root) as server, redis.Redis.from_url(server.url) as client:
            for name, part in named.items():
                pipeline = client.pipeline(transaction=False)
                for row in part:
                    pipeline.xadd(name, {"json": json.dumps(row)})
                pipeline.execute()
            yield "redis:events", "redis:feedback", {"REDIS_URL": server.url}
    else:
        with KafkaBroker() as broker:
            produce(broker, named)
            yield f"kafka://{broker.servers}/events", f"kafka://{broker.servers}/feedback", {}


def produce(broker: KafkaBroker, topics: dict[str, list[dict]]) -> None:
    """Create topics of one partition, and write rows to them as JSON, in order."""
    spark = spark_session("hedgestream chaos", packages=[kafka_package()])
    for topic, rows in topics.items():
        broker.create_topic(topic, 1)
        values = spark.createDataFrame([(json.dumps(row),) for row in rows], "value string")
        writer = values.coalesce(1).write.format("kafka").option("topic", topic)
        writer.option("kafka.bootstrap.servers", broker.servers).save()


def kill_at_random(run: LiveRun, kills: int, rng: random.Random) -> int:
    """SIGKILL the process group of a run some batches in, several times; return how many."""
    for killed in range(kills):
        before = run.batches()
        process = run.start()
        with ended(process):
            if not run.wait_for_batches(process, before + rng.choice([1, 2])):
                return killed
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, 2))
                return killed
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.streams", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rows-per-batch", type=int, default=4000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=["json", "kafka"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = live_stream(options.rows, seed=options.seed)
    print(
        f"{len(rows.events):,} events, {len(rows.feedback):,} labels: {rows.expected}", flush=True
    )
    failed = False
    for kind in options.sources:
        with tempfile.TemporaryDirectory(prefix="streams-") as directory:
            root = Path(directory)
            with served(kind, rows, root) as (events, feedback, environment):
                runs = [
                    LiveRun(
                        root / name, events, feedback, options.rows_per_batch,
                        environment=environment, options=("--model", name),
                    )
                    for name in ("undisturbed", "killed")
                ]  # fmt: skip
                started = time.monotonic()
                runs[0].finish()
                totals = runs[0].totals()
                found = {"learned": totals.rows_learned, **totals.labels.dead}
                wrong = found != rows.expected or totals.rows_scored != len(rows.events)
                print(
                    f"{kind}, undisturbed, {time.monotonic() - started:.0f} s: {found}, "
                    f"{totals.labels.pending} pending: {'DIFFERENT' if wrong else 'exact'}",
                    flush=True,
                )
                killed = kill_at_random(runs[1], options.kills, random.Random(options.seed))
                runs[1].finish()
                unlike = differences(runs[1].outcome(), runs[0].outcome())
                print(
                    f"{kind}, {killed} of {options.kills} kills: {'; '.join(unlike) or 'equal'}",
                    flush=True,
                )
                failed |= wrong or bool(unlike) or killed < options.kills
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
