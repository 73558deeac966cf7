"""Learners side by side on a stream: what each predicts, from labels that come late or at once."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.model import HBPClassifier
from tests.bench.prequential import fixed_depth, is_right
from tests.bench.rivals import adaptive_forest
from tests.bench.streams import Rows

DEPTHS = (1, 2, 3, 4, 8, 16, 20)
LEAST_PROBABILITY = 1e-6
"""What the logarithm of a loss is taken of at least."""


@dataclass(frozen=True)
class Served:
    """What a learner predicted of a stream.

    Attributes
    ----------
    error
        Rows whose class was not the most probable, by rows.
    log_loss
        Mean cross-entropy in nats; NaN of a learner that says no probabilities.
    microseconds
        Time a row, of predicting and learning.
    """

    error: float
    log_loss: float
    microseconds: float


Learner = Callable[[Rows, int, int], Served]
"""Takes rows, by how many a label is late, and a seed."""


def ours(**options: Any) -> Learner:
    """Return a model of these options; its horizon is by how many rows a label is late."""

    def served(rows: Rows, late: int, seed: int) -> Served:
        X, y = rows
        horizon = late if options.get("variant", "stacked") == "stacked" else 0
        C = int(y.max()) + 1
        model = HBPClassifier(X.shape[1], C, seed=seed, horizon=horizon, **options)
        model.compile()
        started = time.perf_counter()
        found = []
        for start in range(0, len(y), late or len(y)):
            part = slice(start, start + (late or len(y)))
            before = model.predict_proba(X[part]) if late else None
            at_once = model.partial_fit(X[part], y[part])
            found.append(at_once if before is None else before)
        seconds = time.perf_counter() - started
        p = np.concatenate(found)
        right = is_right(p, y)
        of_label = np.maximum(np.nan_to_num(p[np.arange(len(y)), y]), LEAST_PROBABILITY)
        loss = float(-np.log(of_label).mean())
        return Served(float(1 - right.mean()), loss, 1e6 * seconds / len(y))

    return served


def _row_by_row(
    rows: Rows,
    late: int,
    instances: Iterator[Any],
    predict: Callable[[Any], Any],
    learn: Callable[[Any, Any], Any],
) -> Served:
    started = time.perf_counter()
    mistakes, waiting = 0, []
    for label, instance in zip(rows[1].tolist(), instances, strict=True):
        # Before the first label, a forest predicts none.
        mistakes += (predict(instance) or 0) != label
        waiting.append((instance, label))
        if len(waiting) >= max(late, 1):
            for known in waiting:
                learn(*known)
            waiting = []
    n = len(rows[1])
    return Served(mistakes / n, float("nan"), 1e6 * (time.perf_counter() - started) / n)


def of_moa(name: str) -> Learner:
    """Return one of MOA's ensembles of ten trees, as CapyMOA wraps it."""

    def served(rows: Rows, late: int, seed: int) -> Served:
        from capymoa import classifier
        from capymoa.stream import NumpyStream

        X, y = rows
        stream = NumpyStream(X.astype(float), y.astype(int), target_type="categorical")
        options = {"schema": stream.get_schema(), "random_seed": seed + 1, "ensemble_size": 10}
        forest = getattr(classifier, name)(**options)
        instances = (stream.next_instance() for _ in y)
        return _row_by_row(rows, late, instances, forest.predict, lambda x, label: forest.train(x))

    return served


def of_river(rows: Rows, late: int, seed: int) -> Served:
    """Learn with River's adaptive random forest of ten trees."""
    instances = (dict(enumerate(row)) for row in rows[0].tolist())
    forest = adaptive_forest(seed)
    return _row_by_row(rows, late, instances, forest.predict_one, forest.learn_one)


def _last_known(n: int, late: int) -> np.ndarray:
    """Return the last row whose label is known when each of n rows comes, -1 for none."""
    rows: np.ndarray = np.arange(n)
    return rows // max(late, 1) * max(late, 1) - 1


def no_change(rows: Rows, late: int, seed: int) -> Served:
    """Predict the label that is known last."""
    _, y = rows
    known = _last_known(len(y), late)
    predicted = np.where(known >= 0, y[known], 0)
    return Served(float((predicted != y).mean()), float("nan"), 0.0)


def majority(rows: Rows, late: int, seed: int) -> Served:
    """Predict the commonest of all labels that are known."""
    _, y = rows
    seen = np.cumsum(y[:, np.newaxis] == np.arange(int(y.max()) + 1), axis=0)
    known = _last_known(len(y), late)
    predicted = np.where(known >= 0, seen[known].argmax(axis=1), 0)
    return Served(float((predicted != y).mean()), float("nan"), 0.0)


FIXED = {f"BP {depth}": ours(**fixed_depth(depth)) for depth in DEPTHS}
FORESTS: dict[str, Learner] = {"River ARF": of_river}
"""River's forest, and MOA's where CapyMOA is installed."""
if importlib.util.find_spec("capymoa") is not None:
    FORESTS |= {
        "ARF": of_moa("AdaptiveRandomForestClassifier"),
        "SRP": of_moa("StreamingRandomPatches"),
    }
LEARNERS: dict[str, Learner] = {
    "default": ours(),
    "fast": ours(variant="fast"),
    **FIXED,
    **FORESTS,
    "no change": no_change,
    "majority": majority,
}
