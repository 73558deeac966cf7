"""A learner that loses a race tries again on top of the winner, for so long."""

from __future__ import annotations

import pytest

from app.errors import RegistryUnavailableError, VersionConflictError
from app.registry import races
from app.registry.races import until_won
from tests.unit.places import METADATA, publish, state_of


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(races, "_LONGEST_BACKOFF_SECONDS", 0)


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

    record = until_won(attempt)
    assert bases == [0, 1, 2, 3]
    assert (record.version, record.applied) == (4, {"q": 0, "other": 2})


def test_who_loses_every_race_is_told(monkeypatch):
    monkeypatch.setattr(races, "MAX_RACES", 3)
    attempts = []

    def lose():
        attempts.append(1)
        raise VersionConflictError("version 9 is another learner's")

    with pytest.raises(VersionConflictError, match="3 races in a row were lost: version 9"):
        until_won(lose)
    assert len(attempts) == 3


def test_other_errors_are_not_tried_again():
    attempts = []

    def fail():
        attempts.append(1)
        raise RegistryUnavailableError("away")

    with pytest.raises(RegistryUnavailableError):
        until_won(fail)
    assert len(attempts) == 1
