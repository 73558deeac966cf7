"""The batch log keeps one record a batch, and the totals add up."""

from __future__ import annotations

import dataclasses
import json

import pytest

from app.monitor.batch_log import BatchLog, BatchRecord, Totals

RECORD = BatchRecord(
    query="q",
    batch=0,
    rows_scored=90,
    rows_learned=80,
    dead_letters={"null_feature": 7, "unparsable": 3},
    served_errors=20,
    prequential_errors=16,
    version=1,
    alpha=[0.25, 0.75],
    finished_at="2024-01-01T00:00:00.000+00:00",
    seconds={"score": 1.5, "learn": 0.25, "publish": 0.125},
    rows_stale=30,
)


def record(**changes) -> BatchRecord:
    return dataclasses.replace(RECORD, **changes)


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


class TestTotals:
    def test_everything_is_summed(self):
        second = record(
            rows_scored=10,
            rows_learned=20,
            dead_letters={"nan_feature": 1, "unparsable": 4},
            served_errors=30,
            prequential_errors=9,
            seconds={"score": 0.5, "learn": 0.25, "publish": 0.5},
            rows_stale=4,
        )
        assert Totals.of([RECORD, second]) == Totals(
            batches=2,
            rows_in=115,
            rows_scored=100,
            rows_learned=100,
            rows_stale=34,
            dead_letters=15,
            dead_letters_by_reason={"nan_feature": 1, "null_feature": 7, "unparsable": 7},
            served_error=0.5,
            prequential_error=0.25,
            score_seconds=2.0,
            learn_seconds=0.5,
            publish_seconds=0.625,
            phases={"score": 2.0, "publish": 0.625},
        )

    def test_diverged_rows_are_dead_letters_and_come_in_once(self):
        totals = Totals.of([RECORD, record(dead_letters={"diverged": 40, "unparsable": 1})])
        assert (totals.rows_in, totals.rows_scored) == (100 + 91, 180)
        assert totals.dead_letters == 10 + 41
        assert totals.dead_letters_by_reason["diverged"] == 40

    def test_reasons_come_in_alphabetical_order(self):
        totals = Totals.of([record(dead_letters={"z": 1, "b": 1}), record(dead_letters={"a": 1})])
        assert list(totals.dead_letters_by_reason) == ["a", "b", "z"]

    @pytest.mark.parametrize(
        "records", [[], [record(rows_learned=0, served_errors=0, prequential_errors=0)]]
    )
    def test_there_is_no_error_without_learned_rows(self, records):
        totals = Totals.of(records)
        assert (totals.served_error, totals.prequential_error) == (None, None)

    def test_a_batch_that_learned_nothing_took_no_time_to_learn(self):
        totals = Totals.of([record(seconds={"score": 0.5})])
        assert (totals.score_seconds, totals.learn_seconds, totals.publish_seconds) == (0.5, 0, 0)
