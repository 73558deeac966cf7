"""Rows come in from a real Kafka broker, and predictions go out to it."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count

import pyarrow as pa
import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.streaming import StreamingQuery

from app.config.connectors import SourceSpec
from app.contract import NULL_FEATURE, UNPARSABLE, Contract
from app.errors import StreamFailedError, UserError
from app.parsing.packed_rows import RowSource
from app.parsing.row_parser import RowParser
from app.streaming.sinks.kafka import write_kafka
from app.streaming.sources.kafka import check_topic, explain_failure, read_kafka
from app.streaming.sources.open import describe_source, encoding_of
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("spark")

CONTRACT = Contract(columns=("x", "y"), features=("x", "y"), n_features=2, classes=("0", "1"))
_numbers = count()


@pytest.fixture
def topic(broker) -> Callable[..., SourceSpec]:
    """Return a function that makes an empty topic."""

    def make(partitions: int = 1, value_format: str = "json") -> SourceSpec:
        name = f"topic-{next(_numbers)}"
        broker.create_topic(name, partitions)
        return SourceSpec("kafka", value_format, name, broker.servers)

    return make


class Received:
    """The rows of a stream, by batch, each batch as often as it was tried."""

    def __init__(self, stream: DataFrame, checkpoint, n_batches_before_crash: int = 1000) -> None:
        self.batches: list[tuple[int, list[Row]]] = []
        self._stream = stream
        self._checkpoint = str(checkpoint)
        self._left = n_batches_before_crash

    def start(self, **trigger: object) -> StreamingQuery:
        writer = self._stream.writeStream.foreachBatch(self._take)
        return writer.option("checkpointLocation", self._checkpoint).trigger(**trigger).start()

    def run(self) -> Received:
        """Receive what there is by now."""
        self.start(availableNow=True).awaitTermination()
        return self

    def _take(self, df: DataFrame, batch: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise ZeroDivisionError("crash")
        self.batches.append((batch, df.collect()))

    @property
    def rows(self) -> list[Row]:
        return [row for _, rows in self.batches for row in rows]


def send(
    spark: SparkSession, spec: SourceSpec, values: list[bytes | None], partition: int = 0
) -> None:
    """Append messages to a partition, in order."""
    rows = [(None if value is None else bytearray(value), partition) for value in values]
    df = spark.createDataFrame(rows, "value binary, partition int").coalesce(1)
    df.write.format("kafka").option("kafka.bootstrap.servers", spec.servers).option(
        "topic", spec.place
    ).save()


def numbered(start: int, stop: int) -> list[bytes]:
    return [b'{"n": %d}' % n for n in range(start, stop)]


def numbers(rows: list[Row]) -> list[int]:
    return [json.loads(row.rows)["n"] for row in rows]


def read(spark: SparkSession, spec: SourceSpec, rows_per_batch: int = 1000, **options) -> DataFrame:
    return read_kafka(spark, spec, max_rows_per_batch=rows_per_batch, **options)


def parsed(spec: SourceSpec, rows: list[Row]) -> list[dict]:
    """Return what becomes of the rows of some messages."""
    source = RowSource(encoding_of(spec), RowParser(CONTRACT))
    sequences = pa.array([row.sequence for row in rows], pa.int64())
    values = pa.array([row.rows for row in rows], pa.binary())
    batches = source.batches(sequences, values)
    return [row for batch in batches for row in source.parser.parse(batch).to_pylist()]


def place(sequence: int) -> tuple[int, int, int]:
    """Return partition, offset and row in the message."""
    return sequence >> 50, (sequence >> 10) & ((1 << 40) - 1), sequence & 1023


def arrow(**columns: pa.Array | list) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()


def test_json_values_come_in_offset_order_with_a_sequence_of_their_own(spark, topic, tmp_path):
    spec = topic(partitions=2)
    send(spark, spec, numbered(0, 5), partition=0)
    send(spark, spec, numbered(100, 103), partition=1)
    received = Received(read(spark, spec), tmp_path).run()
    found = [
        (*place(row.sequence), n)
        for row, n in zip(received.rows, numbers(received.rows), strict=True)
    ]
    expected = [(0, i, 0, i) for i in range(5)] + [(1, i, 0, 100 + i) for i in range(3)]
    assert sorted(found) == expected
    for partition in (0, 1):
        offsets = [offset for at, offset, _, _ in found if at == partition]
        assert offsets == sorted(offsets)


def test_a_batch_holds_no_more_messages_than_asked_for(spark, topic, tmp_path):
    spec = topic(partitions=2)
    send(spark, spec, numbered(0, 30), partition=0)
    send(spark, spec, numbered(100, 110), partition=1)
    received = Received(read(spark, spec, rows_per_batch=8), tmp_path).run()
    sizes = [len(rows) for _, rows in received.batches]
    assert max(sizes) <= 8
    assert sorted(numbers(received.rows)) == [*range(30), *range(100, 110)]


def test_a_query_that_failed_goes_on_at_its_checkpoint(spark, topic, tmp_path):
    spec = topic()
    send(spark, spec, numbered(0, 25))
    crashed = Received(read(spark, spec, 10), tmp_path, n_batches_before_crash=2)
    with pytest.raises(StreamingQueryException):
        crashed.run()
    assert numbers(crashed.rows) == [*range(20)]
    send(spark, spec, numbered(25, 30))
    resumed = Received(read(spark, spec, 10), tmp_path).run()
    assert numbers(resumed.rows) == [*range(20, 30)]
    # The batch that failed comes again as it was.
    batch, rows = resumed.batches[0]
    assert (batch, len(rows)) == (2, 5)


def test_messages_without_a_value_or_without_sense_become_dead_letters(spark, topic, tmp_path):
    spec = topic()
    values = [b'{"x": 1, "y": 2}', None, b"", b"{", b"\xff\xfe", b'{"x": 3}', b'{"y": 5, "x": 4}']
    send(spark, spec, values)
    received = Received(read(spark, spec), tmp_path).run()
    assert [row.rows for row in received.rows] == values

    found = parsed(spec, received.rows)
    assert [row["features"] for row in found] == [[1, 2], *[None] * 5, [4, 5]]
    assert [(row["reason"], row["row"]) for row in found[1:-1]] == [
        (UNPARSABLE, '{"_corrupt_line": ""}'),
        (UNPARSABLE, '{"_corrupt_line": ""}'),
        (UNPARSABLE, '{"_corrupt_line": "{"}'),
        (UNPARSABLE, r'{"_corrupt_line": "\\xff\\xfe"}'),
        (NULL_FEATURE, '{"x": 3}'),
    ]


def test_arrow_messages_come_as_typed_rows(spark, topic, tmp_path):
    spec = topic(value_format="arrow")
    send(spark, spec, [arrow(x=[0.5, 1.5, None], y=[1, 2, 3]), arrow(y=[4], x=[2])])
    received = Received(read(spark, spec), tmp_path).run()
    rows = parsed(spec, received.rows)
    assert [(place(row["sequence"]), row["features"], row["reason"]) for row in rows] == [
        ((0, 0, 0), [0.5, 1], None),
        ((0, 0, 1), [1.5, 2], None),
        ((0, 0, 2), None, NULL_FEATURE),
        ((0, 1, 0), [2, 4], None),
    ]


def test_a_message_that_is_no_arrow_stream_is_one_dead_letter(spark, topic, tmp_path):
    spec = topic(value_format="arrow")
    unusable = [b"garbage", None, arrow(x=[1.0] * 1025, y=[1] * 1025), arrow(x=[1.0])]
    send(spark, spec, [arrow(x=[1.0], y=[1]), *unusable, arrow(x=[2.0], y=[2])])
    received = Received(read(spark, spec), tmp_path).run()
    rows = parsed(spec, received.rows)
    assert [(place(row["sequence"]), row["features"], row["reason"]) for row in rows] == [
        ((0, 0, 0), [1, 1], None),
        *(((0, i, 0), None, UNPARSABLE) for i in range(1, 4)),
        ((0, 4, 0), None, NULL_FEATURE),
        ((0, 5, 0), [2, 2], None),
    ]


def test_predictions_are_sent_with_key_value_and_headers(spark, topic):
    spec = topic()
    predictions = spark.createDataFrame(
        [
            ("e1", datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), 1, [0.25, 0.75], 7, 12, False, 3),
            ("é2", None, 0, [1.0, 0.0], 8, 13, True, 3),
        ],
        "event_id string, event_time timestamp, prediction long, probabilities array<float>, "
        "model_version long, model_age_ms long, stale boolean, batch_id long",
    )
    write_kafka(predictions.coalesce(1), spec, query="q", batch=3)
    sent = (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", spec.servers)
        .option("subscribe", spec.place)
        .option("includeHeaders", True)
        .load()
        .orderBy("offset")
        .collect()
    )
    assert [row.key.decode() for row in sent] == ["e1", "é2"]
    assert [json.loads(row.value) for row in sent] == [
        {
            "event_id": "e1",
            "event_time": "2026-01-02T03:04:05.678901Z",
            "prediction": 1,
            "probabilities": [0.25, 0.75],
            "model_version": 7,
            "model_age_ms": 12,
            "stale": False,
            "batch_id": 3,
        },
        {
            "event_id": "é2",
            "event_time": None,
            "prediction": 0,
            "probabilities": [1.0, 0.0],
            "model_version": 8,
            "model_age_ms": 13,
            "stale": True,
            "batch_id": 3,
        },
    ]
    headers = [{header.key: header.value.decode() for header in row.headers} for row in sent]
    assert headers == [
        {"query": "q", "batch": "3", "version": "7"},
        {"query": "q", "batch": "3", "version": "8"},
    ]


@pytest.mark.usefixtures("broker")
def test_python_looks_for_no_module_in_the_jars():
    assert not [path for path in sys.path if path.endswith(".jar")]


def test_a_topic_that_is_there_passes_the_check(spark, topic):
    check_topic(spark, topic())


def test_a_missing_topic_is_told_in_one_line(spark, broker):
    spec = SourceSpec("kafka", "json", "nowhere", broker.servers)
    assert refusal(spark, spec) == (
        f"kafka://{broker.servers}/nowhere: the broker has no topic 'nowhere'. Create it, or name "
        "another"
    )


@pytest.mark.usefixtures("broker")
def test_a_broker_that_does_not_answer_is_told_in_one_line(spark):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{deaf.getsockname()[1]}"
        assert refusal(spark, SourceSpec("kafka", "json", "t", servers)) == (
            f"kafka://{servers}/t: no broker answered at {servers} within 1 s. Start it, or name "
            "another"
        )


@pytest.mark.usefixtures("broker")
@pytest.mark.parametrize("servers", ["no.such.host.invalid:9092", "nonsense"])
def test_servers_that_are_none_are_told_in_one_line(spark, servers):
    message = refusal(spark, SourceSpec("kafka", "json", "t", servers))
    assert message.startswith(f"kafka://{servers}/t: ")
    assert "bootstrap" in message


def refusal(spark: SparkSession, spec: SourceSpec) -> str:
    with pytest.raises(UserError) as caught:
        check_topic(spark, spec, timeout_seconds=1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_arrow_without_its_columns_is_refused_before_anything_is_read():
    spec = SourceSpec("kafka", "arrow", "t", "localhost:1")
    with pytest.raises(UserError) as caught:
        describe_source(spec, "events", None, ("x",))
    assert str(caught.value).startswith(f"--events: {spec} does not say the columns of its rows")
    assert "--events-schema" in str(caught.value)
    assert describe_source(spec, "events", "x double", ("x",)).layout.columns == ("x",)


def test_messages_lost_before_they_were_read_end_the_query(spark, topic, broker, tmp_path):
    spec = topic()
    send(spark, spec, numbered(0, 5))
    Received(read(spark, spec), tmp_path).run()
    send(spark, spec, numbered(5, 10))
    broker.delete_records(spec.place, partition=0, before=7)
    with pytest.raises(StreamingQueryException) as caught:
        Received(read(spark, spec), tmp_path).run()
    assert str(explain_failure(caught.value, spec)) == (
        f"{spec}: messages are gone that this query has not read: Could not read records in "
        f"offset [5, 10) for topic partition {spec.place}-0; --no-fail-on-data-loss goes on "
        "without them"
    )
    tolerant = Received(read(spark, spec, fail_on_data_loss=False), tmp_path).run()
    assert numbers(tolerant.rows) == [7, 8, 9]


def test_a_topic_that_was_deleted_or_made_anew_ends_the_query(spark, topic, broker, tmp_path):
    spec = topic()
    send(spark, spec, numbered(0, 5))
    Received(read(spark, spec), tmp_path).run()
    broker.delete_topic(spec.place)
    with pytest.raises(StreamingQueryException) as gone:
        Received(read(spark, spec), tmp_path).run()
    assert str(explain_failure(gone.value, spec)) == (
        f"{spec}: the broker has no topic '{spec.place}' any more"
    )
    broker.create_topic(spec.place)
    with pytest.raises(StreamingQueryException) as anew:
        Received(read(spark, spec), tmp_path).run()
    assert f"Partition {spec.place}-0 offset was changed from 5 to 0" in str(
        explain_failure(anew.value, spec)
    )


def test_a_prediction_that_the_broker_does_not_take_is_told_in_one_line(spark, topic):
    spec = topic()
    predictions = spark.range(1).selectExpr("repeat('x', 2000000) event_id", "1L model_version")
    with pytest.raises(StreamFailedError, match="RecordTooLargeException") as caught:
        write_kafka(predictions, spec, query="q", batch=0)
    assert str(caught.value).startswith(f"{spec}: RecordTooLargeException: ")
    assert "\n" not in str(caught.value)


def test_a_query_goes_on_after_the_broker_was_killed(spark, topic, broker, tmp_path):
    spec = topic()
    send(spark, spec, numbered(0, 5))
    received = Received(read(spark, spec), tmp_path)
    query = received.start(processingTime="0 seconds")
    try:
        wait_until(lambda: len(received.rows) == 5, "the first rows are read", 60)
        broker.kill()
        broker.start()
        send(spark, spec, numbered(5, 10))
        wait_until(lambda: len(received.rows) == 10 or not query.isActive, "the rest is", 120)
        assert query.exception() is None
    finally:
        query.stop()
    assert numbers(received.rows) == [*range(10)]
