"""The user is warned once of layers that no longer fire, and not from too few rows."""

from __future__ import annotations

import numpy as np
import pytest

from app.model import HBPClassifier
from app.model.forward.network import dead_layers
from app.model.layer_watch import LayerWatch

ROWS = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    model = HBPClassifier(3, 2, variant="fast", n_hidden_layers=3, n_hidden_units=8)
    model.partial_fit(ROWS, (ROWS[:, 0] > 0).astype(int))
    return model


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def watch(model, warnings):
    return LayerWatch(model.config, warnings.append)


@pytest.fixture
def dead_state(model):
    nothing, starved = np.full(8, -1e3, np.float32), np.zeros(8, np.float32)
    return model.get_state() | {"hidden_bias_1": nothing, "hidden_bias_2": starved}


def test_dead_layers_are_named_once_counted_from_one(watch, warnings, dead_state):
    watch(dead_state, ROWS, 0)
    watch(dead_state, ROWS, 0)
    assert len(warnings) == 1
    assert "no unit of hidden layer 2, 3 fires in the last 256 rows" in warnings[0]


def test_a_layer_that_dies_later_is_still_noticed(model, watch, warnings, dead_state):
    watch(model.get_state(), ROWS, 0)
    assert warnings == []
    watch(dead_state, ROWS, 0)
    assert len(warnings) == 1


def test_too_few_rows_say_nothing_of_a_layer(watch, warnings, dead_state):
    watch(dead_state, ROWS[:255], 0)
    assert warnings == []


def test_a_layer_that_dies_starts_over_and_is_told_of_once(warnings):
    model = HBPClassifier(3, 2, n_hidden_layers=3, n_hidden_units=8, n_trees=2)
    X, y = np.tile(ROWS, (3, 1)), np.tile((ROWS[:, 0] > 0).astype(int), 3)
    model.partial_fit(X, y)
    state = model.get_state()
    state["hidden_bias_1"][:] = -1e3
    model.set_state(state)
    watch = LayerWatch(model.config, warnings.append)
    for _ in range(2):
        met = model.met
        model.partial_fit(X, y)
        watch(model.get_state(), X, model.met["layers_reset"] - met["layers_reset"])
    assert model.met["layers_reset"] >= 1
    assert dead_layers(model.get_state(), X, model.config) == ()
    assert len(warnings) == 1
    assert "has started over" in warnings[0]
