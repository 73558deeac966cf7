"""What ends a live stream is named in one line, in the words of the system that failed."""

from __future__ import annotations

import json
import sqlite3
import threading
from itertools import count
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from app.config.connectors import SourceSpec
from app.errors import StaleLearnerError, StorageError, StreamFailedError
from app.monitor.listener import Listener
from app.monitor.records import BatchRecord
from app.registry.epochs import Epochs
from app.streaming.query import StopRequest
from app.streaming.replay import replay
from app.streaming.stream import stream
from tests.integration.live_streams import (
    LiveStream,
    live_run,
    live_settings,
    live_stream,
    write_json,
)
from tests.integration.streams import small_csv, small_settings
from tests.waiting import wait_until

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


def test_a_topic_that_was_deleted_is_named_and_not_the_other(spark, broker, topic, rows, tmp_path):
    labels = SourceSpec("kafka", "json", f"{topic.place}-labels", broker.servers)
    broker.create_topic(labels.place)
    send(spark, topic, rows.events)
    send(spark, labels, rows.feedback[:50])
    live_run(tmp_path / "w", str(topic), str(labels))
    send(spark, labels, rows.feedback[50:])
    broker.delete_records(labels.place, partition=0, before=60)
    with pytest.raises(StreamFailedError) as caught:
        live_run(tmp_path / "w", str(topic), str(labels))
    assert f"{labels}: messages are gone" in str(caught.value)
    assert f"{topic}:" not in str(caught.value)


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


class MovedOn(Listener):
    """Has Spark find, where it commits a batch, that the batch is committed."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir

    def committed(self, record: BatchRecord) -> None:
        commits = self.workdir / "checkpoint" / "commits"
        commits.mkdir(exist_ok=True)
        (commits / str(record.batch)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def test_a_checkpoint_that_a_newer_learner_moved_on_is_told_as_that(tmp_path):
    class Rival(MovedOn):
        def committed(self, record: BatchRecord) -> None:
            Epochs(self.workdir / "snapshots").claim(record.query, at_least=1)
            super().committed(record)

    settings = small_settings(small_csv(tmp_path / "in.csv", 300), tmp_path / "w")
    with pytest.raises(StaleLearnerError, match="newer learner"):
        replay(settings, Rival(tmp_path / "w"))


def test_a_checkpoint_that_nobody_else_learns_on_is_told_as_changed(tmp_path):
    settings = small_settings(small_csv(tmp_path / "in.csv", 300), tmp_path / "w")
    with pytest.raises(StreamFailedError) as caught:
        replay(settings, MovedOn(tmp_path / "w"))
    message = str(caught.value)
    assert f"the files of its checkpoint {tmp_path}/w/checkpoint changed by something" in message
    assert "no newer learner has begun on it" in message
    assert "\n" not in message


def test_a_stop_after_an_idle_time_waits_for_the_commit_of_the_batch_in_hand(tmp_path):
    """What Spark reports of an idle trigger has the number of the batch that is yet to come."""
    rows = live_stream(60)
    (tmp_path / "events").mkdir()
    (tmp_path / "feedback").mkdir()
    stop = StopRequest()
    commits = tmp_path / "w" / "live" / "checkpoint" / "commits"

    class StopInBatch(Listener):
        def started(self, rows_to_read: int | None) -> None:
            threading.Thread(target=self.add_rows, daemon=True).start()

        def add_rows(self) -> None:
            session = SparkSession.builder.getOrCreate()
            wait_until(lambda: any(q.lastProgress for q in session.streams.active), "idle", 120)
            write_json(tmp_path / "events", rows.events)

        def committed(self, record: BatchRecord) -> None:
            stop()

    settings = live_settings(
        tmp_path / "w", f"json:{tmp_path}/events", f"json:{tmp_path}/feedback", available_now=False
    )
    summary = stream(settings, StopInBatch(), stop)
    assert summary.run.batches == 1
    assert [path.name for path in commits.iterdir() if path.name.isdigit()] == ["0"]
