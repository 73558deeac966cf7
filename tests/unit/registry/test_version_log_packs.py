"""Version records in packs: readers see the same, whoever packs, appends or dies meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import threading
from pathlib import Path
from unittest import mock

import pytest

from app.errors import DamagedRecordError, VersionConflictError
from app.registry import version_log
from app.registry.packs import version_packs
from app.registry.version_log import HEAD_FILE, VersionLog, model_in
from tests.unit.deaths import every_death
from tests.unit.registry.test_version_log import extend, path_of, record, reopened
from tests.unit.version_records import in_format_1

KEPT, SMALL, LARGE = 3, 5, 20


@pytest.fixture(autouse=True)
def small_packs(monkeypatch):
    monkeypatch.setattr(version_log, "NEVER_PACKED", KEPT)
    monkeypatch.setattr(version_packs, "PER_PACK", SMALL)
    monkeypatch.setattr(version_packs, "PER_DIRECTORY", LARGE)
    # The order of steps is tried here, and not the disk.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def log(tmp_path) -> VersionLog:
    return VersionLog(tmp_path / "snapshots", "m")


def names(log: VersionLog) -> list[str]:
    found = (log.directory / "versions").rglob("[0-9]*.json*")
    return sorted(str(path.relative_to(log.directory / "versions")) for path in found)


def assert_holds(log: VersionLog, newest: int) -> None:
    for seen in (log, reopened(log)):
        assert seen.newest() == record(newest)
        assert list(seen.records()) == [record(version) for version in range(newest + 1)]
        assert [seen.has(version) for version in range(newest + 2)] == [True] * (newest + 1) + [
            False
        ]
        assert seen.read(newest + 1) is None
        assert seen.find("q", 0) == (record(1) if newest else None)


class TestPacking:
    @pytest.mark.parametrize("newest", [0, 6, 7, 8, 22, 23, 47, 100])
    def test_readers_see_the_same(self, log, newest):
        extend(log, 0, newest)
        reopened(log).pack()

        assert_holds(log, newest)

    def test_the_newest_keep_their_files(self, log):
        extend(log, 0, 47)
        assert log.pack() == 45

        assert names(log) == [
            "0000000.jsonl",
            "0000001.jsonl",
            "0000002/0000000040.jsonl",
            "0000002/0000000045.json",
            "0000002/0000000046.json",
            "0000002/0000000047.json",
        ]
        assert log.pack() == 0

    def test_few_files_are_left_of_many_versions(self, log):
        for version in range(300):
            log.append(record(version))
            if version % 7 == 0:
                log.pack()

        assert_holds(log, 299)
        assert len(names(log)) <= 300 / LARGE + LARGE / SMALL + SMALL + KEPT + 7

    def test_the_newest_is_found_without_head_file_wherever_it_is(self, log):
        extend(log, 0, LARGE + KEPT - 1)
        log.pack()
        shutil.rmtree(log.directory / "versions" / "0000001")

        assert reopened(log).newest() == record(LARGE - 1)

    def test_the_model_is_named_by_packs_too(self, log):
        extend(log, 0, 47)
        log.pack()
        for path in (log.directory / "versions").rglob("*.json"):
            path.unlink()

        assert model_in(log.directory) == "m"

    def test_records_of_an_older_format_keep_their_content(self, log):
        extend(log, 0, 30)
        path_of(log, 3).write_text(json.dumps(in_format_1(record(3)) | {"model": "m"}))
        log.pack()

        assert_holds(log, 30)

    def test_a_pack_is_parsed_once_for_all_its_versions(self, log, monkeypatch):
        extend(log, 0, LARGE + KEPT)
        log.pack()
        parsed = []
        original = version_packs._parsed
        monkeypatch.setattr(
            version_packs, "_parsed", lambda data: parsed.append(1) or original(data)
        )

        assert len(list(reopened(log).records())) == LARGE + KEPT + 1
        assert len(parsed) == 1


class TestAppend:
    def test_a_packed_record_may_be_appended_again(self, log):
        extend(log, 0, 30)
        log.pack()
        before = names(log)
        reopened(log).append(record(4))

        assert names(log) == before

    def test_a_version_of_another_commit_is_refused(self, log):
        extend(log, 0, 30)
        log.pack()
        before = names(log)
        with pytest.raises(VersionConflictError, match="version 4 of model 'm'"):
            reopened(log).append(record(4, "other"))

        assert names(log) == before

    def test_a_learner_that_slept_until_its_version_was_packed_forks_nothing(
        self, log, monkeypatch
    ):
        extend(log, 0, 3)
        create = version_log.create_durably

        def sleeping(path: Path, data: bytes) -> bool:
            with monkeypatch.context() as patched:
                patched.setattr(version_log, "create_durably", create)
                extend(reopened(log), 4, 40)
                reopened(log).pack()
            created = create(path, data)
            assert created, "the place is free"
            # Others read while the file is there.
            assert_holds(reopened(log), 40)
            reopened(log).pack()
            assert_holds(reopened(log), 40)
            return created

        slow = reopened(log)
        monkeypatch.setattr(version_log, "create_durably", sleeping)
        with pytest.raises(VersionConflictError):
            slow.append(record(4, "other"))
        monkeypatch.undo()
        assert not any(name.endswith("0000000004.json") for name in names(log))

    def test_what_such_a_learner_leaves_that_dies_there_counts_for_nothing(self, log):
        extend(log, 0, 40)
        forked = log.directory / "versions" / "0000000" / "0000000004.json"
        content = forked.read_text()
        log.pack()
        forked.write_text(content.replace("commit-4", "commit-x"))

        assert_holds(log, 40)
        log.pack(everything=True)
        assert not forked.exists()


class TestDeath:
    @pytest.mark.parametrize("newest", [8, 23])
    def test_packing_that_dies_at_any_step_loses_nothing(self, tmp_path, monkeypatch, newest):
        monkeypatch.setattr(version_packs, "PER_DIRECTORY", LARGE // 2)
        undisturbed = VersionLog(tmp_path / "undisturbed", "m")
        extend(undisturbed, 0, newest + 3)
        undisturbed.pack()
        for dies in every_death():
            log = VersionLog(tmp_path / "snapshots", "m")
            extend(log, 0, newest)
            log.write_current(record(newest))
            dies(reopened(log).pack)
            assert_holds(log, newest)
            # Goes on and is the same in the end.
            extend(log, newest + 1, newest + 3)
            assert_holds(log, newest + 3)
            reopened(log).pack()
            assert_holds(log, newest + 3)
            assert names(log) == names(undisturbed)
            shutil.rmtree(log.directory)

    def test_an_append_that_dies_at_any_step_forks_nothing(self, tmp_path):
        for dies in every_death():
            log = VersionLog(tmp_path / "snapshots", "m")
            extend(log, 0, 20)
            log.pack()
            dies(lambda log=log: reopened(log).append(record(21)))
            assert reopened(log).newest() in (record(20), record(21))
            shutil.rmtree(log.directory)


class TestDamage:
    def test_a_damaged_line_is_reported_for_its_version_alone(self, log):
        extend(log, 0, 47)
        log.pack()
        path = log.directory / "versions" / "0000000.jsonl"
        lines = path.read_bytes().split(b"\n")
        for damaged in (b"", lines[7][:-9], b"[]", b"\xff\xfe", lines[7].replace(b"q", b"p", 1)):
            path.write_bytes(b"\n".join([*lines[:7], damaged, *lines[8:]]))
            for seen in (log, reopened(log)):
                with pytest.raises(DamagedRecordError, match=r"0000000\.jsonl, version 7,"):
                    seen.read(7)
                others = [version for version in range(48) if version != 7]
                assert [seen.read(version) for version in others] == [*map(record, others)]
                assert seen.newest() == record(47)

    def test_a_line_that_lost_its_end_spoils_two_and_no_more(self, log):
        extend(log, 0, 47)
        log.pack()
        path = log.directory / "versions" / "0000000.jsonl"
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join([*lines[:7], lines[7] + lines[8], *lines[9:]]))

        readable = []
        for version in range(20):
            with contextlib.suppress(DamagedRecordError):
                readable.append(log.read(version).version)
        assert readable == [version for version in range(20) if version not in (7, 8)]

    @pytest.mark.parametrize("content", [b"", b"\x00" * 5000, b"{}"])
    def test_a_damaged_pack_is_reported_and_not_replaced(self, log, content):
        extend(log, 0, 47)
        log.pack()
        path = log.directory / "versions" / "0000000.jsonl"
        path.write_bytes(content)
        log.pack(everything=True)

        assert path.read_bytes() == content
        for use in (lambda: log.read(3), lambda: log.append(record(3))):
            with pytest.raises(DamagedRecordError):
                use()

    @pytest.mark.parametrize("gone", [True, False])
    def test_records_beside_a_damaged_or_missing_one_keep_their_files(self, log, gone):
        extend(log, 0, 47)
        path_of(log, 7).unlink() if gone else path_of(log, 7).write_bytes(b"{}")
        assert log.pack() == 40

        assert [version for version in range(48) if path_of_exists(log, version)] == [
            *(version for version in range(5, 10) if not (gone and version == 7)), 45, 46, 47
        ]  # fmt: skip
        path_of_single(log, 7).write_bytes(log._encode(record(7)))
        assert log.pack(everything=True) == 5
        assert_holds(log, 47)
        assert names(log)[0] == "0000000.jsonl"

    def test_files_are_not_removed_for_a_pack_that_lacks_them(self, log):
        extend(log, 0, 12)
        path = log.directory / "versions" / "0000000" / "0000000005.jsonl"
        path.write_bytes(b"".join(log._line(version) + b"\n" for version in (5, 6, 8, 9)))
        log.pack()

        assert path_of_exists(log, 7)


def path_of_single(log: VersionLog, version: int) -> Path:
    return log._packs.single(version)


def path_of_exists(log: VersionLog, version: int) -> bool:
    return path_of_single(log, version).exists()


class TestSeveralAtOnce:
    def test_packers_readers_and_an_appender_at_once(self, log):
        extend(log, 0, 0)
        log.write_current(record(0))
        newest, stop, problems = 200, threading.Event(), []

        def packing() -> None:
            mine = reopened(log)
            while not stop.is_set():
                mine.pack()

        def reading() -> None:
            mine, seen = reopened(log), 0
            try:
                while not stop.is_set():
                    now = mine.newest().version
                    assert now >= seen
                    seen = now
                    for version in {0, now // 2, max(0, now - KEPT), now}:
                        assert mine.read(version) == record(version)
                        assert mine.has(version)
            except BaseException as error:
                problems.append(error)
                raise

        threads = [threading.Thread(target=each) for each in (packing, packing, reading, reading)]
        for thread in threads:
            thread.start()
        try:
            for version in range(1, newest + 1):
                reopened(log).append(record(version))
                if version % 10 == 0:
                    log.write_current(record(version))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not problems
        log.pack()
        assert_holds(log, newest)
        assert len(names(log)) < newest / LARGE + LARGE

    def test_a_packer_may_sleep_at_any_step_while_another_packs(self, tmp_path):
        """Each file operation of one is followed by a whole turn of the other."""
        for step in itertools.count():
            log = VersionLog(tmp_path / "snapshots", "m")
            extend(log, 0, 28)
            log.write_current(record(28))
            if not run_other_at(step, reopened(log).pack, lambda log=log: reopened(log).pack()):
                break
            assert_holds(log, 28)
            assert (log.directory / HEAD_FILE).exists()
            shutil.rmtree(log.directory)
        assert step > 20


def run_other_at(step: int, action, other) -> bool:
    """Run an action, and another before its n-th file operation; tell whether there was one."""
    left = step

    def between(operation):
        def call(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == -1:
                other()
            return operation(*args, **kwargs)

        return call

    with mock.patch.object(os, "link", between(os.link)):
        with mock.patch.object(os, "unlink", between(os.unlink)):
            action()
    return left < 0
