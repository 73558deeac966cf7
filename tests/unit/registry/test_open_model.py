"""The state of the version that a run begins with is read and checked once."""

from __future__ import annotations

import pytest

from app.errors import ModelNotFoundError
from app.model.state import State, state_sha256
from app.registry import registry as registry_module
from app.registry import snapshots as snapshots_module
from app.registry.open import OpenModel, open_model
from tests.unit.registry.models import METADATA, publish, state_of

pytestmark = pytest.mark.redis


@pytest.fixture
def checked(monkeypatch) -> list[int]:
    """Return the states whose hash is computed from now on, by their value."""
    values: list[int] = []

    def counting(state: State) -> str:
        values.append(int(state["alpha"][0]))
        return state_sha256(state)

    for module in (registry_module, snapshots_module):
        monkeypatch.setattr(module, "state_sha256", counting)
    return values


def begin(opened: OpenModel) -> None:
    """Do what a run does before its first batch."""
    current = opened.registry.current(opened.current)
    assert opened.stored.state["alpha"] == [current.version]
    assert opened.stored.metadata == METADATA | {"version": str(current.version)}
    assert opened.stored.data == opened.registry.store.read_state(current.version)


def test_resumed_run_on_a_server_of_its_own_checks_the_state_once(workdir, checked):
    with open_model(workdir, None, "m") as opened:
        publish(opened.registry, 2)
    checked.clear()

    with open_model(workdir, None, "m") as opened:
        begin(opened)
    assert checked == [2]


def test_resumed_run_on_a_given_server_checks_the_state_once(server, model, workdir, checked):
    with open_model(workdir, server.url, model) as opened:
        publish(opened.registry, 2)
    checked.clear()

    with open_model(workdir, server.url, model) as opened:
        begin(opened)
    assert checked == [2]


def test_state_is_that_of_the_version_though_another_learner_goes_on(server, model, workdir):
    with open_model(workdir, server.url, model) as opened:
        first = publish(opened.registry)
    with open_model(workdir, server.url, model) as opened:
        assert publish(opened.registry).version == 2

        assert opened.current == first
        assert state_sha256(opened.stored.state) == first.state_sha256


def test_model_that_is_not_created_yet_has_no_state(workdir):
    with open_model(workdir, None, "m") as opened:
        assert opened.current is None
        with pytest.raises(ModelNotFoundError, match="'m' has not been created"):
            _ = opened.stored
        created = opened.create(state_of(0), METADATA)

        assert opened.current == created == opened.registry.store.read()
        begin(opened)


def test_model_that_another_learner_created_meanwhile_is_taken(server, model, workdir):
    with (
        open_model(workdir, server.url, model) as opened,
        open_model(workdir, server.url, model) as other,
    ):
        created = other.create(state_of(0), METADATA)

        assert opened.create(state_of(9), METADATA) == created == opened.current
        begin(opened)
