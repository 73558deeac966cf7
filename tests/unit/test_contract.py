"""What a model and its rows have agreed on is kept with the model."""

from __future__ import annotations

import pytest

from app.contract import Contract, FixedContract
from app.errors import StateError
from tests.unit.rows import KEYED


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(("0", "1"), True), (("-1", "1"), True), (("0", "up"), False), (("0.5", "1"), False)],
)
def test_integers_are_predicted_as_integers(classes, expected):
    contract = Contract(columns=("x",), features=("x",), n_features=1, classes=classes)
    assert contract.has_integer_labels is expected


def test_features_and_classes_go_with_the_state():
    fixed = FixedContract.from_metadata(KEYED.to_metadata())
    assert (fixed.features, fixed.classes) == (KEYED.features, KEYED.classes)


@pytest.mark.parametrize(
    "metadata", [{}, {"contract": "{"}, {"contract": "[]"}, {"contract": '{"features": ["x"]}'}]
)
def test_a_state_without_a_contract_is_refused(metadata):
    with pytest.raises(StateError, match="contract"):
        FixedContract.from_metadata(metadata)
