"""A learner that loses a race tries again on top of the winner, for so long."""

from __future__ import annotations

import pytest
from redis.backoff import NoBackoff

from app.errors import RegistryUnavailableError, VersionConflictError
from app.registry import conflict
from app.registry.conflict import retry_on_conflict
from tests.unit.places import METADATA, publish, state_of

BACKOFF = conflict._BACKOFF


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(conflict, "_BACKOFF", NoBackoff())


def test_lost_race_is_tried_again_on_top_of_the_winner(place, registry, lease):
    rival = place.open()
    held = rival.acquire("other")
    bases = []

    def attempt():
        base = registry.current()
        bases.append(base.version)
        if len(bases) < 4:
            publish(rival, held)
        staged = registry.stage(base, lease, 0, state_of(100), METADATA)
        registry.commit(base, staged, lease)
        return staged.record

    record = retry_on_conflict(attempt)
    assert bases == [0, 1, 2, 3]
    assert (record.version, record.applied) == (4, {"q": 0, "other": 2})


def test_who_loses_every_race_is_reported(monkeypatch):
    monkeypatch.setattr(conflict, "MAX_RACES", 3)
    attempts = []

    def lose():
        attempts.append(1)
        raise VersionConflictError("version 9 is another learner's")

    with pytest.raises(VersionConflictError, match="3 races in a row were lost: version 9"):
        retry_on_conflict(lose)
    assert len(attempts) == 3


def test_other_errors_are_not_tried_again():
    attempts = []

    def fail():
        attempts.append(1)
        raise RegistryUnavailableError("away")

    with pytest.raises(RegistryUnavailableError):
        retry_on_conflict(fail)
    assert len(attempts) == 1


def test_losers_wait_for_different_times_that_have_an_end():
    for races in range(1, conflict.MAX_RACES):
        waits = {BACKOFF.compute(races) for _ in range(20)}

        assert len(waits) == 20
        assert 0 <= min(waits) <= max(waits) <= min(0.01 * 2**races, 1)
