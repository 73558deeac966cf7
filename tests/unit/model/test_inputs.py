"""Categories, missing numbers and class weights: every engine does what the oracle does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.config.model import ModelConfig, class_weights_of, weights_by_label
from app.errors import InvalidParameterError, InvalidRowsError
from app.model import HBPClassifier
from app.model.forward.network import dead_layers
from app.model.numba_scorer import NumbaScorer
from app.model.state import check_state, config_from_metadata, config_to_metadata
from tests.oracle import NumpyHBP

N = 90
SMALL = {"n_hidden_layers": 3, "n_hidden_units": 6, "dtype": "float64"}
COLUMNS = {"n_features": 4, "category_slots": (0, 3, 0, 5)}
INPUTS = {
    "categories": COLUMNS,
    "categories alone": {"n_features": 2, "category_slots": (3, 5)},
    "missing": {"n_features": 4, "imputes": True},
    "indicators": {"n_features": 4, "imputes": True, "indicators": (0, 2)},
    "all": COLUMNS | {"imputes": True, "indicators": (2,)},
}
WEIGHTS = {
    "equal": {},
    "fixed": {"class_weights": (1.0, 4.0, 0.5)},
    "balanced": {"class_weight": "balanced"},
}
HOW = {
    "default": {"n_trees": 4},
    "fast": {"variant": "fast"},
    "sgd": {"input_head": "sgd", "gradient_clip_norm": 0.5, "variant": "fast"},
    "no input head": {"input_head": "none", "scale_heads_by_alpha": True, "variant": "fast"},
    "bounded": {"hedge_loss": "bounded", "standardize": False, "n_trees": 4},
    "groups": {"update_batch_size": 4, "hedge_loss": "raw", "n_trees": 4},
}


def rows_of(config: ModelConfig, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, and labels of which one is rare."""
    rng = np.random.default_rng(5)
    X = rng.normal(3, 2, size=(n, config.n_features))
    for column, slots in enumerate(config.category_slots):
        if slots:
            X[:, column] = rng.integers(0, slots, n)
    if config.imputes:
        numbers = list(config.number_columns)
        X[:, numbers] = np.where(rng.random((n, len(numbers))) < 0.3, np.nan, X[:, numbers])
        # No number at first, in one row none at all, and in one column none ever.
        X[:7, numbers[0]] = X[10, numbers] = X[:, numbers[-1]] = np.nan
    y = (np.nan_to_num(X[:, 0]) > 2).astype(int)
    y[rng.random(n) < 0.1] = 2
    return X, y


CASES = {
    ("all", "balanced", "fast"), ("categories", "fixed", "fast"),
    ("categories", "equal", "default"), ("categories", "fixed", "groups"),
    ("categories alone", "balanced", "default"), ("categories alone", "equal", "bounded"),
    ("missing", "fixed", "sgd"), ("missing", "equal", "groups"),
    ("indicators", "equal", "default"), ("indicators", "balanced", "groups"),
    ("all", "balanced", "default"), ("all", "fixed", "no input head"), ("all", "equal", "sgd"),
    ("all", "balanced", "bounded"), ("all", "fixed", "groups"),
}  # fmt: skip


@pytest.mark.parametrize(("inputs", "weights", "how"), sorted(CASES))
def test_engines_learn_as_the_oracle_does(inputs, weights, how):
    options = SMALL | INPUTS[inputs] | WEIGHTS[weights] | HOW[how]
    engines = ("xla",) if how == "groups" else ("numba", "xla")
    for engine in engines:
        model = HBPClassifier(n_classes=3, engine=engine, **options)
        X, y = rows_of(model.config)
        oracle = NumpyHBP(model.config, model.get_state())
        expected = oracle.partial_fit(X, y)
        parts = [model.partial_fit(X[:40], y[:40]), model.partial_fit(X[40:], y[40:])]
        found = np.concatenate(parts)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
        scorer = NumbaScorer(model.config, model.get_state())
        expected = oracle.predict_proba(X)
        np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-7)
        np.testing.assert_allclose(scorer.predict_proba(X), expected, rtol=1e-7)
        state = check_state(model.get_state(), model.config)
        assert state.keys() == oracle.get_state().keys()
        for name, array in oracle.get_state().items():
            np.testing.assert_allclose(state[name], array, rtol=1e-7, atol=1e-9, err_msg=name)


def test_a_missing_number_counts_as_the_mean_and_moves_nothing():
    model = HBPClassifier(2, 2, imputes=True, **SMALL)
    X = np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, 7.0]])
    model.partial_fit(X, [0, 1, 0])
    state = model.get_state()
    np.testing.assert_array_equal(state["scaler_count"], [2, 2])
    np.testing.assert_array_equal(state["scaler_mean"], [2, 6])
    mean, missing = model.predict_proba([[2.0, 6.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(mean, missing)


def test_wide_categories_begin_with_signals_of_the_usual_size():
    narrow = HBPClassifier(3, 2, **SMALL | {"n_hidden_units": 200})
    wide = HBPClassifier(3, 2, category_slots=(1000,) * 3, **SMALL | {"n_hidden_units": 200})
    spreads = [model.get_state()["hidden_kernel_0"].std() for model in (narrow, wide)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.1)


def test_layers_that_are_dead_are_found_among_all_inputs():
    config = ModelConfig(n_classes=2, imputes=True, indicators=(0,), **SMALL | COLUMNS)
    model = HBPClassifier.from_config(config)
    X, y = rows_of(config)
    model.partial_fit(X, y % 2)
    state = model.get_state()
    assert dead_layers(state, X, config) == ()
    state["hidden_bias_1"][:] = -1e6
    assert 1 in dead_layers(state, X, config)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, 3.0, 0.0, 0.0], r"column 1 of X must hold slots 0\.\.2"),
        ([1.0, -1.0, 0.0, 0.0], "column 1 of X must hold slots"),
        ([1.0, 0.5, 0.0, 0.0], "column 1 of X must hold slots"),
        ([1.0, np.nan, 0.0, 0.0], "NaN or an infinity, first in row 0"),
        ([np.inf, 0.0, 0.0, 0.0], "NaN or an infinity, first in row 0"),
    ],
)
def test_what_is_no_slot_or_no_number_is_refused(row, message):
    model = HBPClassifier(n_classes=2, imputes=True, **SMALL | COLUMNS)
    with pytest.raises(InvalidRowsError, match=message):
        model.partial_fit([row], [0])
    assert model.get_state()["row_count"] == 0


def test_a_nan_is_refused_where_nothing_may_be_missing():
    with pytest.raises(InvalidRowsError, match="NaN"):
        HBPClassifier(2, 2, **SMALL).partial_fit([[1.0, np.nan]], [0])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"category_slots": (3,)}, "category_slots"),
        ({"category_slots": (0, -1, 0, 0)}, "category_slots"),
        ({"indicators": (0,)}, "indicators"),
        ({"indicators": (1,), "imputes": True}, "indicators"),
        ({"indicators": (2, 0), "imputes": True}, "indicators"),
        ({"imputes": "yes"}, "imputes"),
        ({"class_weights": (1.0,)}, "class_weights"),
        ({"class_weights": (1.0, 0.0)}, "class_weights"),
        ({"class_weights": (1.0, 2.0), "class_weight": "balanced"}, "class_weights"),
        ({"class_weight": "heavy"}, "class_weight"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(changes, name):
    with pytest.raises(InvalidParameterError) as refused:
        ModelConfig(n_classes=2, **COLUMNS | changes)
    assert refused.value.name == name


def test_settings_are_stored_as_before_where_they_are_not_used():
    plain = json.loads(config_to_metadata(ModelConfig(n_features=3, n_classes=2))["config"])
    assert not plain.keys() & {"category_slots", "indicators", "imputes", "class_weights"}
    config = ModelConfig(n_classes=2, imputes=True, indicators=(0,), **COLUMNS)
    assert config_from_metadata(config_to_metadata(config)) == config


class TestWeights:
    def test_a_weight_is_by_label_and_1_where_none_is_named(self):
        assert class_weights_of("fraud=5", ["fraud", "ok"]) == (5.0, 1.0)
        assert class_weights_of("balanced", ["a", "b"]) == class_weights_of(None, ["a", "b"]) == ()

    def test_a_label_may_hold_what_stands_before_a_weight(self):
        assert weights_by_label("a=b=2") == {"a=b": 2.0}

    @pytest.mark.parametrize("text", ["", "a", "a=x", "a=0", "a=-1", "a=inf", "a=nan", "a=1,b"])
    def test_what_is_no_weight_is_refused(self, text):
        with pytest.raises(InvalidParameterError, match="class_weight must be balanced, or"):
            weights_by_label(text)

    def test_a_label_that_is_no_class_is_named(self):
        with pytest.raises(InvalidParameterError, match="of the classes fraud, ok, not 'fruad'"):
            class_weights_of("fruad=5", ["fraud", "ok"])

    def test_a_weight_of_k_is_no_worse_for_the_rare_class(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(3000, 2))
        y = ((X[:, 0] > 1.6) & (rng.random(3000) < 0.7)).astype(int)
        recall = {}
        for name, options in {"equal": {}, "balanced": {"class_weight": "balanced"}}.items():
            model = HBPClassifier(2, 2, **SMALL | options)
            guessed = model.partial_fit(X, y).argmax(axis=1)[1000:]
            recall[name] = (guessed[y[1000:] == 1] == 1).mean()
        assert recall["balanced"] > recall["equal"]
