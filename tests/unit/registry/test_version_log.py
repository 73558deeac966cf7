"""One record a version, and the newest found from wherever a crash left HEAD.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.errors import DamagedRecordError, RegistryError, VersionConflictError
from app.registry.version import ModelVersion, snapshot_name
from app.registry.version_log import HEAD_FILE, VersionLog, model_in


def record(version: int, commit: str | None = None, **changes) -> ModelVersion:
    """Return the record of version n, which learned batch n - 1 of query q."""
    learned = version - 1
    fields = {
        "version": version,
        "state_sha256": f"{version:064x}",
        "snapshot": snapshot_name(version, f"{version:064x}"),
        "published_at": "2024-01-01T00:00:00.000+00:00",
        "commit": commit or f"commit-{version}",
        "parent": f"commit-{learned}" if version else "",
        "applied": {"q": learned} if version else {},
        "origin": {"kind": "batch", "query": "q", "batch": learned}
        if version
        else {"kind": "created"},
    }
    return ModelVersion(**fields | changes)


@pytest.fixture
def log(tmp_path) -> VersionLog:
    return VersionLog(tmp_path / "snapshots", "m")


def extend(log: VersionLog, first: int, last: int) -> list[ModelVersion]:
    records = [record(version) for version in range(first, last + 1)]
    for each in records:
        log.append(each)
    return records


def reopened(log: VersionLog) -> VersionLog:
    """Return the log as another process sees it."""
    return VersionLog(log.directory, log.model)


def path_of(log: VersionLog, version: int) -> Path:
    [path] = log.directory.glob(f"versions/*/{version:010d}.json")
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def alter(path: Path) -> None:
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"published_at": "2025-01-01T00:00:00.000+00:00"}))


def forget_model(path: Path) -> None:
    content = json.loads(path.read_bytes())
    del content["model"]
    path.write_text(json.dumps(content))


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncate,
    "altered": alter,
    "without model": forget_model,
    "a list": lambda path: path.write_text("[]"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\xfd"),
}
every_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


class TestAppend:
    def test_records_come_back_as_they_were_appended(self, log):
        appended = extend(log, 0, 3)

        for seen in (log, reopened(log)):
            assert list(seen.records()) == appended
            assert [seen.read(version) for version in range(4)] == appended
            assert seen.newest() == appended[-1]
            assert [seen.has(version) for version in range(5)] == [True] * 4 + [False]

    def test_new_directory_holds_no_version(self, log):
        assert log.newest() is None
        assert log.read(0) is None
        assert list(log.records()) == []
        assert log.find("q", 0) is None
        assert not log.directory.exists()

    def test_record_may_be_appended_again_and_stays(self, log):
        extend(log, 0, 1)
        before = path_of(log, 1).stat()
        reopened(log).append(record(1))

        assert path_of(log, 1).stat().st_ino == before.st_ino
        assert log.newest() == record(1)

    def test_version_of_another_commit_is_refused_and_stays(self, log):
        extend(log, 0, 1)
        other = reopened(log)

        with pytest.raises(VersionConflictError, match="version 1 of model 'm'"):
            other.append(record(1, "other"))
        assert other.newest() == reopened(log).newest() == record(1)

    @every_damage
    def test_damaged_record_is_reported_and_not_replaced(self, log, damage):
        extend(log, 0, 1)
        path = path_of(log, 1)
        damage(path)
        left = path.read_bytes()

        with pytest.raises(DamagedRecordError, match=path.name):
            log.append(record(1))
        assert path.read_bytes() == left

    def test_record_under_another_number_is_reported(self, log):
        extend(log, 0, 2)
        copy = path_of(log, 2).with_name("0000000003.json")
        shutil.copy(path_of(log, 2), copy)

        for use in (reopened(log).newest, lambda: log.read(3), lambda: log.append(record(3))):
            with pytest.raises(DamagedRecordError, match=f"{copy} is the record of version 2"):
                use()

    def test_what_a_killed_append_left_is_no_version(self, log):
        extend(log, 0, 1)
        path = path_of(log, 1)
        whole = path.read_bytes()
        path.with_name(".0000000002.json.0badcafe.tmp").write_bytes(whole[:40])
        path.with_name(".0000000009.json.0badcafe.tmp").write_bytes(whole)

        assert reopened(log).newest() == record(1)
        log.append(record(2))
        assert reopened(log).newest() == record(2)


class TestNewest:
    """What a crash, or a person, may have made of HEAD.json."""

    @pytest.mark.parametrize("lag", [1, 3, 12])
    def test_head_file_that_lags_is_only_a_start(self, log, lag):
        appended = extend(log, 0, 12)
        log.write_current(appended[12 - lag])

        assert reopened(log).newest() == appended[-1]

    def test_head_file_may_be_missing(self, log):
        appended = extend(log, 0, 12)

        assert reopened(log).newest() == appended[-1]

    @every_damage
    def test_head_file_may_be_damaged(self, log, damage):
        appended = extend(log, 0, 12)
        log.write_current(appended[-1])
        damage(log.directory / HEAD_FILE)

        assert reopened(log).newest() == appended[-1]

    @every_damage
    def test_damaged_head_file_without_any_record_is_reported(self, log, damage):
        log.write_current(record(3))
        damage(log.directory / HEAD_FILE)

        with pytest.raises(DamagedRecordError, match=HEAD_FILE):
            log.newest()

    def test_head_file_without_any_record_is_believed(self, log):
        log.write_current(record(3))

        assert reopened(log).newest() == record(3)

    @every_damage
    def test_damaged_newest_record_is_reported_when_the_head_file_lags(self, log, damage):
        appended = extend(log, 0, 3)
        log.write_current(appended[2])
        damage(path_of(log, 3))

        with pytest.raises(DamagedRecordError, match="0000000003.json is not a whole version"):
            reopened(log).newest()

    @every_damage
    def test_damaged_newest_record_is_had_from_the_head_file(self, log, damage):
        appended = extend(log, 0, 3)
        log.write_current(appended[-1])
        damage(path_of(log, 3))

        assert reopened(log).newest() == appended[-1]

    def test_versions_that_others_append_are_found(self, log):
        extend(log, 0, 2)
        other = reopened(log)
        assert other.newest() == record(2)
        extend(log, 3, 11)

        assert other.newest() == record(11)
        assert list(other.records(10)) == [record(10), record(11)]

    @pytest.mark.parametrize(("before", "newest"), [(9, 10), (9, 11), (2, 1005), (9999, 10_001)])
    def test_highest_version_is_the_newest_wherever_one_is_missing(self, log, before, newest):
        log.append(record(newest))
        log.append(record(before))

        assert reopened(log).newest() == record(newest)

    @pytest.mark.parametrize(
        ("newest", "head_file"),
        [(n, h) for n in (999, 1000, 1001) for h in (None, 998, 999, 1000, 1001) if (h or 0) <= n],
    )
    def test_versions_go_on_in_the_next_directory(self, log, newest, head_file):
        appended = extend(log, 998, newest)
        if head_file is not None:
            log.write_current(record(head_file))

        assert reopened(log).newest() == appended[-1]
        assert list(reopened(log).records(998)) == appended
        directories = {path_of(log, each.version).parent.name for each in appended}
        assert directories == {"0000000", "0000001"} - ({"0000001"} if newest < 1000 else set())


class TestOtherModel:
    @pytest.mark.parametrize("with_head_file", [True, False])
    def test_directory_of_another_model_is_refused(self, log, with_head_file):
        extend(log, 0, 1)
        if with_head_file:
            log.write_current(record(1))
        stranger = VersionLog(log.directory, "other")

        for use in (stranger.newest, lambda: stranger.read(1), lambda: stranger.append(record(1))):
            with pytest.raises(RegistryError, match="holds model 'm', not 'other'"):
                use()
        assert reopened(log).newest() == record(1)

    def test_name_is_had_from_the_head_file_or_any_record(self, log):
        assert model_in(log.directory) is None
        extend(log, 0, 1)
        assert model_in(log.directory) == "m"
        log.write_current(record(1))
        assert model_in(log.directory) == "m"

    @every_damage
    def test_name_is_had_although_files_are_damaged(self, log, damage):
        extend(log, 0, 1)
        log.write_current(record(1))
        damage(log.directory / HEAD_FILE)
        damage(path_of(log, 0))

        assert model_in(log.directory) == "m"


class TestFind:
    @pytest.fixture
    def mixed(self, log) -> VersionLog:
        """Return batches of two queries in turn, then a rollback, then one batch more."""
        extend(log, 0, 0)
        applied: dict[str, int] = {}
        for version in range(1, 7):
            query, batch = "qp"[version % 2], (version - 1) // 2
            applied = applied | {query: batch}
            origin = {"kind": "batch", "query": query, "batch": batch}
            log.append(record(version, applied=applied, origin=origin))
        log.append(record(7, applied=applied, origin={"kind": "rollback", "to": 2}))
        origin = {"kind": "batch", "query": "q", "batch": 3}
        log.append(record(8, applied=applied | {"q": 3}, origin=origin))
        return log

    def test_version_that_learned_a_batch_is_found(self, mixed):
        found = {query: [mixed.find(query, batch) for batch in range(5)] for query in "qp"}

        assert [each and each.version for each in found["p"]] == [1, 3, 5, None, None]
        assert [each and each.version for each in found["q"]] == [2, 4, 6, 8, None]

    def test_unknown_query_has_learned_nothing(self, mixed):
        assert mixed.find("other", 0) is None

    def test_no_version_is_named_when_its_record_is_gone(self, mixed):
        path_of(mixed, 3).unlink()

        assert mixed.find("p", 1) is None
        assert mixed.find("p", 2).version == 5
        assert [each.version for each in mixed.records()] == [0, 1, 2, 4, 5, 6, 7, 8]
