"""A model is bound to an input that fits it, whoever has created it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.config.run import ReplaySettings
from app.contract import NUMBERS, Category, Encoding, FixedContract
from app.errors import UserError
from app.registry.open import OpenModel
from app.streaming.model_binding import ModelInput, Roles, bind_model
from app.streaming.rows.layout import FeatureColumns, RowLayout

CLASSES = ("no", "yes")
MADE_FOR = FixedContract(("a", "b"), CLASSES, NUMBERS)


def settings(**changes: object) -> ReplaySettings:
    options = {"n_hidden_layers": 2, "n_hidden_units": 4} | changes.pop("model_options", {})
    named = {"input": Path("in.csv"), "format": "csv", "label": "y", "workdir": Path("w")}
    return ReplaySettings(**named, model_options=options, **changes)


def rows(*features: str) -> ModelInput:
    layout = RowLayout("csv", (*features, "y"))
    return ModelInput(layout, FeatureColumns(features, len(features), False), Roles(label="y"))


@pytest.fixture
def opened(place) -> OpenModel:
    return OpenModel(place.registry, place.url)


@pytest.fixture
def late(place) -> OpenModel:
    """Return what was opened before the model was created by another learner."""
    late = OpenModel(place.open(), place.url)
    bind_model(settings(), OpenModel(place.registry, place.url), rows("a", "b"), lambda: MADE_FOR)
    return late


def test_a_new_model_has_the_classes_of_the_input(opened):
    bound = bind_model(settings(), opened, rows("a", "b"), lambda: MADE_FOR)
    assert (bound.version.version, bound.contract.classes) == (0, CLASSES)
    assert bound.contract.features == ("a", "b")


def test_a_model_that_another_learner_created_meanwhile_keeps_its_contract(late):
    bound = bind_model(
        settings(), late, rows("a", "b"), lambda: FixedContract(("a", "b"), ("yes", "no"), NUMBERS)
    )
    assert bound.contract.classes == CLASSES
    stored = late.stored.state
    for name, array in bound.classifier.get_state().items():
        np.testing.assert_array_equal(array, stored[name])


@pytest.mark.parametrize(
    ("features", "changes", "message"),
    [
        (("b", "a"), {}, "--features: the input has b, a, but .* created with a, b"),
        (("a", "b"), {"classes": ("yes", "no")}, "--classes is yes,no, but .* with no,yes"),
        (("a", "b"), {"model_options": {"n_hidden_units": 5}}, "--units is 5, but .* with 4"),
    ],
)
def test_a_model_that_another_learner_created_meanwhile_must_fit(late, features, changes, message):
    with pytest.raises(UserError, match=message):
        bind_model(settings(**changes), late, rows(*features), lambda: MADE_FOR)


ENCODED = FixedContract(
    ("a", "b"), CLASSES, Encoding({"b": Category(("x", "y"), 2)}, ("a",), imputes=True)
)


def test_what_its_features_are_is_fixed_when_a_model_is_created(opened):
    bound = bind_model(settings(), opened, rows("a", "b"), lambda: ENCODED)
    assert bound.contract.encoding == ENCODED.encoding
    config = bound.classifier.config
    assert (config.category_slots, config.indicators, config.imputes) == ((0, 5), (0,), True)
    again = bind_model(settings(), opened, rows("a", "b"), lambda: MADE_FOR)
    assert again.contract.encoding == ENCODED.encoding


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categorical": ("a",), "features": ("a", "b")}, "--categorical is a, but .* with b"),
        ({"missing": "reject"}, "--missing is reject, but .* with impute"),
    ],
)
def test_what_was_fixed_cannot_be_chosen_anew(opened, changes, message):
    bind_model(settings(), opened, rows("a", "b"), lambda: ENCODED)
    with pytest.raises(UserError, match=message):
        bind_model(settings(**changes), opened, rows("a", "b"), lambda: ENCODED)
    bind_model(settings(missing="impute"), opened, rows("a", "b"), lambda: ENCODED, ENCODED)
    with pytest.raises(UserError, match="--contract: model 'default' of w was created with other"):
        bind_model(settings(), opened, rows("a", "b"), lambda: ENCODED, MADE_FOR)
