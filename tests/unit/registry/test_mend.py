"""The newest snapshot is gone or damaged: it is made again from what is left, or reported."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.errors import HedgestreamError, ModelNotFoundError
from app.model import HBPClassifier
from app.model.state import config_to_metadata, state_to_bytes
from app.registry.feedback_log import FeedbackLog
from app.registry.registry import ModelRegistry
from app.registry.version import ModelVersion
from tests.unit.places import Place, nothing_changes
from tests.unit.registry.test_rebuild import CONFIG, rows_of

METADATA = config_to_metadata(CONFIG) | {"classes": "no,yes"}
NEWEST = 3

HARMS: dict[str, Callable[[Path], object]] = {
    "removed": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x55"),
}
every_harm = pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())


@pytest.fixture(scope="module", autouse=True)
def one_compilation() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HBPClassifier, "from_config", functools.cache(HBPClassifier.from_config))
        yield


@pytest.fixture
def record(place) -> ModelVersion:
    """Return version 3 of a model that has learned three batches."""
    registry = place.registry
    model = HBPClassifier.from_config(CONFIG)
    model.set_state(initial_state())
    current = registry.create(model.get_state(), METADATA)
    lease = registry.acquire("q")
    for batch in range(NEWEST):
        rows = rows_of(batch)
        FeedbackLog.of(place.directory).write("q", batch, rows)
        model.partial_fit(rows.features, rows.labels)
        staged = registry.stage(current, lease, batch, model.get_state(), METADATA)
        registry.commit(current, staged, lease)
        registry.finalize(staged)
        registry.write_current(staged.record)
        current = staged.record
    return current


@functools.cache
def initial_state():
    return HBPClassifier.from_config(CONFIG).get_state()


def snapshot(place: Place, record: ModelVersion) -> Path:
    return place.directory / record.snapshot


def assert_whole(place: Place, record: ModelVersion) -> None:
    """Fail if a version's snapshot is not there with the hashes that its record promises."""
    place.registry.snapshots.read(record)


@every_harm
def test_snapshot_is_rebuilt_and_written_again(place, record, harm, caplog):
    path = snapshot(place, record)
    harm(path)
    place.lose()
    with caplog.at_level(logging.WARNING):
        recovered, stored = place.open().recover_state()

    assert recovered == record == place.registry.store.read()
    assert path.read_bytes() == stored.data
    assert stored.metadata == METADATA | {"version": "3"}
    assert_whole(place, record)
    assert [line for line in caplog.messages if path.name in line and "rebuilt" in line]


@every_harm
def test_snapshots_before_it_may_be_harmed_as_well(place, record, harm):
    for each in place.records()[1:]:
        harm(snapshot(place, each))
    place.lose()

    assert place.open().recover() == record
    assert_whole(place, record)


@every_harm
def test_redis_that_holds_a_sound_copy_is_asked_first(place, record, harm, monkeypatch):
    path = snapshot(place, record)
    whole = path.read_bytes()
    harm(path)
    with monkeypatch.context() as patch:
        patch.setattr(ModelRegistry, "recover", None)
        assert place.open().read(record).data == whole
    assert place.open().recover() == record
    if harm is not HARMS["flipped"]:
        assert path.read_bytes() == whole


@every_harm
def test_version_that_a_learner_reads_is_rebuilt(place, record, harm):
    older = place.records()[2]
    harm(snapshot(place, older))
    place.redis.delete(place.key("state:2"))

    assert place.registry.read(older).data == snapshot(place, older).read_bytes()
    assert_whole(place, older)


@every_harm
def test_staged_version_whose_snapshot_is_harmed_is_rebuilt(place, record, harm):
    registry, rows = place.open(), rows_of(NEWEST)
    lease = registry.acquire("q")
    FeedbackLog.of(place.directory).write("q", NEWEST, rows)
    model = HBPClassifier.from_config(CONFIG)
    model.set_state(registry.read(record).state)
    model.partial_fit(rows.features, rows.labels)
    staged = registry.stage(record, lease, NEWEST, model.get_state(), METADATA)
    registry.commit(record, staged, lease)
    harm(snapshot(place, staged.record))
    place.redis.delete(place.key(f"state:{staged.record.version}"))

    assert place.open().recover() == staged.record == place.records()[-1]
    assert_whole(place, staged.record)


def test_rows_that_are_gone_are_reported_and_nothing_changes(place, record):
    snapshot(place, record).unlink()
    for path in (place.directory / "feedback").rglob("*.parquet"):
        path.unlink()
    place.lose()

    message = f"no snapshot {record.snapshot} .*; nor can it be rebuilt: "
    with nothing_changes(place), pytest.raises(ModelNotFoundError, match=message):
        place.open().recover()


def test_rows_that_are_others_are_reported_and_nothing_changes(place, record):
    path = snapshot(place, record)
    path.write_bytes(state_to_bytes(initial_state(), METADATA | {"version": "3"}))
    [rows] = (place.directory / "feedback").rglob("*2.parquet")
    rows.unlink()
    FeedbackLog.of(place.directory).write("q", NEWEST - 1, rows_of(99))
    place.lose()

    with nothing_changes(place), pytest.raises(HedgestreamError, match="rebuilt with SHA-256"):
        place.open().recover()


def test_first_version_has_nothing_to_be_rebuilt_from(place):
    first = place.registry.create(initial_state(), METADATA)
    snapshot(place, first).unlink()
    place.lose()

    with nothing_changes(place), pytest.raises(ModelNotFoundError, match="nor can it be rebuilt"):
        place.open().recover()
