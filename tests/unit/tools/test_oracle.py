"""The classifier computes what a plain NumPy implementation of the design computes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from app.config.model import ENGINES
from app.model import HBPClassifier
from app.model.numba_scorer import NumbaScorer
from tests.oracle import NumpyHBP

D = 5
EVERY_OPTION = {
    "n_features": D,
    "n_classes": 3,
    "variant": "fast",
    "n_hidden_layers": 4,
    "n_hidden_units": 8,
    "learning_rate": 0.3,
    "beta": 0.9,
    "smoothing": 0.2,
    "hedge_loss": "bounded",
    "head_rate": 0.5,
    "head_boost": 0.5,
    "scale_heads_by_alpha": False,
    "heads": "all",
    "input_head": "recursive",
    "standardize": True,
    "gradient_clip_norm": 0.3,
    "update_batch_size": 1,
    "dtype": "float64",
    "seed": 3,
}
STACKED = {"variant": "stacked", "n_trees": 6, "n_random_features": 12}
VARIATIONS = {
    "stacked": STACKED,
    "stacked, without an input head": STACKED | {"input_head": "none"},
    "stacked, without a scaler": STACKED | {"standardize": False},
    "stacked, two classes": STACKED | {"n_classes": 2, "shallow_layers": 1},
    "stacked, trees alone": STACKED | {"n_random_features": 0, "shallow_layers": 0},
    "stacked, no trees": STACKED | {"n_trees": 0, "input_head": "sgd"},
    "stacked, no drift": STACKED | {"recursive_drift": 0.0, "scaler_window": 30},
    "stacked, with a horizon": STACKED | {"horizon": 40},
    "stacked, groups of 4": STACKED | {"update_batch_size": 4},
    "stacked, groups of 7, with a horizon": STACKED | {"update_batch_size": 7, "horizon": 40},
    "raw hedge": {"hedge_loss": "raw"},
    "min-max hedge": {"hedge_loss": "minmax"},
    "no input head": {"input_head": "none"},
    "input head by gradient": {"input_head": "sgd"},
    "input head by gradient, heads scaled": {"input_head": "sgd", "scale_heads_by_alpha": True},
    "heads scaled": {"scale_heads_by_alpha": True},
    "last head": {"heads": "last", "input_head": "none"},
    "last head beside the input's": {"heads": "last"},
    "no clip": {"gradient_clip_norm": 0.0},
    "no scaler": {"standardize": False},
    "two classes": {"n_classes": 2},
    "one layer": {"n_hidden_layers": 1},
    "one head": {"n_hidden_layers": 1, "input_head": "none"},
    "groups of 4": {"update_batch_size": 4},
    "groups of 7": {"update_batch_size": 7},
    "groups of 4, last head": {"update_batch_size": 4, "heads": "last", "input_head": "sgd"},
    "groups of 7, no scaler, no input head, raw": {
        "update_batch_size": 7,
        "standardize": False,
        "input_head": "none",
        "hedge_loss": "raw",
    },
    "nothing but the paper": {
        "hedge_loss": "raw",
        "head_rate": 1.0,
        "head_boost": 0.0,
        "scale_heads_by_alpha": True,
        "input_head": "none",
        "gradient_clip_norm": 0.0,
        "standardize": False,
    },
}


def stream(n_rows: int, n_classes: int, *, scaled: bool = True, dtype: str = "float64"):
    """Return learnable rows and labels; the last feature is constant.

    With ``scaled``, the features' deviations range from 1e-3 to 1e4.
    """
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n_rows, D))
    y = (X @ rng.normal(size=(D, n_classes)) + 0.3 * rng.normal(size=(n_rows, n_classes))).argmax(1)
    if scaled:
        X = (X + rng.normal(size=D)) * np.array([1e-3, 1.0, 30.0, 1e4, 1.0])
    X[:, -1] = 0.1
    return X.astype(dtype), y


def fit_in_calls(model, X: np.ndarray, y: np.ndarray, sizes: Iterable[int]) -> np.ndarray:
    """Give the rows to ``partial_fit`` in calls of these sizes, repeated to the end."""
    outputs, start = [], 0
    for size in itertools.cycle(sizes):
        outputs.append(model.partial_fit(X[start : start + size], y[start : start + size]))
        start += size
        if start >= len(X):
            return np.concatenate(outputs)


def assert_states_close(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        # Squared deviations of a feature in the tens of thousands reach 1e10.
        rtol = 1e-12 if name.startswith(("scaler", "served_scaler")) else 0
        np.testing.assert_allclose(actual[name], array, rtol=rtol, atol=1e-9, err_msg=name)


def assert_states_equal(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        assert np.array_equal(actual[name], array), name


@pytest.fixture(scope="module", params=ENGINES)
def learned(request):
    """A classifier with every option on, its oracle, and what both gave while learning."""
    classifier = HBPClassifier(**EVERY_OPTION | {"engine": request.param})
    oracle = NumpyHBP(classifier.config, classifier.get_state())
    X, y = stream(300, 3)
    return classifier, oracle, classifier.partial_fit(X, y), oracle.partial_fit(X, y)


def test_every_option_together_agrees_with_the_oracle(learned):
    classifier, oracle, actual, expected = learned
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(classifier.alpha, oracle.alpha, rtol=0, atol=1e-9)
    assert_states_close(classifier.get_state(), oracle.get_state())


def test_comparison_sees_clipping_learning_and_the_alpha_floor(learned):
    _, oracle, _, probabilities = learned
    _, y = stream(300, 3)
    assert 0.05 < oracle.network.clipped_updates / oracle.network.layer_updates < 0.95
    assert (probabilities[150:].argmax(1) == y[150:]).mean() > 0.7
    assert oracle.network.floored_alphas > 0


@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 600, 5000])
def test_predict_proba_agrees_with_the_oracle_and_changes_nothing(learned, n_rows):
    classifier, oracle, *_ = learned
    X, _ = stream(n_rows, 3)
    before = classifier.get_state()
    actual = classifier.predict_proba(X)
    np.testing.assert_allclose(actual, oracle.predict_proba(X), rtol=0, atol=1e-9)
    assert_states_equal(classifier.get_state(), before)


SLOW = {"numba": (), "xla": pytest.mark.slow}

# XLA takes seconds to compile each, so it is given larger updates and what it does otherwise.
ALSO_BY_XLA = {
    "stacked, with a horizon",
    "min-max hedge",
    "input head by gradient, heads scaled",
    "last head beside the input's",
    "one head",
    "nothing but the paper",
}
ENGINES_OF_VARIATIONS = [
    pytest.param(changed, engine, id=f"{name}, {engine}", marks=SLOW[engine])
    for name, changed in VARIATIONS.items()
    for engine in ENGINES
    if (engine == "numba") != ("update_batch_size" in changed) or name in ALSO_BY_XLA
]


@pytest.mark.parametrize(("changed", "engine"), ENGINES_OF_VARIATIONS)
def test_variation_in_ragged_calls_agrees_with_the_oracle(changed, engine):
    classifier = HBPClassifier(**EVERY_OPTION | {"n_hidden_layers": 3, "engine": engine} | changed)
    config = classifier.config
    oracle = NumpyHBP(config, classifier.get_state())
    X, y = stream(200, config.n_classes, scaled=config.standardize)
    expected = oracle.predict_proba(X[:2])
    scorer = NumbaScorer(config, classifier.get_state())
    np.testing.assert_allclose(classifier.predict_proba(X[:2]), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scorer.predict_proba(X[:2]), expected, rtol=0, atol=1e-9)

    start = 0
    for size in (1, 2, 50, 3, 0, 5, 1, 1, 90, 47):
        rows = slice(start, start := start + size)
        actual = classifier.partial_fit(X[rows], y[rows])
        expected = oracle.partial_fit(X[rows], y[rows])
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(classifier.alpha, oracle.alpha, rtol=0, atol=1e-9)
        assert_states_close(classifier.get_state(), oracle.get_state())
    assert start == len(X)

    expected = oracle.predict_proba(X)
    scorer = NumbaScorer(config, classifier.get_state())
    np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scorer.predict_proba(X), expected, rtol=0, atol=1e-9)
    assert (oracle.network.clipped_updates > 0) == (config.gradient_clip_norm > 0)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(((group, engine), dtype), id=f"{engine}, {group}, {dtype}", marks=SLOW[engine])
        for (group, engine), dtype in itertools.product(
            ((1, "numba"), (1, "xla"), (5, "xla")), ("float32", "float64")
        )
    ],
)
def undisturbed(request):
    """Options of a small net, its rows, and what one call with all of them gives."""
    (group, engine), dtype = request.param
    options = (
        EVERY_OPTION
        | STACKED
        | {
            "n_hidden_layers": 2,
            "n_hidden_units": 4,
            "update_batch_size": group,
            "engine": engine,
            "dtype": dtype,
            "horizon": 100,
        }
    )
    X, y = stream(2503, 3, dtype=dtype)
    classifier = HBPClassifier(**options)
    initial = classifier.get_state()
    outputs = classifier.partial_fit(X, y)
    return classifier, initial, options, X, y, outputs, classifier.get_state()


@pytest.mark.parametrize(
    "sizes",
    [(1, 2, 50, 3, 0, 700), (1024,), (1023, 2), (1026, 1020, 457), (1,) * 20 + (2483,)],
    ids=["ragged", "chunk", "chunk - 1", "chunk + 2", "singles"],
)
def test_result_does_not_depend_on_how_the_stream_is_cut(undisturbed, sizes):
    classifier, initial, _, X, y, outputs, final = undisturbed
    classifier.set_state(initial)
    cut = fit_in_calls(classifier, X, y, sizes)
    assert_states_equal(classifier.get_state(), final)
    assert np.array_equal(cut, outputs)


def test_resumed_classifier_continues_bit_for_bit(undisturbed):
    classifier, initial, options, X, y, outputs, final = undisturbed
    classifier.set_state(initial)
    # Leaves two rows waiting where groups have five.
    classifier.partial_fit(X[:1202], y[:1202])
    resumed = HBPClassifier(**options)
    resumed.partial_fit(X[:17], y[:17])
    resumed.set_state(classifier.get_state())
    continued = resumed.partial_fit(X[1202:], y[1202:])
    assert_states_equal(resumed.get_state(), final)
    assert np.array_equal(continued, outputs[1202:])
