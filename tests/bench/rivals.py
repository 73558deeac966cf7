"""River's learners that benchmarks compare with, on the rows as River takes them."""

from __future__ import annotations

from typing import Any

from river import compose, forest, preprocessing


def rivals(linear: Any) -> dict[str, Any]:
    """Return a linear learner, on standardised numbers and one-hot categories, and a forest."""
    numbers = compose.SelectType(float) | preprocessing.StandardScaler()
    categories = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return {
        "logistic regression": (numbers + categories) | linear,
        "adaptive random forest": adaptive_forest(seed=0),
    }


def adaptive_forest(seed: int) -> Any:
    """Return an adaptive random forest of ten trees."""
    return forest.ARFClassifier(n_models=10, seed=seed)
