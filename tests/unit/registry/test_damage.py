"""A damaged record or snapshot is as good as lost: had from elsewhere or reported, not believed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest

from app.errors import DamagedRecordError, ModelNotFoundError, StateError
from tests.unit.places import Place, commit, nothing_changes, publish


class TestDamagedRecordInRedis:
    DAMAGES = {
        "version": "nine",
        "version back": "0",
        "version ahead": "7",
        "state_sha256": "0" * 64,
        "snapshot": "v0000000000-0.safetensors",
        "commit": "0123456789abcdef",
        "parent": "",
        "applied": "{",
        "applied other": '{"q": 5}',
        "origin": "[]",
        "checksum": "",
        "format": "two",
        "format back": "1",
        "format ahead": "4",
    }

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_altered_field_is_as_good_as_lost(self, place, registry, lease, damage):
        record = publish(registry, lease)
        place.redis.hset(place.key("head"), damage.split()[0], self.DAMAGES[damage])
        with pytest.raises(DamagedRecordError):
            registry.store.read()

        assert place.open().current() == record
        assert registry.store.read() == record
        assert place.records()[-1] == record

    @pytest.mark.parametrize("field", ["version", "commit", "applied", "format", "checksum"])
    def test_missing_field_is_as_good_as_lost(self, place, registry, lease, field):
        record = publish(registry, lease)
        place.redis.hdel(place.key("head"), field)

        assert place.open().current(record) == record
        assert registry.recover() == registry.store.read() == record

    def test_record_that_is_not_finalized_is_lost_when_damaged(self, place, registry, lease):
        finalized = publish(registry, lease)
        staged = commit(registry, lease)
        place.redis.hset(place.key("head"), "applied", '{"q": 99}')
        assert place.open().recover() == finalized == registry.store.read()

        # Its learner calls again, and nothing is lost after all.
        registry.commit(finalized, staged, lease)
        registry.finalize(staged)
        assert place.open().recover() == staged.record

    def test_damage_is_reported_when_the_version_log_knows_nothing(self, place, registry, lease):
        publish(registry, lease)
        shutil.rmtree(place.directory)
        place.redis.hset(place.key("head"), "applied", "{}")

        with pytest.raises(DamagedRecordError):
            place.open().recover()
        assert not place.directory.exists()


class TestDamagedSnapshot:
    @pytest.mark.parametrize("where", ["length", "header", "settings", "values"])
    def test_altered_snapshot_is_refused_and_changes_nothing(self, place, registry, lease, where):
        record = publish(registry, lease)
        snapshot = place.directory / record.snapshot
        data = bytearray(snapshot.read_bytes())
        beta = data.index(b"0.99")
        data[{"length": 0, "header": 9, "settings": beta + 3, "values": -1}[where]] ^= 1
        snapshot.write_bytes(data)
        place.lose()

        with nothing_changes(place), pytest.raises(StateError, match=record.snapshot):
            registry.recover()

    def test_cut_snapshot_is_refused_and_changes_nothing(self, place, registry, lease):
        record = publish(registry, lease)
        snapshot = place.directory / record.snapshot
        snapshot.write_bytes(snapshot.read_bytes()[:-8])
        place.lose()

        with nothing_changes(place), pytest.raises(StateError, match=record.snapshot):
            registry.recover()

    def test_missing_snapshot_is_reported_and_changes_nothing(self, place, registry, lease):
        record = publish(registry, lease)
        registry.snapshots.drop(record.snapshot)
        place.lose()

        with nothing_changes(place), pytest.raises(ModelNotFoundError, match=record.snapshot):
            registry.recover()


def cut(text: str) -> str:
    return text[: len(text) // 2]


def without(field: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != field})


def with_value(field: str, value: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | {field: value})


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda text: "",
        lambda text: "\x00" * len(text),
        lambda text: "null",
        lambda text: "[]",
        lambda text: "{}",
        without("model"),
        without("version"),
        without("commit"),
        without("checksum"),
        without("format"),
        with_value("format", None),
        with_value("format", 4),
        with_value("version", "1"),
        with_value("version", 0),
        with_value("version", None),
        with_value("snapshot", None),
        with_value("applied", None),
        with_value("applied", {"q": 7}),
        with_value("origin", {}),
    ],
    ids=[
        "half", "empty", "zeros", "null", "list", "no-fields", "no-model", "no-version",
        "no-commit", "no-checksum", "no-format", "format-null", "format-ahead", "version-text",
        "version-back", "version-null", "snapshot-null", "applied-null", "batch-ahead",
        "other-origin",
    ],
)  # fmt: skip
class TestDamagedVersionLog:
    HEAD, NEWEST = "HEAD.json", "versions/0000000/0000000001.json"

    def harm(self, place: Place, damage: Callable[[str], str], *names: str) -> None:
        for name in names:
            path = place.directory / name
            path.write_text(damage(path.read_text()))

    @pytest.mark.parametrize("name", [HEAD, NEWEST])
    def test_one_damaged_copy_of_the_newest_record_costs_nothing(
        self, place, registry, lease, damage, name
    ):
        record = publish(registry, lease)
        self.harm(place, damage, name)
        place.lose()

        assert place.open().recover() == record

    def test_damage_of_both_copies_is_reported_and_changes_nothing(
        self, place, registry, lease, damage
    ):
        publish(registry, lease)
        self.harm(place, damage, self.HEAD, self.NEWEST)
        place.lose()

        message = "0000000001.json is not a whole"
        with nothing_changes(place), pytest.raises(DamagedRecordError, match=message):
            place.open().recover()
