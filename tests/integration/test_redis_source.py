"""A Redis stream as a Spark source: each entry once, the same again, and no password in sight."""

from __future__ import annotations

import json
import socket
import string
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import redis
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from app.parsing.packed_rows import ROWS_COLUMN, unpacked
from app.streaming.sources.redis import read_redis_stream
from tests.redis_server import RedisServer
from tests.waiting import wait_until

# For the first row of a query: Spark starts several Python processes before it.
START_SECONDS = 60

KEY = "events"

Entry = tuple[int, bytes]
"""Number and text of a row."""

# Found as it is in any encoding of what is around it.
SECRET = "hunter2hunter2"
PASSWORD = f"{SECRET}{string.punctuation} é"


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[RedisServer]:
    """Return a server that tests share: none may end it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(shared) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def read(spark, shared, client) -> Callable[..., DataFrame]:
    """Return a function that reads the stream of the shared server, three rows a batch."""

    def read_shared(**options) -> DataFrame:
        return read_redis_stream(
            spark, shared.url, KEY, **{"max_rows_per_batch": 3, "patience_seconds": 5} | options
        )

    return read_shared


def add(client: redis.Redis, *numbers: int, key: str = KEY) -> None:
    """Add rows, each with its number as milliseconds of its id."""
    for number in numbers:
        client.xadd(key, {"json": str(number)}, id=f"{number}-0")


def trim(client: redis.Redis, oldest: int) -> None:
    client.xtrim(KEY, minid=f"{oldest}-0", approximate=False)


class Sink:
    """Collects the batches of a query, whatever it reads, in order."""

    def __init__(self) -> None:
        self.batches: dict[int, list[Entry]] = {}

    def __call__(self, batch: DataFrame, batch_id: int) -> None:
        packed = batch.toArrow()[ROWS_COLUMN]
        self.batches[batch_id] = [
            (row["sequence"], row["text"]) for rows in unpacked(packed) for row in rows.to_pylist()
        ]

    @property
    def rows(self) -> list[Entry]:
        return [row for batch_id in sorted(self.batches) for row in self.batches[batch_id]]

    @property
    def sizes(self) -> list[int]:
        return [len(rows) for rows in self.batches.values()]


def numbered(*numbers: int, first: int = 0) -> list[Entry]:
    return [(first + i, b"%d" % number) for i, number in enumerate(numbers)]


def start(rows: DataFrame, checkpoint: Path, sink: Callable, **trigger) -> StreamingQuery:
    writer = rows.writeStream.foreachBatch(sink).option("checkpointLocation", str(checkpoint))
    return (writer.trigger(**trigger) if trigger else writer).start()


def run(rows: DataFrame, checkpoint: Path) -> Sink:
    """Run a query until it has read what there was at its start."""
    sink = Sink()
    start(rows, checkpoint, sink, availableNow=True).awaitTermination()
    return sink


@contextmanager
def running(rows: DataFrame, checkpoint: Path) -> Iterator[tuple[StreamingQuery, Sink]]:
    sink = Sink()
    query = start(rows, checkpoint, sink)
    try:
        yield query, sink
    finally:
        query.stop()


def failure_of(query: StreamingQuery) -> str:
    with pytest.raises(PySparkException) as caught:
        query.awaitTermination(60)
    return str(caught.value)


def forget_commit(checkpoint: Path, batch_id: int) -> None:
    """Leave a batch as planned and not committed, as a crash does."""
    (checkpoint / "commits" / str(batch_id)).unlink()
    (checkpoint / "commits" / f".{batch_id}.crc").unlink(missing_ok=True)


class TestReading:
    def test_every_entry_is_read_once_in_order_and_in_batches_of_the_limit(
        self, read, client, tmp_path
    ):
        add(client, *range(1, 9))

        sink = run(read(), tmp_path)
        assert sink.rows == numbered(*range(1, 9))
        assert sink.sizes == [3, 3, 2]

    def test_next_run_goes_on_after_the_last(self, read, client, tmp_path):
        add(client, *range(1, 6))
        run(read(), tmp_path)
        assert run(read(), tmp_path).rows == []
        add(client, 6, 7)

        assert run(read(), tmp_path).rows == numbered(6, 7, first=5)

    def test_run_ends_with_what_was_there_at_its_start(self, read, client, tmp_path):
        add(client, *range(1, 6))
        sink = Sink()

        def add_more(batch: DataFrame, batch_id: int) -> None:
            sink(batch, batch_id)
            add(client, 100 + batch_id)

        start(read(), tmp_path, add_more, availableNow=True).awaitTermination()
        assert sink.rows == numbered(1, 2, 3, 4, 5)
        assert run(read(), tmp_path).rows == numbered(100, 101, first=5)

    def test_entries_are_read_as_they_arrive(self, read, client, tmp_path):
        with running(read(), tmp_path) as (_, sink):
            for number in (1, 2, 3):
                add(client, number)
                wait_until(
                    lambda n=number: len(sink.rows) == n, f"row {number} arrives", START_SECONDS
                )
        assert sink.rows == numbered(1, 2, 3)

    def test_batch_that_was_not_committed_comes_again_as_it_was(self, read, client, tmp_path):
        add(client, *range(1, 6))
        before = run(read(), tmp_path)
        forget_commit(tmp_path, 1)
        add(client, 6)

        again = run(read(max_rows_per_batch=100), tmp_path)
        assert again.batches == {1: before.batches[1], 2: numbered(6, first=5)}

    def test_garbage_and_plain_fields_come_as_they_are(self, read, client, tmp_path):
        client.xadd(KEY, {"json": b"\xff{no"})
        client.xadd(KEY, {"event_id": "1", "x0": "1.5"})
        client.xadd(KEY, {"json": ""})

        garbage, fields, empty = (text for _, text in run(read(), tmp_path).rows)
        assert (garbage, empty) == (b"\xff{no", b"")
        assert json.loads(fields) == {"event_id": "1", "x0": "1.5"}

    def test_large_batch_is_read_and_read_again(self, read, client, tmp_path):
        n = 25_000
        pipeline = client.pipeline(transaction=False)
        for number in range(1, n + 1):
            pipeline.xadd(KEY, {"json": number})
        pipeline.execute()
        rows = read(max_rows_per_batch=n)
        before = run(rows, tmp_path)
        forget_commit(tmp_path, 0)

        assert before.sizes == [n]
        assert before.rows == numbered(*range(1, n + 1))
        assert run(rows, tmp_path).batches == before.batches

    def test_two_streams_of_two_servers_are_read_in_one_query(self, spark, read, client, tmp_path):
        with RedisServer(tmp_path) as other, redis.Redis.from_url(other.url) as other_client:
            add(client, 1, 2, 3, 4)
            add(other_client, 21, 22, key="feedback")
            # The same name on the other server: neither may be taken for the other.
            add(other_client, 31)
            feedback = read_redis_stream(spark, other.url, "feedback", max_rows_per_batch=1)
            both = read().union(feedback)
            checkpoint = tmp_path / "checkpoint"
            sink = run(both, checkpoint)
            forget_commit(checkpoint, 1)
            again = run(both, checkpoint)

        assert {n: sorted(rows) for n, rows in sink.batches.items()} == {
            0: sorted(numbered(1, 2, 3) + numbered(21)),
            1: sorted(numbered(4, first=3) + numbered(22, first=1)),
        }
        assert {n: sorted(rows) for n, rows in again.batches.items()} == {
            1: sorted(sink.batches[1])
        }


class TestLoss:
    def test_entries_trimmed_behind_the_reader_do_no_harm(self, read, client, tmp_path):
        add(client, *range(1, 6))
        run(read(), tmp_path)
        add(client, 6, 7)
        trim(client, 5)

        assert run(read(), tmp_path).rows == numbered(6, 7, first=5)

    def test_entries_trimmed_ahead_of_the_reader_end_the_query_with_their_ids(
        self, read, client, tmp_path
    ):
        add(client, *range(1, 6))
        run(read(), tmp_path)
        add(client, 6, 7, 8)
        trim(client, 7)

        told = failure_of(start(read(), tmp_path, Sink()))
        assert (
            "DataLossError: Redis stream 'events': entries after 5-0 and before 7-0 may be gone: "
            "5-0, the last one read, is no longer there; --no-fail-on-data-loss goes on without "
            "them"
        ) in told

    def test_entries_trimmed_ahead_are_passed_over_when_told(self, read, client, tmp_path):
        add(client, *range(1, 6))
        run(read(), tmp_path)
        add(client, 6, 7, 8)
        trim(client, 7)

        rows = read(fail_on_data_loss=False)
        assert run(rows, tmp_path).rows == numbered(7, 8, first=5)

    def test_batch_that_cannot_come_again_ends_the_query(self, read, client, tmp_path):
        add(client, *range(1, 6))
        run(read(), tmp_path)
        forget_commit(tmp_path, 1)
        trim(client, 5)

        told = failure_of(start(read(), tmp_path, Sink(), availableNow=True))
        assert (
            "DataLossError: Redis stream 'events': of the 2 entries after 3-0 up to 5-0, 1 are "
            "gone: it now holds 1 there; --no-fail-on-data-loss goes on without them"
        ) in told

    def test_rest_of_such_a_batch_keeps_its_numbers(self, read, client, tmp_path):
        add(client, *range(1, 6))
        run(read(), tmp_path)
        forget_commit(tmp_path, 1)
        trim(client, 5)

        rows = read(fail_on_data_loss=False)
        assert run(rows, tmp_path).rows == numbered(5, first=4)

    def test_server_that_restarts_empty_is_noticed(self, spark, tmp_path):
        with RedisServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
            rows = read_redis_stream(spark, server.url, KEY, max_rows_per_batch=3)
            add(client, 1)
            with running(rows, tmp_path / "checkpoint") as (query, sink):
                wait_until(lambda: len(sink.rows) == 1, "the row arrives", START_SECONDS)
                server.restart()
                told = failure_of(query)
        assert "DataLossError: Redis stream 'events': entries after 1-0 are gone" in told


class TestOutage:
    def test_redis_that_comes_late_is_waited_for(self, spark, tmp_path):
        server = RedisServer(tmp_path)
        rows = read_redis_stream(spark, server.url, KEY, max_rows_per_batch=3)
        with socket.create_server(("127.0.0.1", urlsplit(server.url).port)) as nobody:
            nobody.settimeout(START_SECONDS)
            query = start(rows, tmp_path / "checkpoint", sink := Sink())
            # The source asks, and is hung up on.
            nobody.accept()[0].close()
        with server, redis.Redis.from_url(server.url) as client:
            add(client, 1)
            try:
                wait_until(lambda: len(sink.rows) == 1, "the row arrives", START_SECONDS)
            finally:
                query.stop()
        assert query.exception() is None

    def test_redis_that_stays_away_ends_the_query(self, spark, tmp_path):
        server = RedisServer(tmp_path)
        rows = read_redis_stream(spark, server.url, KEY, max_rows_per_batch=3, patience_seconds=0.2)
        told = failure_of(start(rows, tmp_path / "checkpoint", Sink()))
        assert f"RegistryUnavailableError: Redis at {server.url} cannot be reached" in told

    def test_query_that_waits_for_redis_can_be_stopped(self, spark, tmp_path):
        server = RedisServer(tmp_path)
        rows = read_redis_stream(spark, server.url, KEY, max_rows_per_batch=3, patience_seconds=600)
        query = start(rows, tmp_path / "checkpoint", Sink())
        wait_until(
            lambda: query.status["message"].startswith("Getting offsets"), "it reads", START_SECONDS
        )
        began = time.monotonic()
        query.stop()
        assert time.monotonic() - began < 10
        assert query.exception() is None

    def test_key_of_another_type_ends_the_query(self, read, client, tmp_path):
        client.set(KEY, "text")

        told = failure_of(start(read(), tmp_path, Sink()))
        assert "UserError: redis:events: the key 'events' holds something else" in told


def files_below(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_the_password_is_shown_nowhere(spark: SparkSession, tmp_path, capfd):
    with RedisServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        add(client, *range(1, 6))
        client.config_set("requirepass", PASSWORD)
        url = server.url.replace("//", f"//:{quote(PASSWORD, safe='')}@")
        rows = read_redis_stream(spark, url, KEY, max_rows_per_batch=3)
        checkpoint = tmp_path / "checkpoint"
        with running(rows, checkpoint) as (query, sink):
            wait_until(lambda: len(sink.rows) == 5, "the rows arrive", START_SECONDS)
            rows.explain(extended=True)
            query.explain(extended=True)
            shown = [progress.json for progress in query.recentProgress]
            shown += [rows._jdf.queryExecution().toString(), repr(rows)]
            # One that is refused, and so told about.
            client.config_set("requirepass", "another")
            client.client_kill_filter(_type="normal", skipme=True)
            shown.append(failure_of(query))

    output = "".join(capfd.readouterr())
    assert "== Physical Plan ==" in output
    assert "refused" in shown[-1]
    kept = files_below(checkpoint)
    assert checkpoint / "offsets" / "0" in kept
    for text in [*shown, output]:
        assert SECRET not in text
    for path, content in kept.items():
        assert SECRET.encode() not in content, path
