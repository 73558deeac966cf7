"""A batch of rows becomes a frame of the same length, nulls where there were no features."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from udfs.score import SCORE_TYPE, score_batch

SOURCE = object()
ROWS = [[0.0, 1.0], [2.0, 0.0], [3.0, 3.5]]


class FakeModel:
    """Gives a row its own softmax, and version 7 once it has been asked to refresh."""

    version = 6

    def __init__(self, stale: bool = False) -> None:
        self.scored: list[np.ndarray] = []
        self.asked: list[object] = []
        self.stale = stale

    def refresh(self, source: object) -> bool:
        self.asked.append(source)
        self.version = 7
        return self.stale

    def age_ms(self) -> int:
        assert self.version == 7, "the age of a version that is not served"
        return 1234

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        assert self.version == 7, "scored before the version was asked for"
        self.scored.append(X)
        powers = np.exp(X.astype(np.float64))
        return powers / powers.sum(axis=1, keepdims=True)


def features(pattern: str, index=None) -> pd.Series:
    """Return rows of features: one for each ``r``, a null for each ``-``."""
    rows = iter(ROWS * len(pattern))
    values = [np.array(next(rows), np.float32) if c == "r" else None for c in pattern]
    return pd.Series(values, dtype=object, index=index)


@pytest.mark.parametrize("pattern", ["rrr", "r-r-", "-r-rr", "--r", "r--", "r", "-", "---", ""])
class TestEveryPatternOfNulls:
    def test_a_row_with_features_has_a_prediction(self, pattern):
        scored = score_batch(FakeModel(), SOURCE, features(pattern))
        found = [None if pd.isna(value) else int(value) for value in scored["prediction"]]
        classes = iter([1, 0, 1] * len(pattern))
        assert found == [next(classes) if c == "r" else None for c in pattern]

    def test_probabilities_belong_to_their_row(self, pattern):
        given = features(pattern)
        scored = score_batch(FakeModel(), SOURCE, given)
        for row, probabilities in zip(given, scored["probabilities"], strict=True):
            if row is None:
                assert probabilities is None
            else:
                expected = np.exp(row) / np.exp(row).sum()
                np.testing.assert_allclose(probabilities, expected, rtol=1e-6)

    def test_a_version_is_told_where_there_is_a_prediction(self, pattern):
        versions = score_batch(FakeModel(), SOURCE, features(pattern))["model_version"]
        assert [None if pd.isna(v) else v for v in versions] == [
            7 if c == "r" else None for c in pattern
        ]

    def test_the_age_of_the_version_is_told_where_there_is_a_prediction(self, pattern):
        ages = score_batch(FakeModel(), SOURCE, features(pattern))["model_age_ms"]
        assert [None if pd.isna(age) else age for age in ages] == [
            1234 if c == "r" else None for c in pattern
        ]

    @pytest.mark.parametrize("stale", [False, True])
    def test_a_prediction_says_whether_it_is_stale(self, pattern, stale):
        told = score_batch(FakeModel(stale), SOURCE, features(pattern))["stale"]
        assert [None if pd.isna(value) else bool(value) for value in told] == [
            stale if c == "r" else None for c in pattern
        ]

    def test_the_frame_has_the_columns_of_the_struct_in_their_order(self, pattern):
        scored = score_batch(FakeModel(), SOURCE, features(pattern))
        assert scored.columns.tolist() == SCORE_TYPE.names

    def test_dtypes_hold_integers_and_nulls(self, pattern):
        scored = score_batch(FakeModel(), SOURCE, features(pattern))
        assert scored.dtypes.astype(str).to_dict() == {
            "prediction": "Int32",
            "probabilities": "object",
            "model_version": "Int64",
            "model_age_ms": "Int64",
            "stale": "boolean",
        }
        # Which Spark turns into Arrow many times faster than arrays.
        for row in scored["probabilities"].dropna():
            assert type(row) is list and all(type(value) is float for value in row)
            assert np.float32(row).tolist() == row

    def test_the_frame_is_counted_from_0(self, pattern):
        index = range(100, 100 + len(pattern))
        scored = score_batch(FakeModel(), SOURCE, features(pattern, index))
        assert scored.index.tolist() == list(range(len(pattern)))

    def test_the_model_sees_the_rows_with_features_at_once(self, pattern):
        model = FakeModel()
        score_batch(model, SOURCE, features(pattern))
        # A batch of labels alone needs no model, and so none is asked for.
        assert model.asked == ([SOURCE] if "r" in pattern else [])
        assert [len(X) for X in model.scored] == ([pattern.count("r")] if "r" in pattern else [])


def test_rows_of_different_lengths_are_refused():
    ragged = pd.Series([np.zeros(2, np.float32), np.zeros(3, np.float32), np.zeros(1, np.float32)])
    model = FakeModel()
    with pytest.raises(ValueError):
        score_batch(model, SOURCE, ragged)
    assert not model.scored
