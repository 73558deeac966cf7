"""Records of other formats: those of the first release are continued, newer ones refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from app.errors import NewerFormatError, RegistryError
from app.model.state import state_to_bytes
from app.registry.version import ModelVersion
from tests.unit.places import METADATA, Place, commit, nothing_changes, publish, state_of
from tests.unit.version_records import as_fields, in_format_1, in_format_2, in_newer_format

Format = Callable[[ModelVersion], dict[str, Any]]

HEAD = "HEAD.json"
NEWEST = "versions/0000000/0000000002.json"


def rewrite_file(place: Place, name: str, as_format: Format) -> None:
    """Write a file's record again as a release of another format would have."""
    path = place.directory / name
    version = ModelVersion.from_json(json.loads(path.read_bytes()))
    path.write_text(json.dumps(as_format(version) | {"model": place.model}, sort_keys=True))


def rewrite_redis(place: Place, as_format: Format, **changes: Any) -> None:
    version = dataclasses.replace(place.registry.store.read(), **changes)
    place.redis.delete(place.key("head"))
    fields = as_fields(as_format(version)) | {"store": str(place.directory)}
    place.redis.hset(place.key("head"), mapping=fields)


def fields_in_redis(place: Place) -> set[str]:
    return {name.decode() for name in place.redis.hkeys(place.key("head"))}


@pytest.fixture
def records(place, registry, lease) -> list[ModelVersion]:
    """Publish versions 0 to 2."""
    return [registry.current(), publish(registry, lease), publish(registry, lease)]


@pytest.fixture(params=[in_format_1, in_format_2], ids=["1", "2"])
def earlier(request) -> Format:
    return request.param


class TestEarlierFormats:
    @pytest.fixture
    def records(self, place, records, earlier) -> list[ModelVersion]:
        """Return versions 0 to 2, all written by a release before."""
        for version in range(3):
            rewrite_file(place, f"versions/0000000/{version:010d}.json", earlier)
        rewrite_file(place, HEAD, earlier)
        rewrite_redis(place, earlier)
        assert "record_sha256" not in fields_in_redis(place)
        return [dataclasses.replace(record, metadata_sha256="") for record in records]

    def test_records_are_read_and_stay_as_they_are(self, place, records):
        with nothing_changes(place):
            assert place.open().recover() == records[-1] == place.registry.store.read()
            assert place.records() == records

    def test_redis_is_restored_from_them(self, place, records):
        place.lose()

        assert place.open().recover() == records[-1] == place.registry.store.read()
        assert {"format", "checksum"} < fields_in_redis(place)

    def test_record_in_redis_alone_was_not_staged_and_is_refused(
        self, place, registry, records, lease, earlier
    ):
        commit(place.open(), lease)
        rewrite_redis(place, earlier)

        message = r"version 3 \(commit .*ends at version 2 .*delete the keys hbp:"
        with nothing_changes(place), pytest.raises(RegistryError, match=message):
            place.open().recover()
        place.lose()
        assert place.open().recover() == records[-1]
        assert publish(place.open(), place.open().acquire("q")).version == 3

    def test_metadata_is_had_from_the_file_and_not_from_redis(self, place, records):
        newest = records[-1]
        swapped = METADATA | {"classes": "yes,no", "version": str(newest.version)}
        key = place.key(f"state:{newest.version}")
        whole = place.redis.get(key)
        place.redis.set(key, state_to_bytes(state_of(newest.version), swapped))
        registry = place.open()

        assert registry.read(newest).metadata["classes"] == "no,yes"
        assert registry.recover_state()[1].metadata["classes"] == "no,yes"
        assert place.redis.get(key) == whole

    def test_history_goes_on_in_the_present_format(self, place, records):
        registry = place.open()
        newest = publish(registry, registry.acquire("q"))

        assert (newest.version, newest.parent) == (3, records[-1].commit)
        assert place.records() == [*records, newest]
        assert json.loads(place.history()[HEAD])["format"] == 3
        assert {"format", "checksum", "record_sha256"} < fields_in_redis(place)
        assert "seal" not in fields_in_redis(place)
        place.lose()
        assert place.open().recover() == newest


class TestNewerFormat:
    CALLS = {
        "recover": lambda registry: registry.recover(),
        "create": lambda registry: registry.create({}, {}),
        "current": lambda registry: registry.current(),
    }
    every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())

    @every_call
    @pytest.mark.parametrize("names", [(NEWEST,), (HEAD,), (HEAD, NEWEST)], ids=lambda n: len(n))
    def test_version_log_is_refused_and_nothing_changes(self, place, records, names, call):
        for name in names:
            rewrite_file(place, name, in_newer_format)
        if names == (NEWEST,):
            # Another learner's HEAD.json lags.
            place.registry.versions.write_current(records[1])

        message = f"{place.directory / names[0]} is of format 4, written by a newer release"
        with nothing_changes(place), pytest.raises(NewerFormatError, match=message):
            call(place.open())

    @every_call
    def test_redis_is_refused_and_nothing_changes(self, place, records, call):
        rewrite_redis(place, in_newer_format, version=3, commit="newer", parent=records[-1].commit)

        message = "head is of format 4, written by a newer release; this one reads formats 1 to 3"
        with nothing_changes(place), pytest.raises(NewerFormatError, match=message):
            call(place.open())

    def test_learner_at_work_does_not_overwrite_a_newer_release(self, place, records, lease):
        registry = place.registry
        base = registry.current()
        rewrite_redis(place, in_newer_format, version=3, commit="newer", parent=base.commit)

        with nothing_changes(place), pytest.raises(NewerFormatError):
            registry.current(base)
        with nothing_changes(place), pytest.raises(NewerFormatError):
            publish(registry, lease)
