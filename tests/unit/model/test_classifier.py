"""The classifier takes the options of a model, and is an estimator that scikit-learn can clone."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc

import numpy as np
import pytest
from sklearn.base import clone

from app.config.model import ModelConfig, ModelOptions
from app.errors import InvalidParameterError
from app.model import HBPClassifier

SMALL = {"n_hidden_layers": 2, "n_hidden_units": 4}


def test_help_names_every_option_with_its_default():
    text = pydoc.plain(pydoc.render_doc(HBPClassifier))
    missing = [
        field.name
        for field in dataclasses.fields(ModelOptions)
        if f"{field.name}: " not in text or f" = {field.default!r}" not in text
    ]
    assert missing == []


def test_the_signature_is_that_of_the_settings():
    classifier = inspect.signature(HBPClassifier).parameters
    settings = inspect.signature(ModelConfig).parameters
    assert {name: each.default for name, each in classifier.items()} == {
        name: each.default for name, each in settings.items()
    }
    assert list(classifier)[:2] == ["n_features", "n_classes"]


def test_rows_and_classes_may_go_by_position():
    model = HBPClassifier(3, 2, **SMALL, beta=0.9)
    assert model.config == ModelConfig(n_features=3, n_classes=2, **SMALL, beta=0.9)


def test_an_option_that_is_none_is_refused_by_name():
    with pytest.raises(TypeError, match="learning_rat'"):
        HBPClassifier(3, 2, learning_rat=0.1)


def test_an_option_out_of_range_is_refused_by_name():
    with pytest.raises(InvalidParameterError, match="beta"):
        HBPClassifier(3, 2, beta=1.5)


def test_a_clone_has_the_same_options_and_has_learned_nothing():
    inputs = {"category_slots": (0, 0, 2), "imputes": True, "indicators": (0,)}
    options = SMALL | inputs | {"class_weights": (1.0, 2.0), "seed": 7, "engine": "xla"}
    model = HBPClassifier(3, 2, **options)
    rows = np.random.default_rng(0).normal(size=(20, 3))
    rows[:, 2] = rows[:, 2] > 0
    before = model.predict_proba(rows)
    model.partial_fit(rows, (rows[:, 0] > 0).astype(int))

    cloned = clone(model)

    assert cloned.config == model.config
    assert np.array_equal(cloned.predict_proba(rows), before)
    assert not np.array_equal(model.predict_proba(rows), before)
