"""Unlike streams to judge a learner's defaults by: with and without drift, easy and hard."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from river.datasets import synth
from sklearn.datasets import load_digits

from app.synthetic import PAPER_STREAMS, stream_blocks

ELECTRICITY = Path(__file__).resolve().parents[3] / "shared" / "data" / "electricity.csv"

_DIGITS_EPOCHS = 8

Rows = tuple[np.ndarray, np.ndarray]


def _electricity(n_rows: int, seed: int) -> Rows:
    with ELECTRICITY.open() as file:
        rows = list(csv.reader(file))[1 : n_rows + 1]
    return _arrays([row[:-1] for row in rows], [row[-1] for row in rows])


def _of_the_paper(name: str) -> Callable[[int, int], Rows]:
    def rows(n_rows: int, seed: int) -> Rows:
        blocks = zip(*stream_blocks(name, n_rows, seed=seed), strict=True)
        X, y = (np.concatenate(part) for part in blocks)
        return X, y.astype(np.int32)

    return rows


def _digits(n_rows: int, seed: int) -> Rows:
    digits = load_digits()
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(digits.target)) for _ in range(_DIGITS_EPOCHS)]
    order = np.concatenate(orders)[:n_rows]
    return _arrays(digits.data[order], digits.target[order])


def _of_river(make: Callable[[int], Any]) -> Callable[[int, int], Rows]:
    def rows(n_rows: int, seed: int) -> Rows:
        return _taken(make(seed), n_rows)

    return rows


def _drifting(
    before: Callable[[int], Any], after: Callable[[int], Any]
) -> Callable[[int, int], Rows]:
    """Return rows of one stream, then, from the middle on, of another."""

    def rows(n_rows: int, seed: int) -> Rows:
        stream = synth.ConceptDriftStream(
            before(seed), after(seed + 100), seed=seed, position=n_rows // 2, width=500
        )
        return _taken(stream, n_rows)

    return rows


def _taken(stream: Any, n_rows: int) -> Rows:
    pairs = list(stream.take(n_rows))
    # The two streams of a drift may name their features in different orders.
    names = list(pairs[0][0])
    return _arrays([[x[name] for name in names] for x, _ in pairs], [y for _, y in pairs])


def _arrays(X: Any, y: Any) -> Rows:
    _, codes = np.unique(np.asarray(y), return_inverse=True)
    return np.asarray(X, np.float32), codes.astype(np.int32)


STREAMS: dict[str, Callable[[int, int], Rows]] = {
    "electricity": _electricity,
    **{name: _of_the_paper(name) for name in PAPER_STREAMS},
    "digits": _digits,
    "agrawal": _of_river(
        lambda s: synth.Agrawal(classification_function=6, seed=s, perturbation=0.05)
    ),
    "agrawal, drift": _drifting(
        lambda s: synth.Agrawal(classification_function=1, seed=s),
        lambda s: synth.Agrawal(classification_function=4, seed=s),
    ),
    "hyperplane, drift": _of_river(
        lambda s: synth.Hyperplane(
            seed=s, n_features=20, n_drift_features=10, mag_change=0.001, noise_percentage=0.05
        )
    ),
    "rbf": _of_river(
        lambda s: synth.RandomRBF(
            seed_model=s, seed_sample=s, n_classes=4, n_features=10, n_centroids=50
        )
    ),
    "rbf, drift": _of_river(
        lambda s: synth.RandomRBFDrift(
            seed_model=s,
            seed_sample=s,
            n_classes=4,
            n_features=10,
            n_centroids=50,
            change_speed=0.001,
            n_drift_centroids=50,
        )
    ),
    "led, drift": _drifting(
        lambda s: synth.LED(seed=s, noise_percentage=0.1, irrelevant_features=True),
        lambda s: synth.LEDDrift(
            seed=s, noise_percentage=0.1, irrelevant_features=True, n_drift_features=7
        ),
    ),
    "waveform": _of_river(lambda s: synth.Waveform(seed=s, has_noise=True)),
    "random tree": _of_river(
        lambda s: synth.RandomTree(
            seed_tree=s,
            seed_sample=s,
            n_classes=3,
            n_num_features=10,
            n_cat_features=2,
            n_categories_per_feature=3,
        )
    ),
    "sea, drift": _drifting(
        lambda s: synth.SEA(variant=0, seed=s, noise=0.1),
        lambda s: synth.SEA(variant=2, seed=s, noise=0.1),
    ),
    "sine, drift": _drifting(
        lambda s: synth.Sine(classification_function=0, seed=s, has_noise=True),
        lambda s: synth.Sine(classification_function=1, seed=s, has_noise=True),
    ),
}
"""Each gives (X, y) of at most so many rows by a seed: X of shape (n, D), float32, y of (n,)."""
