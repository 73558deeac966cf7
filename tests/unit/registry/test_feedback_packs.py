"""Labelled rows in packs: each batch is read as it was written, whoever packs or dies meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import ModelNotFoundError, RegistryError
from app.registry import feedback_log
from app.registry.feedback_log import FeedbackLog
from app.registry.packs import feedback_packs
from tests.unit.deaths import every_death
from tests.unit.registry.test_feedback_log import (
    assert_same,
    rows,
    rows_of_older_release,
    write_as_older_release,
)

SIZE, KEPT = 5, 2
# Not every batch has labelled rows.
BATCHES = [batch for batch in range(24) if batch not in (3, 6, 20)]


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr(feedback_packs, "PER_PACK", SIZE)
    monkeypatch.setattr(feedback_packs, "NEVER_PACKED", KEPT)
    # The order of steps is tried here, and not the disk.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def log(tmp_path) -> FeedbackLog:
    return FeedbackLog(tmp_path / "feedback")


def fill(log: FeedbackLog, query: str = "q", batches=BATCHES) -> FeedbackLog:
    for batch in batches:
        log.write(query, batch, rows(batch % 4 + 1, batch))
    return log


def assert_holds(log: FeedbackLog, query: str = "q", batches=BATCHES) -> None:
    for batch in range(30):
        if batch in batches:
            assert_same(log.read(query, batch), rows(batch % 4 + 1, batch))
        else:
            with pytest.raises(ModelNotFoundError):
                log.read(query, batch)


def names(log: FeedbackLog, query: str = "q") -> list[str]:
    found = (log.directory / f"query={query}").glob("[a-z]*")
    return sorted(path.name for path in found)


def test_every_batch_is_read_as_it_was_written(log):
    fill(log)
    assert log.pack() == 18

    assert_holds(log)
    assert log.pack() == 0
    assert names(log) == [
        *(f"batch={batch:08d}.parquet" for batch in (21, 22, 23)),
        *(f"batches={first:08d}.parquet" for first in (0, 5, 10, 15)),
    ]


def test_each_query_has_packs_of_its_own(log):
    fill(log)
    fill(log, "other", [0, 1, 2, 3, 4, 5, 6, 7])
    assert log.pack() == 18 + 5

    assert_holds(log)
    assert_holds(log, "other", range(8))


def test_the_newest_batches_of_a_query_keep_their_files(log):
    fill(log, batches=range(SIZE + KEPT - 1))
    assert log.pack() == 0
    log.write("q", SIZE + KEPT - 1, rows(1))
    assert log.pack() == SIZE


def test_a_pack_is_parquet_that_others_read_with_the_batch_of_each_row(log):
    fill(log).pack()
    table = pq.read_table(log.directory / "query=q" / "batches=00000000.parquet")

    assert table.schema.names[:4] == ["event_id", "features", "label_index", "batch"]
    assert table["batch"].to_pylist() == [0, 1, 1, 2, 2, 2, 4]


def test_a_batch_that_was_packed_is_not_written_again(log):
    fill(log).pack()
    before = names(log)
    log.write("q", 4, rows(9, seed=99))

    assert names(log) == before
    assert_holds(log)


def test_a_learner_that_slept_until_its_batch_was_packed_writes_nothing(log, monkeypatch):
    create = feedback_log.create_durably

    def sleeping(path, data):
        with monkeypatch.context() as patched:
            patched.setattr(feedback_log, "create_durably", create)
            fill(log).pack()
        return create(path, data)

    monkeypatch.setattr(feedback_log, "create_durably", sleeping)
    log.write("q", 4, rows(9, seed=99))
    assert not log.path("q", 4).exists()
    assert_holds(log)


def test_a_batch_that_comes_late_is_read_from_its_own_file(log):
    fill(log).pack()
    log.write("q", 3, rows(4, 3))
    log.pack()

    assert_holds(log, batches=sorted([*BATCHES, 3]))


def test_dying_at_any_step_loses_nothing(tmp_path):
    for dies in every_death():
        log = fill(FeedbackLog(tmp_path / "feedback"))
        dies(log.pack)
        assert_holds(log)
        log.write("q", 25, rows(2, 25))
        log.pack()
        assert_holds(log, batches=[*BATCHES, 25])
        assert len(names(log)) == 8
        shutil.rmtree(log.directory)


@pytest.mark.parametrize("kept", [0, 3, 400, -1])
def test_batches_beside_a_damaged_file_keep_theirs(log, kept):
    fill(log)
    path = log.path("q", 8)
    path.write_bytes(path.read_bytes()[:kept])
    assert log.pack() == 14

    assert [batch for batch in range(20) if log.path("q", batch).exists()] == [5, 7, 8, 9]
    with pytest.raises(RegistryError, match=f"{path} holds no labelled rows"):
        log.read("q", 8)


@pytest.mark.parametrize("kept", [0, 3, 400, -1])
def test_a_damaged_pack_is_reported_by_its_path_and_kept(log, kept):
    fill(log).pack()
    path = log.directory / "query=q" / "batches=00000005.parquet"
    damaged = path.read_bytes()[:kept]
    path.write_bytes(damaged)
    log.pack()

    for use in (lambda: log.read("q", 7), lambda: log.write("q", 7, rows(1))):
        with pytest.raises(RegistryError, match=f"{path} holds no labelled rows"):
            use()
    assert_same(log.read("q", 11), rows(4, 11))
    assert path.read_bytes() == damaged


def test_files_are_not_removed_for_a_pack_that_differs(log):
    fill(log)
    shutil.copy(log.path("q", 9), kept := log.directory / "kept")
    log.pack()
    shutil.copy(kept, log.path("q", 8))
    log.pack()

    assert log.path("q", 8).exists()


class TestOlderRelease:
    """Older releases kept features in float32, in files of one batch and in packs."""

    OLD = range(12)

    def fill(self, log: FeedbackLog) -> None:
        for batch in self.OLD:
            write_as_older_release(log, "q", batch, rows_of_older_release(batch % 4 + 1, batch))

    def assert_holds(self, log: FeedbackLog, batches: Sequence[int]) -> None:
        for batch in batches:
            made = rows_of_older_release if batch in self.OLD else rows
            assert_same(log.read("q", batch), made(batch % 4 + 1, batch))

    def pack_as_older_release(self, log: FeedbackLog, monkeypatch) -> None:
        with monkeypatch.context() as older:
            older.setattr(feedback_packs, "as_float64", lambda table: table)
            assert log.pack() == 10

    def missing(self, log: FeedbackLog) -> list[int]:
        return [batch for batch in range(10) if not log.path("q", batch).exists()]

    def kinds(self, log: FeedbackLog) -> list[pa.DataType]:
        packs = sorted((log.directory / "query=q").glob("batches=*"))
        return [pq.read_schema(path).field("features").type.value_type for path in packs]

    def test_its_batches_are_packed_with_new_ones_and_removed(self, log):
        self.fill(log)
        batches = range(24)
        fill(log, batches=batches[12:])
        self.assert_holds(log, batches)
        assert log.pack() == 20

        assert self.kinds(log) == [pa.float64()] * 4
        assert self.missing(log) == [*range(10)]
        self.assert_holds(log, batches)

    def test_its_packs_are_read(self, log, monkeypatch):
        self.fill(log)
        self.pack_as_older_release(log, monkeypatch)
        assert self.kinds(log) == [pa.float32()] * 2

        self.assert_holds(log, self.OLD)
        log.write("q", 4, rows(9, seed=99))
        assert not log.path("q", 4).exists()

    def test_files_that_its_packer_died_before_removing_are_removed(self, log, monkeypatch):
        self.fill(log)
        shutil.copytree(log.directory / "query=q", kept := log.directory / "kept")
        self.pack_as_older_release(log, monkeypatch)
        shutil.copytree(kept, log.directory / "query=q", dirs_exist_ok=True)
        assert self.missing(log) == []
        assert log.pack() == 10

        assert self.missing(log) == [*range(10)]
        self.assert_holds(log, self.OLD)

    def test_a_batch_that_its_pack_has_otherwise_is_kept(self, log, monkeypatch):
        self.fill(log)
        self.pack_as_older_release(log, monkeypatch)
        write_as_older_release(log, "q", 12, rows_of_older_release(1))
        # By less than float32 tells apart.
        other = rows_of_older_release(3, 2)
        other.features[0, 0] = np.nextafter(other.features[0, 0], np.inf)
        log.write("q", 13, other)
        shutil.move(log.path("q", 13), log.path("q", 2))
        assert log.pack() == 0

        assert_same(log.read("q", 2), other)


def test_packers_at_once_lose_nothing(log):
    fill(log)
    threads = [threading.Thread(target=log.pack) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    log.pack()
    assert_holds(log)
    assert len(names(log)) == 7
