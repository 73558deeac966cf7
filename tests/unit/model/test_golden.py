"""The classifier, and its oracle, repeat the traces of a third party's implementation."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from app.config.model import ENGINES, ModelConfig
from app.model import HBPClassifier
from tests.oracle import NumpyHBP

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}


def load(name: str) -> dict[str, np.ndarray]:
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"no golden trace at {path}")
    with np.load(path) as arrays:
        return dict(arrays)


def at(trace: dict[str, np.ndarray], moment: str, dtype: str) -> dict[str, np.ndarray]:
    """Return the trace's weights of the ``init`` or the ``final`` moment."""
    prefix = f"{moment}_"
    return {
        key.removeprefix(prefix): array.astype(dtype)
        for key, array in trace.items()
        if key.startswith(prefix)
    }


def assert_weights_close(state: dict, expected: dict, tolerance: float) -> None:
    assert state.keys() - expected.keys() == {"alpha", "row_count"}
    for name, weights in expected.items():
        np.testing.assert_allclose(state[name], weights, rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module", params=["hbp_small.npz", "hbp_paper.npz"])
def trace(request):
    return load(request.param)


def settings(trace: dict[str, np.ndarray], dtype: str, engine: str = "numba") -> ModelConfig:
    D, L, H, C, _ = map(int, trace["meta"])
    learning_rate, beta, smoothing = map(float, trace["hyper"])
    return ModelConfig(
        n_features=D,
        n_classes=C,
        n_hidden_layers=L,
        n_hidden_units=H,
        variant="paper",
        learning_rate=learning_rate,
        beta=beta,
        smoothing=smoothing,
        hedge_loss="raw",
        standardize=False,
        engine=engine,
        dtype=dtype,
    )


def first_state(trace: dict[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    L = int(trace["meta"][1])
    alpha, row_count = np.full(L, 1 / L, dtype), np.array(0, np.int64)
    return {**at(trace, "init", dtype), "alpha": alpha, "row_count": row_count}


@pytest.fixture(scope="module", params=itertools.product(TOLERANCE, ENGINES), ids=str)
def classifier(request, trace):
    return HBPClassifier.from_config(settings(trace, *request.param))


@pytest.fixture
def untrained(classifier, trace):
    """The classifier with the trace's first weights."""
    classifier.set_state(first_state(trace, classifier.config.dtype))
    return classifier


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_new_classifier_weighs_its_heads_alike(trace, dtype):
    fresh = HBPClassifier.from_config(settings(trace, dtype))
    L = fresh.config.n_hidden_layers
    np.testing.assert_allclose(fresh.alpha, np.full(L, 1 / L), rtol=2 * np.finfo(dtype).eps)


def test_one_call_per_row_repeats_the_trace(trace, untrained):
    dtype = untrained.config.dtype
    X, y, tolerance = trace["X"].astype(dtype), trace["y"], TOLERANCE[dtype]
    for row in range(len(X)):
        proba = untrained.partial_fit(X[row : row + 1], y[row : row + 1])
        np.testing.assert_allclose(
            proba[0], trace["proba"][row], rtol=0, atol=tolerance, err_msg=f"proba, row {row}"
        )
        np.testing.assert_allclose(
            untrained.alpha,
            trace["alpha"][row],
            rtol=0,
            atol=tolerance,
            err_msg=f"alpha, row {row}",
        )
    assert_weights_close(untrained.get_state(), at(trace, "final", dtype), tolerance)


def test_one_call_with_all_rows_repeats_the_trace(trace, untrained):
    dtype = untrained.config.dtype
    proba = untrained.partial_fit(trace["X"].astype(dtype), trace["y"])
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(proba, trace["proba"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(untrained.alpha, trace["alpha"][-1], rtol=0, atol=tolerance)
    assert_weights_close(untrained.get_state(), at(trace, "final", dtype), tolerance)


def test_oracle_repeats_the_trace(trace):
    oracle = NumpyHBP(settings(trace, "float64"), first_state(trace, "float64"))
    tolerance = TOLERANCE["float64"]
    columns = (trace[key] for key in ("X", "y", "proba", "alpha"))
    for row, label, proba, alpha in zip(*columns, strict=True):
        actual = oracle.partial_fit([row], [label])[0]
        np.testing.assert_allclose(actual, proba, rtol=0, atol=tolerance)
        np.testing.assert_allclose(oracle.alpha, alpha, rtol=0, atol=tolerance)
    assert_weights_close(oracle.get_state(), at(trace, "final", "float64"), tolerance)
