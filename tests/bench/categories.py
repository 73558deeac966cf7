"""What learning a row with categories costs: ``python -m tests.bench.categories``.

Models of 40 numbers and of 20 numbers and 20 categories learn rows by turns, on one core, with ever
more categories a column: the cost is to grow with the columns, not with what they hold.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from app.config.model import ModelConfig
from app.model import HBPClassifier
from app.model.backend import use_one_thread
from tests.bench.figures import tell
from tests.bench.learner import SIZES
from tests.bench.turns import by_turns, keep_to_one_core

N_NUMBERS, N_CATEGORICAL = 20, 20
CATEGORIES = (2, 100, 1000)
"""How many each column has: 40, 2,000 and 20,000 slots in all."""

_LIMIT = 1.5


def rows(n: int, n_categories: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of as many columns whether there are categories or not, and labels."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, N_NUMBERS + N_CATEGORICAL))
    y = X[:, 0] * X[:, 1] > 0
    if n_categories:
        X[:, N_NUMBERS:] = rng.integers(0, n_categories, (n, N_CATEGORICAL))
        y ^= X[:, -1] < n_categories / 2
    return X, y.astype(np.int32)


def model(size: tuple[int, int], n_categories: int) -> HBPClassifier:
    slots = (0,) * N_NUMBERS + (n_categories,) * N_CATEGORICAL
    config = ModelConfig(
        n_features=N_NUMBERS + N_CATEGORICAL,
        n_classes=2,
        n_hidden_layers=size[0],
        n_hidden_units=size[1],
        category_slots=slots if n_categories else (),
    )
    return HBPClassifier.from_config(config)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.categories", description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_to_one_core()
    use_one_thread()
    for size in SIZES[:2]:
        cases = {n: (model(size, n), *rows(options.rows, n)) for n in (0, *CATEGORIES)}
        calls = [partial(learner.partial_fit, X, y) for learner, X, y in cases.values()]
        times = 1e6 / options.rows * by_turns(calls, options.rounds)
        numbers = np.median(times[:, 0])
        for place, n_categories in enumerate(CATEGORIES, 1):
            taken = np.median(times[:, place])
            ratio = np.median(times[:, place] / times[:, 0])
            n_slots = n_categories * N_CATEGORICAL
            print(
                f"{size[0]} x {size[1]}: {N_NUMBERS} numbers and {N_CATEGORICAL} columns of "
                f"{n_categories:,} categories {taken:.1f} us a row, {N_NUMBERS + N_CATEGORICAL} "
                f"numbers {numbers:.1f}: {ratio:.2f}",
                flush=True,
            )
            tell(
                f"20 numbers and {n_slots:,} slots, {size[0]} x {size[1]}: times 40 numbers",
                ratio,
                f"<= {_LIMIT}",
                f"{taken:.1f} us, 40 numbers {numbers:.1f}",
            )


if __name__ == "__main__":
    main()
