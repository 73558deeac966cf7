"""What ends a live stream is named in one line, in the words of the system that failed."""

from __future__ import annotations

import json
import sqlite3
from itertools import count

import pytest
from pyspark.sql import SparkSession

from app.config.connectors import SourceSpec
from app.errors import StorageError, StreamFailedError
from app.streaming.replay import replay
from tests.integration.live_streams import LiveStream, live_run, live_stream, write_json
from tests.integration.streams import small_settings

_numbers = count()


@pytest.fixture
def topic(broker) -> SourceSpec:
    name = f"lost-{next(_numbers)}"
    broker.create_topic(name)
    return SourceSpec("kafka", "json", name, broker.servers)


def send(spark: SparkSession, spec: SourceSpec, rows: list[dict]) -> None:
    values = [(json.dumps(row),) for row in rows]
    df = spark.createDataFrame(values, "value string").coalesce(1)
    writer = df.write.format("kafka").option("kafka.bootstrap.servers", spec.servers)
    writer.option("topic", spec.place).save()


@pytest.fixture
def rows(tmp_path) -> LiveStream:
    rows = live_stream(100)
    write_json(tmp_path / "feedback", rows.feedback)
    return rows


def test_messages_lost_in_kafka_are_named_with_what_goes_on_without_them(
    spark, broker, topic, rows, tmp_path
):
    sources = str(topic), f"json:{tmp_path}/feedback"
    send(spark, topic, rows.events[:50])
    live_run(tmp_path / "w", *sources)
    send(spark, topic, rows.events[50:])
    broker.delete_records(topic.place, partition=0, before=70)
    with pytest.raises(StreamFailedError) as caught:
        live_run(tmp_path / "w", *sources)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{topic}: messages are gone that this query has not read: Could not read" in message
    assert message.endswith("--no-fail-on-data-loss goes on without them")
    summary = live_run(tmp_path / "w", *sources, fail_on_data_loss=False)
    assert summary.total.rows_scored == len(rows.events) - 20


def test_a_topic_that_was_deleted_is_named(spark, broker, topic, rows, tmp_path):
    sources = str(topic), f"json:{tmp_path}/feedback"
    send(spark, topic, rows.events)
    feedback = SourceSpec("kafka", "json", f"{topic.place}-feedback", broker.servers)
    broker.create_topic(feedback.place)
    # Gone once the stream has begun: what is looked at before it begins is another matter.
    from app.streaming import stream as stream_module

    opened = stream_module.open_source

    def open_and_delete(*args, **options):
        rows = opened(*args, **options)
        if args[1].spec == topic:
            broker.delete_topic(topic.place)
        return rows

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream_module, "open_source", open_and_delete)
        with pytest.raises(StreamFailedError, match=f"{topic.place}.* any more") as caught:
            live_run(tmp_path / "w", *sources)
    assert "\n" not in str(caught.value)


def test_a_full_disk_under_the_ids_of_a_replay_is_named(tmp_path, monkeypatch):
    """As the ledger of a live stream does, and with nothing learned of that batch."""
    path = tmp_path / "in.csv"
    path.write_text("id,x0,x1,y\n" + "".join(f"e{i},{i % 7},{i % 3},{i % 2}\n" for i in range(60)))
    settings = small_settings(path, tmp_path / "w", id="id", label="y", rows_per_batch=20)

    class FullDisk(sqlite3.Connection):
        def execute(self, statement, *args):
            if statement.startswith("INSERT INTO seen") and args[0][2] == 1:
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(statement, *args)

    connect = sqlite3.connect
    with monkeypatch.context() as patched:
        patched.setattr(
            "app.files.database.sqlite3.connect",
            lambda *args, **options: connect(*args, factory=FullDisk, **options),
        )
        with pytest.raises(StorageError, match="seen_ids.sqlite cannot be written: .* is full"):
            replay(settings)
    summary = replay(settings)
    assert summary.total.rows_learned == 60
