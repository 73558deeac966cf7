"""What odd rows do to a model: ``python -m tests.bench.robust``.

Rows of ten columns with a linear label are spoilt in one way each, and learned by the defaults and
by the network alone (``--variant fast``). Told are the errors of the whole stream, of its first and
of its last tenth, what a guess of the commoner class would make, and what the defaults had to guard
against. Of rare classes, told is the share that was recognised once twenty examples were learned.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from app.model import HBPClassifier
from tests.bench.streams import Rows

N_COLUMNS = 10
LEARNERS: dict[str, dict[str, Any]] = {"default": {}, "fast": {"variant": "fast"}}
AS_MISSING = {"imputes": True, "indicators": tuple(range(N_COLUMNS))}

Case = Callable[[np.ndarray, np.ndarray, np.random.Generator], Rows]
"""Takes clean rows, the weights of their label, and a generator; returns the case's rows."""


def _label(X: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (X @ w > 0).astype(np.int32)


def _from_the_middle(change: Callable[[np.ndarray], np.ndarray]) -> Case:
    def case(X: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Rows:
        half = len(X) // 2
        return np.concatenate([X[:half], change(X[half:])]), _label(X, w)

    return case


def _of(draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]) -> Case:
    def case(X: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Rows:
        drawn = draw(rng, X.shape)
        return drawn, _label(drawn, w)

    return case


def _one_row(X: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Rows:
    spoilt = X.copy()
    spoilt[len(X) // 4] = 1e6
    return spoilt, _label(X, w)


def _coded(mark: float) -> Case:
    def case(X: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Rows:
        return np.where(rng.random(X.shape) < 0.1, mark, X), _label(X, w)

    return case


def _flipped(X: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Rows:
    y = _label(X, w)
    return X, np.where(rng.random(len(y)) < 0.3, 1 - y, y).astype(np.int32)


CASES: dict[str, Case] = {
    "clean": lambda X, w, rng: (X, _label(X, w)),
    "one row of 1e6": _one_row,
    "+ 1000 from the middle on": _from_the_middle(lambda X: X + 1000),
    "/ 1000 from the middle on": _from_the_middle(lambda X: X / 1000),
    "* 1000 from the middle on": _from_the_middle(lambda X: X * 1000),
    "Cauchy": _of(lambda rng, shape: rng.standard_cauchy(shape)),
    "log-normal, sigma 3": _of(lambda rng, shape: rng.lognormal(0, 3, shape)),
    "a tenth coded -999": _coded(-999.0),
    "a tenth missing": _coded(np.nan),
    "30 % of labels flipped": _flipped,
    "pure noise": lambda X, w, rng: (X, rng.integers(0, 2, len(X)).astype(np.int32)),
}


def _apart(by: float) -> Case:
    """Return rows of which one in 1,000 is moved along the weights, to a class of its own."""

    def case(X: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Rows:
        rare = np.zeros(len(X), np.int32)
        rare[rng.permutation(len(X))[: len(X) // 1000]] = 1
        return X + by * np.outer(rare, w / np.linalg.norm(w)), rare

    return case


def _gap(X: np.ndarray, w: np.ndarray, rng: np.random.Generator) -> Rows:
    """Return rows of which those far out along the weights are a class, beyond a gap."""
    unit = w / np.linalg.norm(w)
    out = X @ unit
    rare = (out > np.quantile(out, 0.999)).astype(np.int32)
    return X + np.outer(1.5 * rare - (out > 2.5) * (1 - rare), unit), rare


RARE: dict[str, Case] = {"5 deviations apart": _apart(5.0), "beyond a gap": _gap}


def rows_of(case: Case, n_rows: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    w, X = rng.normal(size=N_COLUMNS), rng.normal(size=(n_rows, N_COLUMNS))
    return case(X, w, rng)


def learned(rows: Rows, seed: int, **options: Any) -> tuple[np.ndarray, dict[str, int]]:
    """Return which rows were predicted right before they were learned, and what was met."""
    X, y = rows
    if np.isnan(X).any():
        options = options | AS_MISSING
    model = HBPClassifier(N_COLUMNS, 2, seed=seed, **options)
    return model.partial_fit(X, y).argmax(axis=1) == y, model.met


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.robust", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| case | default | first, last tenth | fast | no skill | met |\n|" + " --- |" * 6)
    for name, case in CASES.items():
        rows = rows_of(case, options.rows, options.seed)
        found = {of: learned(rows, options.seed, **how) for of, how in LEARNERS.items()}
        right, met = found["default"]
        tenths = [100 * (1 - part.mean()) for part in np.array_split(right, 10)]
        no_skill = 100 * min(rows[1].mean(), 1 - rows[1].mean())
        told = ", ".join(f"{what} {n}" for what, n in met.items() if n)
        print(
            f"| {name} | {100 * (1 - right.mean()):.2f} | {tenths[0]:.1f}, {tenths[-1]:.1f} "
            f"| {100 * (1 - found['fast'][0].mean()):.2f} | {no_skill:.1f} | {told} |",
            flush=True,
        )
    print("\n| one in 1,000 | recall | balanced | fast |\n|" + " --- |" * 4)
    how = {"default": {}, "balanced": {"class_weight": "balanced"}, "fast": LEARNERS["fast"]}
    for name, case in RARE.items():
        rows = rows_of(case, 3 * options.rows, options.seed)
        late = np.flatnonzero(rows[1] == 1)[20:]
        found = {of: learned(rows, options.seed, **each)[0] for of, each in how.items()}
        cells = " | ".join(f"{100 * right[late].mean():.0f} %" for right in found.values())
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
