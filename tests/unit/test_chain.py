"""One record a version, and the newest found from wherever a crash left HEAD.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.errors import DamagedRecordError, RegistryError, VersionConflictError
from app.registry.chain import HEAD_FILE, VersionChain, model_in
from app.registry.record import HeadRecord


def record(version: int, commit: str | None = None, **changes) -> HeadRecord:
    """Return the record of version n, which learned batch n - 1 of query q."""
    learned = version - 1
    fields = {
        "version": version,
        "state_sha256": f"{version:064x}",
        "snapshot": f"v{version:010d}-{version:016x}.safetensors",
        "published_at": "2024-01-01T00:00:00.000+00:00",
        "commit": commit or f"commit-{version}",
        "parent": f"commit-{learned}" if version else "",
        "applied": {"q": learned} if version else {},
        "origin": {"kind": "batch", "query": "q", "batch": learned}
        if version
        else {"kind": "created"},
    }
    return HeadRecord(**fields | changes)


@pytest.fixture
def chain(tmp_path) -> VersionChain:
    return VersionChain(tmp_path / "snapshots", "m")


def extend(chain: VersionChain, first: int, last: int) -> list[HeadRecord]:
    records = [record(version) for version in range(first, last + 1)]
    for each in records:
        chain.append(each)
    return records


def reopened(chain: VersionChain) -> VersionChain:
    """Return the chain as another process sees it."""
    return VersionChain(chain.directory, chain.model)


def path_of(chain: VersionChain, version: int) -> Path:
    [path] = chain.directory.glob(f"versions/*/{version:010d}.json")
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
    def test_records_come_back_as_they_were_appended(self, chain):
        appended = extend(chain, 0, 3)

        for seen in (chain, reopened(chain)):
            assert list(seen.records()) == appended
            assert [seen.read(version) for version in range(4)] == appended
            assert seen.newest() == appended[-1]
            assert [seen.has(version) for version in range(5)] == [True] * 4 + [False]

    def test_new_directory_holds_no_version(self, chain):
        assert chain.newest() is None
        assert chain.read(0) is None
        assert list(chain.records()) == []
        assert chain.find("q", 0) is None
        assert not chain.directory.exists()

    def test_record_may_be_appended_again_and_stays(self, chain):
        extend(chain, 0, 1)
        before = path_of(chain, 1).stat()
        reopened(chain).append(record(1))

        assert path_of(chain, 1).stat().st_ino == before.st_ino
        assert chain.newest() == record(1)

    def test_version_of_another_commit_is_refused_and_stays(self, chain):
        extend(chain, 0, 1)
        other = reopened(chain)

        with pytest.raises(VersionConflictError, match="version 1 of model 'm'"):
            other.append(record(1, "other"))
        assert other.newest() == reopened(chain).newest() == record(1)

    @every_damage
    def test_damaged_record_is_told_and_not_replaced(self, chain, damage):
        extend(chain, 0, 1)
        path = path_of(chain, 1)
        damage(path)
        left = path.read_bytes()

        with pytest.raises(DamagedRecordError, match=path.name):
            chain.append(record(1))
        assert path.read_bytes() == left

    def test_record_under_another_number_is_told(self, chain):
        extend(chain, 0, 2)
        copy = path_of(chain, 2).with_name("0000000003.json")
        shutil.copy(path_of(chain, 2), copy)

        for use in (reopened(chain).newest, lambda: chain.read(3), lambda: chain.append(record(3))):
            with pytest.raises(DamagedRecordError, match=f"{copy} is the record of version 2"):
                use()

    def test_what_a_killed_append_left_is_no_version(self, chain):
        extend(chain, 0, 1)
        path = path_of(chain, 1)
        whole = path.read_bytes()
        path.with_name(".0000000002.json.0badcafe.tmp").write_bytes(whole[:40])
        path.with_name(".0000000009.json.0badcafe.tmp").write_bytes(whole)

        assert reopened(chain).newest() == record(1)
        chain.append(record(2))
        assert reopened(chain).newest() == record(2)


class TestNewest:
    """What a crash, or a person, may have made of HEAD.json."""

    @pytest.mark.parametrize("lag", [1, 3, 12])
    def test_head_file_that_lags_is_only_a_start(self, chain, lag):
        appended = extend(chain, 0, 12)
        chain.write_head(appended[12 - lag])

        assert reopened(chain).newest() == appended[-1]

    def test_head_file_may_be_missing(self, chain):
        appended = extend(chain, 0, 12)

        assert reopened(chain).newest() == appended[-1]

    @every_damage
    def test_head_file_may_be_damaged(self, chain, damage):
        appended = extend(chain, 0, 12)
        chain.write_head(appended[-1])
        damage(chain.directory / HEAD_FILE)

        assert reopened(chain).newest() == appended[-1]

    @every_damage
    def test_damaged_head_file_without_any_record_is_told(self, chain, damage):
        chain.write_head(record(3))
        damage(chain.directory / HEAD_FILE)

        with pytest.raises(DamagedRecordError, match=HEAD_FILE):
            chain.newest()

    def test_head_file_without_any_record_is_believed(self, chain):
        chain.write_head(record(3))

        assert reopened(chain).newest() == record(3)

    @every_damage
    def test_damaged_newest_record_is_told_when_the_head_file_lags(self, chain, damage):
        appended = extend(chain, 0, 3)
        chain.write_head(appended[2])
        damage(path_of(chain, 3))

        with pytest.raises(DamagedRecordError, match="0000000003.json is not a whole head record"):
            reopened(chain).newest()

    @every_damage
    def test_damaged_newest_record_is_had_from_the_head_file(self, chain, damage):
        appended = extend(chain, 0, 3)
        chain.write_head(appended[-1])
        damage(path_of(chain, 3))

        assert reopened(chain).newest() == appended[-1]

    def test_versions_that_others_append_are_found(self, chain):
        extend(chain, 0, 2)
        other = reopened(chain)
        assert other.newest() == record(2)
        extend(chain, 3, 11)

        assert other.newest() == record(11)
        assert list(other.records(10)) == [record(10), record(11)]

    @pytest.mark.parametrize(("before", "newest"), [(9, 10), (9, 11), (2, 1005), (9999, 10_001)])
    def test_highest_version_is_the_newest_wherever_one_is_missing(self, chain, before, newest):
        chain.append(record(newest))
        chain.append(record(before))

        assert reopened(chain).newest() == record(newest)

    @pytest.mark.parametrize(
        ("newest", "head"),
        [(n, h) for n in (999, 1000, 1001) for h in (None, 998, 999, 1000, 1001) if (h or 0) <= n],
    )
    def test_versions_go_on_in_the_next_directory(self, chain, newest, head):
        appended = extend(chain, 998, newest)
        if head is not None:
            chain.write_head(record(head))

        assert reopened(chain).newest() == appended[-1]
        assert list(reopened(chain).records(998)) == appended
        directories = {path_of(chain, each.version).parent.name for each in appended}
        assert directories == {"0000000", "0000001"} - ({"0000001"} if newest < 1000 else set())


class TestOtherModel:
    @pytest.mark.parametrize("with_head_file", [True, False])
    def test_directory_of_another_model_is_refused(self, chain, with_head_file):
        extend(chain, 0, 1)
        if with_head_file:
            chain.write_head(record(1))
        stranger = VersionChain(chain.directory, "other")

        for use in (stranger.newest, lambda: stranger.read(1), lambda: stranger.append(record(1))):
            with pytest.raises(RegistryError, match="holds model 'm', not 'other'"):
                use()
        assert reopened(chain).newest() == record(1)

    def test_name_is_had_from_the_head_file_or_any_record(self, chain):
        assert model_in(chain.directory) is None
        extend(chain, 0, 1)
        assert model_in(chain.directory) == "m"
        chain.write_head(record(1))
        assert model_in(chain.directory) == "m"

    @every_damage
    def test_name_is_had_although_files_are_damaged(self, chain, damage):
        extend(chain, 0, 1)
        chain.write_head(record(1))
        damage(chain.directory / HEAD_FILE)
        damage(path_of(chain, 0))

        assert model_in(chain.directory) == "m"


class TestFind:
    @pytest.fixture
    def mixed(self, chain) -> VersionChain:
        """Return batches of two queries in turn, then a rollback, then one batch more."""
        extend(chain, 0, 0)
        applied: dict[str, int] = {}
        for version in range(1, 7):
            query, batch = "qp"[version % 2], (version - 1) // 2
            applied = applied | {query: batch}
            origin = {"kind": "batch", "query": query, "batch": batch}
            chain.append(record(version, applied=applied, origin=origin))
        chain.append(record(7, applied=applied, origin={"kind": "rollback", "to": 2}))
        origin = {"kind": "batch", "query": "q", "batch": 3}
        chain.append(record(8, applied=applied | {"q": 3}, origin=origin))
        return chain

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


class TestEpochs:
    def test_epochs_of_a_query_grow_by_one(self, chain):
        assert chain.last_epoch("q") == 0
        assert [reopened(chain).claim_epoch("q", 0) for _ in range(11)] == list(range(1, 12))
        assert chain.last_epoch("q") == 11

    def test_queries_have_epochs_of_their_own(self, chain):
        chain.claim_epoch("q", 5)

        assert chain.claim_epoch("other", 1) == 1
        assert (chain.last_epoch("q"), chain.last_epoch("other")) == (5, 1)

    def test_epoch_is_at_least_what_is_asked_and_always_a_new_one(self, chain):
        claimed = [chain.claim_epoch("q", at_least) for at_least in (7, 7, 3, 9, 1_000_000, 1)]

        assert claimed == [7, 8, 9, 10, 1_000_000, 1_000_001]

    def test_what_a_killed_claim_left_is_no_epoch(self, chain):
        chain.claim_epoch("q", 2)
        (chain.directory / "epochs" / "q" / ".000009.0badcafe.tmp").touch()

        assert chain.last_epoch("q") == 2
