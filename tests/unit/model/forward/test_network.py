"""The layers of a network that no longer fire are found, and only those."""

from __future__ import annotations

import numpy as np
import pytest

from app.model import HBPClassifier
from app.model.forward.network import dead_layers

X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)


@pytest.fixture(params=[True, False], ids=["standardised", "as they are"])
def model(request):
    model = HBPClassifier(
        3, 2, n_hidden_layers=4, n_hidden_units=8, standardize=request.param, engine="xla"
    )
    model.partial_fit(X, (X[:, 0] > 0).astype(int))
    return model


def test_a_model_that_learns_has_none(model):
    assert dead_layers(model.get_state(), X, model.config) == ()


def test_a_layer_below_zero_is_dead_and_what_it_starves_too(model):
    state = model.get_state()
    state["hidden_bias_1"] = np.full(8, -1e3, np.float32)
    state["hidden_bias_3"] = np.full(8, 0.1, np.float32)
    state["hidden_bias_2"] = np.zeros(8, np.float32)
    model.set_state(state)
    assert dead_layers(model.get_state(), X, model.config) == (1, 2)


def test_one_row_that_passes_is_enough(model):
    state = model.get_state()
    state["hidden_kernel_0"] = np.zeros((3, 8), np.float32)
    state["hidden_kernel_0"][0, 0] = 1
    state["hidden_bias_0"] = np.zeros(8, np.float32)
    model.set_state(state)
    least, most = X[[X[:, 0].argmin()]], X[[X[:, 0].argmax()]]
    state = model.get_state()
    assert 0 in dead_layers(state, least, model.config)
    assert 0 not in dead_layers(state, np.concatenate([least, most]), model.config)
