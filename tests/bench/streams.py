"""Unlike streams to judge a learner's defaults by: with and without drift, easy and hard."""

from __future__ import annotations

import csv
import itertools
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from river import datasets
from river.datasets import synth
from sklearn import datasets as samples

from app.synthetic import PAPER_STREAMS, stream_blocks

ELECTRICITY = Path(__file__).resolve().parents[3] / "shared" / "data" / "electricity.csv"

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


def _in_epochs(load: Callable[[], Any], n_epochs: int) -> Callable[[int, int], Rows]:
    """Return a set of scikit-learn's several times over, each time in another order."""

    def rows(n_rows: int, seed: int) -> Rows:
        found, rng = load(), np.random.default_rng(seed)
        orders = [rng.permutation(len(found.target)) for _ in range(n_epochs)]
        order = np.concatenate(orders)[:n_rows]
        return _arrays(found.data[order], found.target[order])

    return rows


def _made(make: Callable[..., Rows], **options: Any) -> Callable[[int, int], Rows]:
    """Return rows that scikit-learn makes."""

    def rows(n_rows: int, seed: int) -> Rows:
        return _arrays(*make(n_samples=n_rows, random_state=seed, shuffle=True, **options))

    return rows


def _as_it_is(make: Callable[[], Any]) -> Callable[[int, int], Rows]:
    """Return a set of River's in its own order, whatever the seed."""
    return lambda n_rows, seed: _taken(make(), n_rows)


def _of_river(make: Callable[[int], Any]) -> Callable[[int, int], Rows]:
    def rows(n_rows: int, seed: int) -> Rows:
        return _taken(make(seed), n_rows)

    return rows


def _drifting(
    before: Callable[[int], Any], after: Callable[[int], Any]
) -> Callable[[int, int], Rows]:
    """Return rows of one stream, then, from the middle on, of another."""

    def rows(n_rows: int, seed: int) -> Rows:
        stream = _from_one_to_another(before(seed), after(seed + 100), seed, n_rows // 2)
        return _taken(stream, n_rows)

    return rows


def _from_one_to_another(
    before: Any, after: Any, seed: int, position: int, width: int = 500
) -> Iterator[tuple[dict, Any]]:
    """Yield what River's ConceptDriftStream does, which overflows beyond some 177,000 rows."""
    rng, first, second = random.Random(seed), iter(before), iter(after)
    for row in itertools.count(1):
        share = 1 / (1 + math.exp(min(-4 * (row - position) / width, 700)))
        yield next(first if rng.random() > share else second)


def _taken(stream: Any, n_rows: int) -> Rows:
    pairs = list(itertools.islice(stream, n_rows))
    # The two streams of a drift may name their features in different orders.
    names = list(pairs[0][0])
    return _arrays([[x[name] for name in names] for x, _ in pairs], [y for _, y in pairs])


def _arrays(X: Any, y: Any) -> Rows:
    _, codes = np.unique(np.asarray(y), return_inverse=True)
    return np.asarray(X, np.float32), codes.astype(np.int32)


STREAMS: dict[str, Callable[[int, int], Rows]] = {
    "electricity": _electricity,
    **{name: _of_the_paper(name) for name in PAPER_STREAMS},
    "digits": _in_epochs(samples.load_digits, 8),
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

REAL: dict[str, Callable[[int, int], Rows]] = {
    "image segments": _as_it_is(datasets.ImageSegments),
    "bananas": _as_it_is(datasets.Bananas),
    "phishing": _as_it_is(datasets.Phishing),
    "shuttle": _as_it_is(datasets.Shuttle),
}
"""Small sets as they are. With ``STREAMS``, the defaults were chosen by them."""

UNSEEN: dict[str, Callable[[int, int], Rows]] = {
    "stagger, drift": _drifting(
        lambda s: synth.STAGGER(classification_function=0, seed=s),
        lambda s: synth.STAGGER(classification_function=2, seed=s),
    ),
    "mixed, drift": _drifting(
        lambda s: synth.Mixed(classification_function=0, seed=s),
        lambda s: synth.Mixed(classification_function=1, seed=s),
    ),
    "agrawal 2 to 8": _drifting(
        lambda s: synth.Agrawal(classification_function=2, seed=s, perturbation=0.05),
        lambda s: synth.Agrawal(classification_function=8, seed=s, perturbation=0.05),
    ),
    "sine 2 to 3": _drifting(
        lambda s: synth.Sine(classification_function=2, seed=s),
        lambda s: synth.Sine(classification_function=3, seed=s),
    ),
    "rbf, ten classes": _of_river(
        lambda s: synth.RandomRBF(
            seed_model=s + 7, seed_sample=s + 7, n_classes=10, n_features=20, n_centroids=100
        )
    ),
    "random tree, deep": _of_river(
        lambda s: synth.RandomTree(
            seed_tree=s + 7, seed_sample=s + 7, n_classes=2, n_num_features=5, n_cat_features=0,
            max_tree_depth=8, first_leaf_level=5,
        )
    ),
    "hastie": lambda n, seed: _arrays(*samples.make_hastie_10_2(n, random_state=seed)),
    "quantiles": _made(samples.make_gaussian_quantiles, n_features=10, n_classes=4),
    "clusters": _made(
        samples.make_classification, n_features=20, n_informative=8, n_classes=5,
        n_clusters_per_class=3, flip_y=0.05,
    ),
    "moons": _made(samples.make_moons, noise=0.2),
    "breast cancer": _in_epochs(samples.load_breast_cancer, 4),
    "wine": _in_epochs(samples.load_wine, 10),
}  # fmt: skip
"""Those that nobody had looked at when the defaults were chosen."""

ALL = STREAMS | REAL | UNSEEN
