"""A worker loads a model once a run, and looks for no garbage in what it has loaded."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest

from udfs import model_cache
from udfs.model_cache import WorkerModel, live_model


@pytest.fixture
def loaded(monkeypatch) -> list[object]:
    """Return the initial models that were loaded so far, by which a model is known."""
    loaded: list[object] = []

    def load(source, initial):
        loaded.append(initial)
        return SimpleNamespace(initial=initial, close=lambda: loaded.remove(initial))

    monkeypatch.setattr(model_cache, "LiveModel", load)
    monkeypatch.setattr(model_cache, "_MODELS", {})
    monkeypatch.setattr(model_cache, "_SETTLED", set())
    yield loaded
    gc.unfreeze()


def wanted(run: str) -> WorkerModel:
    return WorkerModel(run, SimpleNamespace(value=f"model of {run}"), source=None)


def test_a_run_has_one_model_and_the_newest_few_runs_have_theirs(loaded):
    for run in "abcde":
        assert live_model(wanted(run)) is live_model(wanted(run))
        assert live_model(wanted(run)).initial == f"model of {run}"
    assert loaded == [f"model of {run}" for run in "bcde"]


def test_what_the_first_use_made_is_left_out_of_garbage_collections_from_the_second_on(loaded):
    gc.unfreeze()
    live_model(wanted("a"))
    assert gc.get_freeze_count() == 0
    live_model(wanted("a"))
    frozen = gc.get_freeze_count()
    assert frozen > 0
    live_model(wanted("a"))
    assert gc.get_freeze_count() <= frozen
