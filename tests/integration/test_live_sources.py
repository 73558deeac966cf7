"""The same live stream from each kind of source ends in the same model."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from deltalake import write_deltalake

from tests.chaos.live import LiveRun
from tests.chaos.replays import differences
from tests.chaos.streams import kill_at_random, produce
from tests.integration.live_streams import LiveStream, live_run, live_stream, outcome, write_json
from tests.redis_server import RedisServer

# Queries, or whole processes, start several times in each, on a machine that may be busy.
pytestmark = pytest.mark.timeout(600)

ROWS_PER_BATCH = 150


@pytest.fixture(scope="module")
def rows() -> LiveStream:
    return live_stream(400, duplicates=0.05, orphans=0.03, conflicts=0.03, beyond=0.03)


@pytest.fixture(scope="module")
def expected(rows: LiveStream, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash that the stream gives from a directory of JSON files."""
    root = tmp_path_factory.mktemp("json")
    write_json(root / "events", rows.events)
    write_json(root / "feedback", rows.feedback)
    summary = live_run(
        root / "w", f"json:{root}/events", f"json:{root}/feedback",
        max_rows_per_batch=ROWS_PER_BATCH,
    )  # fmt: skip
    assert outcome(summary) == rows.expected
    return summary.state_sha256


def named(rows: LiveStream) -> dict[str, list[dict]]:
    return {"events": rows.events, "feedback": rows.feedback}


def text(rows: list[dict]) -> pa.Table:
    """Return rows as they would stand in a table: times as text, features as double."""
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("kind", ["csv", "parquet", "delta"])
def test_files_of_any_kind_give_the_same_model(kind, rows, expected, tmp_path):
    for name, part in named(rows).items():
        directory = tmp_path / name
        if kind == "delta":
            write_deltalake(directory, text(part))
            continue
        directory.mkdir()
        if kind == "parquet":
            pq.write_table(text(part), directory / "part.parquet")
        else:
            header = list(part[0])
            lines = [",".join(map(str, row.values())) for row in part]
            (directory / "part.csv").write_text("\n".join([",".join(header), *lines]) + "\n")
    summary = live_run(
        tmp_path / "w", f"{kind}:{tmp_path}/events", f"{kind}:{tmp_path}/feedback",
        max_rows_per_batch=ROWS_PER_BATCH,
    )  # fmt: skip
    assert outcome(summary) == rows.expected
    assert summary.state_sha256 == expected


def test_redis_streams_give_the_same_model(rows, expected, tmp_path):
    with RedisServer(tmp_path) as server:
        with redis.Redis.from_url(server.url) as client:
            for name, part in named(rows).items():
                for row in part:
                    # As fields, which are text, and not as JSON.
                    client.xadd(name, {key: str(value) for key, value in row.items()})
        summary = live_run(
            tmp_path / "w", "redis:events", "redis:feedback", redis_url=server.url,
            max_rows_per_batch=ROWS_PER_BATCH,
        )  # fmt: skip
    assert outcome(summary) == rows.expected
    assert summary.state_sha256 == expected


def test_kafka_read_by_processes_that_are_killed_gives_the_same_model(rows, broker, tmp_path):
    """As undisturbed: Spark's own reader does not keep step, so its batches are others."""
    produce(broker, {f"live-{name}": part for name, part in named(rows).items()})
    sources = [f"kafka://{broker.servers}/live-{name}" for name in named(rows)]
    undisturbed = live_run(tmp_path / "undisturbed", *sources, max_rows_per_batch=ROWS_PER_BATCH)
    assert outcome(undisturbed) == rows.expected
    run = LiveRun(tmp_path / "w", *sources, rows_per_batch=ROWS_PER_BATCH)
    assert kill_at_random(run, 1, random.Random(0)) == 1
    live_run(run.workdir, *sources, max_rows_per_batch=ROWS_PER_BATCH)
    found = run.outcome()
    assert not differences(found, {"state_sha256": undisturbed.state_sha256, "events_twice": 0})
    totals = run.totals()
    assert {"learned": totals.rows_learned, **totals.labels.dead} == rows.expected
