"""What learning a row costs, beside the same update in C: ``python -m tests.bench.learner``.

The network alone is what is in C; the default, with its experts, is told as a multiple of that.

Both learn the same rows by turns, on one core, so that each ratio is of one time and one
machine. Told are the medians, in microseconds a row, and by how much the two's
probabilities differ, in the median: a unit so near 0 that rounding decides whether it fires
sets them apart.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.config.variants import DEFAULT_VARIANT
from app.model import HBPClassifier
from app.model.backend import use_one_thread
from tests.bench.figures import tell
from tests.bench.turns import by_turns, keep_to_one_core
from tests.bench.yardstick import Yardstick, compiled

SIZES = ((20, 100), (4, 32), (8, 64), (20, 256))
"""Hidden layers and units; the paper's first."""

N_FEATURES, N_CLASSES = 28, 2
UPDATE_BATCH_SIZE = 32

_CHECKED_ROWS = 200


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return rows whose label needs more than a linear model."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(np.int32)


def model(n_layers: int, n_units: int, **options: Any) -> HBPClassifier:
    """Return the network alone, which is what the yardstick learns, unless told otherwise."""
    sizes = {"n_hidden_layers": n_layers, "n_hidden_units": n_units}
    return HBPClassifier(N_FEATURES, N_CLASSES, **{"variant": "fast"} | sizes | options)


def microseconds_a_row(
    learners: list[Callable[[np.ndarray, np.ndarray], object]], n: int, rounds: int
) -> np.ndarray:
    """Return each learner's time a row, shape (rounds, n_learners); they take turns."""
    X, y = rows(n)
    return 1e6 / n * by_turns([partial(learn, X, y) for learn in learners], rounds)


def _tell_experts(n: int, rounds: int) -> None:
    """Tell what the default costs beside the network alone, of the paper's size."""
    models = [model(*SIZES[0], variant=DEFAULT_VARIANT, n_trees=trees) for trees in (None, 0)]
    learn = [each.partial_fit for each in (model(*SIZES[0]), *models)]
    times = microseconds_a_row(learn, n, rounds)
    for place, what, limit in ((1, "with trees", "<= 2.5"), (2, "without trees", "<= 1.5")):
        ratio = np.median(times[:, place] / times[:, 0])
        us = f"{np.median(times[:, place]):.1f} us, alone {np.median(times[:, 0]):.1f}"
        tell(f"learning a row, {what}: times the network alone", ratio, limit, us)
        print(f"the default {what} takes {ratio:.2f} times the network alone")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.learner", description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    keep_to_one_core()
    use_one_thread()
    with tempfile.TemporaryDirectory() as directory:
        library = compiled(Path(directory))
    if library is None:
        print("no C compiler is here, so there is nothing to compare with")
        return
    print(f"{'layers x units':<16} {'C us':>8} {'learner us':>11} {'ratio':>7} {'differs by':>11}")
    X, y = rows(_CHECKED_ROWS)
    for size in SIZES:
        learner = model(*size)
        yardstick = Yardstick(library, learner.config, learner.get_state())
        apart = np.median(np.abs(learner.partial_fit(X, y) - yardstick.partial_fit(X, y)))
        n = max(512, options.rows * 20 * 100 // (size[0] * size[1]) // 4)
        times = microseconds_a_row([yardstick.partial_fit, learner.partial_fit], n, options.rounds)
        c, ours = np.median(times, axis=0)
        ratio = np.median(times[:, 1] / times[:, 0])
        print(f"{size[0]:>3} x {size[1]:<10} {c:>8.1f} {ours:>11.1f} {ratio:>7.2f} {apart:>11.1e}")
        limit = "<= 2.0" if size == SIZES[0] else "<= 2.5"
        what = f"learning a row, {size[0]} x {size[1]}: times the same in C"
        tell(what, ratio, limit, f"{ours:.1f} us, in C {c:.1f}")
    _tell_experts(options.rows, options.rounds)
    one, many = model(*SIZES[0]), model(*SIZES[0], update_batch_size=UPDATE_BATCH_SIZE)
    times = microseconds_a_row([one.partial_fit, many.partial_fit], options.rows, options.rounds)
    gain = np.median(times[:, 0] / times[:, 1])
    tell(
        f"rows a second by updates of {UPDATE_BATCH_SIZE}: times those by updates of 1",
        gain,
        ">= 5.0",
        f"{np.median(times[:, 1]):.1f} us a row, by updates of 1 {np.median(times[:, 0]):.1f}",
    )
    print(f"updates of {UPDATE_BATCH_SIZE} rows learn {gain:.1f} times as many rows a second")


if __name__ == "__main__":
    main()
