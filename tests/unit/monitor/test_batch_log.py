"""The batch log keeps one record a batch, and its last lines say what all add up to."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import threading
from pathlib import Path

import pytest

from app.monitor.batch_log import BatchLog
from app.monitor.metrics import Totals
from app.monitor.records import BatchRecord, LabelCounts
from tests.unit.damages import TO_JSON
from tests.unit.deaths import every_death
from tests.unit.monitor.batches import RECORD, record


@pytest.fixture
def log(tmp_path) -> BatchLog:
    return BatchLog(tmp_path / "batches")


def numbered(batch: int, **changes) -> BatchRecord:
    """Return the record of batch n, done in second n of a day of ten seconds."""
    day, second = divmod(batch, 10)
    finished_at = f"2024-01-{day + 1:02d}T00:00:{second:02d}.000+00:00"
    labels = LabelCounts(3, {"late_feedback": 1}, batch, 0.5, float(batch % 7))
    values = {"rows_learned": batch, "finished_at": finished_at, "labels": labels}
    return record(batch=batch, **values | changes)


def older_release_writes(log: BatchLog, each: BatchRecord) -> Path:
    path = log.directory / each.query / f"{each.batch:08d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = dataclasses.asdict(each)
    path.write_text(json.dumps(content))
    return path


def files(log: BatchLog, query: str = "q") -> list[str]:
    return sorted(path.name for path in (log.directory / query).iterdir())


def reopened(log: BatchLog) -> BatchLog:
    return BatchLog(log.directory)


def test_a_record_comes_back_as_it_was_written(log):
    log.write(RECORD)
    assert log.read() == [RECORD]


def test_a_batch_tried_again_overwrites_its_own_record_only(log):
    other = record(batch=1, finished_at="2024-01-01T00:00:02.000+00:00")
    retried = record(rows_scored=91, finished_at="2024-01-01T00:00:01.000+00:00")
    for written in (RECORD, other, retried):
        log.write(written)
        assert log.totals() == Totals.of(log.read())
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


def test_a_batch_is_there_once_its_record_is_written(log):
    asked = [("q", 0), ("q", 1), ("q", 10), ("other", 0)]
    assert not any(log.has(query, batch) for query, batch in asked)
    log.write(RECORD)
    log.write(record(batch=10))
    assert [log.has(query, batch) for query, batch in asked] == [True, False, True, False]
    assert log.find("q", 10) == record(batch=10)


def test_a_work_directory_without_batches_has_no_records(log):
    assert log.read() == []
    assert log.totals() == Totals.of([])
    assert not log.directory.exists()


class TestManyBatches:
    def test_there_is_one_file_a_day(self, log):
        for batch in range(35):
            log.write(numbered(batch))
        assert files(log) == [f"2024-01-0{day}.jsonl" for day in (1, 2, 3, 4)]
        assert log.read() == [numbered(batch) for batch in range(35)]

    def test_a_clock_that_was_put_back_does_not_change_which_line_is_the_last(self, log):
        log.write(numbered(0, finished_at="2024-02-01T00:00:00+00:00"))
        log.write(numbered(1, finished_at="2024-01-31T00:00:00+00:00"))
        assert files(log) == ["2024-02-01.jsonl"]
        assert log.totals().batches == 2

    def test_totals_are_those_of_all_records_at_any_time(self, log):
        retried = []
        for batch in range(40):
            log.write(numbered(batch))
            if batch % 3 == 0:
                log.write(numbered(batch, rows_learned=batch + 1))
                retried.append(batch)
            log.write(numbered(batch, query="p", rows_scored=7))
            assert reopened(log).totals() == Totals.of(log.read())
        assert log.totals().batches == 80
        assert log.totals().rows_learned == 2 * sum(range(40)) + len(retried)

    def test_totals_read_the_end_of_the_last_file_alone(self, log):
        for batch in range(500):
            log.write(numbered(batch, finished_at=f"2024-01-01T{batch:05d}"))
        log.write(numbered(500, finished_at="2024-01-02"))
        first, second = sorted((log.directory / "q").iterdir())
        first.write_bytes(b"x" * first.stat().st_size)
        assert second.stat().st_size < 2000
        assert log.totals().batches == 501

    def test_lines_longer_than_what_is_read_at_once_are_found_from_the_end(self, log):
        alpha = [1 / 3] * 10_000
        for batch in range(3):
            log.write(numbered(batch, alpha=alpha))
        assert [log.has("q", batch) for batch in range(4)] == [True, True, True, False]
        assert log.totals().batches == 3

    def test_an_old_batch_is_found_too(self, log, monkeypatch):
        monkeypatch.setattr("app.monitor.batch_log._RECENT_LINES", 5)
        for batch in range(0, 40, 2):
            log.write(numbered(batch))
        assert [batch for batch in range(40) if log.has("q", batch)] == list(range(0, 40, 2))

    def test_learners_that_write_at_once_lose_no_line(self, log):
        def write(first: int) -> None:
            for batch in range(first, 60, 3):
                reopened(log).write(numbered(batch, finished_at="2024-01-01"))

        threads = [threading.Thread(target=write, args=[first]) for first in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(each.batch for each in log.read()) == list(range(60))
        assert log.totals().batches == 60


class TestDamage:
    @pytest.mark.parametrize("kept", [0, 1, 40, -1])
    def test_a_torn_last_line_is_cut_at_the_next(self, log, kept):
        for batch in range(3):
            log.write(numbered(batch))
        (path,) = (log.directory / "q").iterdir()
        *whole, last = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(whole) + last[:kept])
        assert reopened(log).read() == [numbered(0), numbered(1)]
        assert reopened(log).totals().batches == 2
        assert not reopened(log).has("q", 2)
        reopened(log).write(numbered(2))
        assert path.read_bytes() == b"".join(whole) + last

    @pytest.mark.parametrize("damage", TO_JSON, ids=lambda damage: damage.__name__)
    def test_a_damaged_line_is_left_out_and_told(self, log, damage):
        rng = random.Random(1)
        for batch in range(4):
            log.write(numbered(batch))
        (path,) = (log.directory / "q").iterdir()
        lines = path.read_bytes().splitlines()
        for n in range(4):
            for _ in range(20):
                damaged = damage(lines[n], rng, lines[n - 1]).replace(b"\n", b"?")
                path.write_bytes(b"\n".join([*lines[:n], damaged, *lines[n + 1 :], b""]))
                told: list[str] = []
                found = BatchLog(log.directory, told.append)
                records = found.read()
                others = [numbered(batch) for batch in range(4) if batch != n]
                assert [each for each in records if each.batch != n] == others
                assert len(records) + len(told) >= (4 if damaged != lines[n - 1] else 3)
                # The sums before a line that is whole count what was damaged since.
                assert found.totals().batches in ((4,) if n < 3 else (3, 4))
                assert found.has("q", 3) or n == 3

    def test_a_message_tells_how_many_and_where(self, log):
        for batch in range(3):
            log.write(numbered(batch))
        (path,) = (log.directory / "q").iterdir()
        path.write_bytes(b"{}\n[]\n" + path.read_bytes())
        told: list[str] = []
        assert len(BatchLog(log.directory, told.append).read()) == 3
        assert told == [f"2 records of batches in {log.directory} are damaged: left out"]

    def test_a_directory_of_damaged_lines_alone_is_begun_anew(self, log):
        log.write(RECORD)
        (path,) = (log.directory / "q").iterdir()
        path.write_bytes(b"\x00" * 100 + b"\n")
        assert log.totals() == Totals.of([])
        log.write(record(batch=1))
        assert log.read() == [record(batch=1)]


class TestOlderRelease:
    """One file a batch."""

    def test_its_records_are_read_and_added_up(self, log):
        for batch in range(12):
            older_release_writes(log, numbered(batch))
        assert log.read() == [numbered(batch) for batch in range(12)]
        assert log.totals() == Totals.of(log.read())
        assert log.find("q", 3) == numbered(3)
        assert len(files(log)) == 12, "reading changes nothing"

    def test_they_become_lines_before_the_first_new_one(self, log):
        for batch in range(12):
            older_release_writes(log, numbered(batch))
        older_release_writes(log, numbered(0, query="p"))
        log.write(numbered(12))
        assert files(log) == ["2024-01-01.jsonl", "2024-01-02.jsonl"]
        assert files(log, "p") == ["2024-01-01.jsonl"]
        expected = [numbered(0, query="p"), *(numbered(batch) for batch in range(13))]
        assert sorted(log.read(), key=lambda r: (r.query, r.batch)) == expected
        assert log.totals() == Totals.of(log.read())

    def test_a_record_from_before_stale_rows_were_counted_is_read(self, log):
        path = older_release_writes(log, RECORD)
        older = json.loads(path.read_text())
        del older["rows_stale"], older["labels"]
        path.write_text(json.dumps(older))
        assert log.read() == [record(rows_stale=0)]

    @pytest.mark.parametrize("content", ["", "[]", '{"query": ', "[" * 100_000, '{"batch": "x"}'])
    def test_a_damaged_file_is_left_out_and_kept(self, log, content):
        path = older_release_writes(log, RECORD)
        path.write_text(content)
        older_release_writes(log, record(batch=1))
        told: list[str] = []
        assert BatchLog(log.directory, told.append).read() == [record(batch=1)]
        assert len(told) == 1
        log.write(record(batch=2))
        assert log.read() == [record(batch=1), record(batch=2)]
        assert (log.directory / "q" / "00000000.json.aside-1").read_text() == content

    def test_what_a_crash_left_half_written_is_passed_over(self, log):
        older_release_writes(log, RECORD)
        (log.directory / "q" / ".00000001.json.0badcafe.tmp").write_text('{"query": ')
        assert log.read() == [RECORD]
        assert not log.has("q", 1)

    def test_dying_at_any_step_leaves_every_record_once(self, tmp_path):
        expected = [numbered(batch) for batch in range(13)]
        for dies in every_death():
            log = BatchLog(tmp_path / "batches")
            for batch in range(12):
                older_release_writes(log, numbered(batch))
            dies(lambda log=log: log.write(numbered(12)))
            assert reopened(log).read() in (expected[:12], expected)
            reopened(log).write(numbered(12))
            assert reopened(log).read() == expected
            assert reopened(log).totals() == Totals.of(expected)
            assert files(log) == ["2024-01-01.jsonl", "2024-01-02.jsonl"]
            shutil.rmtree(log.directory)
