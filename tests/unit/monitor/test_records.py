"""The batch log keeps one record a batch."""

from __future__ import annotations

import json

import pytest

from app.monitor.records import BatchLog
from tests.unit.monitor.batches import RECORD, record


@pytest.fixture
def log(tmp_path):
    return BatchLog(tmp_path / "batches")


def test_a_record_comes_back_as_it_was_written(log):
    log.write(RECORD)
    assert log.read() == [RECORD]


def test_a_batch_tried_again_overwrites_its_own_record_only(log):
    other = record(batch=1, finished_at="2024-01-01T00:00:02.000+00:00")
    retried = record(rows_scored=91, finished_at="2024-01-01T00:00:01.000+00:00")
    for written in (RECORD, other, retried):
        log.write(written)
    assert log.read() == [retried, other]


def test_records_come_oldest_first_over_all_queries(log):
    times = ["2024-01-01T00:00:03+00:00", "2024-01-01T00:00:01+00:00", "2024-01-01T00:00:02+00:00"]
    written = [
        record(query=query, batch=batch, finished_at=time)
        for query, batch, time in zip("aab", (12, 0, 0), times, strict=True)
    ]
    for each in written:
        log.write(each)
    assert log.read() == [written[1], written[2], written[0]]


def test_batches_of_one_instant_come_in_the_order_of_their_numbers(log):
    written = [record(batch=batch) for batch in (100_000_000, 2, 10)]
    for each in written:
        log.write(each)
    assert [each.batch for each in log.read()] == [2, 10, 100_000_000]


def test_what_a_crash_left_half_written_is_passed_over(log):
    log.write(RECORD)
    (log.directory / "q" / ".00000001.json.0badcafe.tmp").write_text('{"query": ')
    assert log.read() == [RECORD]
    assert not log.has("q", 1)


def test_a_batch_is_there_once_its_record_is_written(log):
    asked = [("q", 0), ("q", 1), ("q", 10), ("other", 0)]
    assert not any(log.has(query, batch) for query, batch in asked)
    log.write(RECORD)
    log.write(record(batch=10))
    assert [log.has(query, batch) for query, batch in asked] == [True, False, True, False]


def test_a_record_from_before_stale_rows_were_counted_is_read(log):
    log.write(RECORD)
    (path,) = log.directory.glob("q/*.json")
    older = json.loads(path.read_text())
    del older["rows_stale"]
    path.write_text(json.dumps(older))
    assert log.read() == [record(rows_stale=0)]


def test_a_work_directory_without_batches_has_no_records(log):
    assert log.read() == []


def test_rows_in_are_those_scored_and_the_dead_letters():
    assert RECORD.rows_in == 100
    assert record(dead_letters={}).rows_in == 90


def test_diverged_rows_were_scored_and_count_once():
    diverged = record(dead_letters=RECORD.dead_letters | {"diverged": 40})
    assert diverged.rows_in == RECORD.rows_in == 100
    assert record(rows_scored=40, dead_letters={"diverged": 40}).rows_in == 40
