"""How well the defaults learn unlike streams: ``python -m tests.bench.quality``.

Told are, for each stream, the mean over seeds of the prequential error of the default
settings, of online backpropagation in networks of fixed depth, and of predicting the label
that came last ("no change"); and Cohen's kappa against the latter (I. Zliobaite et al.,
"Evaluation methods and decision theory for classification of streaming data with temporal
dependence", Machine Learning 98, 2015), which is 0 for what is no better and 1 for no error.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from app.model import HBPClassifier
from tests.bench.prequential import Course, cores, fixed_depth, in_processes, learn
from tests.bench.streams import ELECTRICITY, STREAMS

DEPTHS = (1, 2, 3, 4, 8, 16, 20)
LEARNERS = {
    "default": {},
    "paper": {"variant": "paper"},
    **{f"BP {depth}": fixed_depth(depth) for depth in DEPTHS},
}


def courses(stream: str, seed: int, n_rows: int) -> tuple[dict[str, Course], float]:
    """Return the course of each learner, and the error of no change."""
    X, y = STREAMS[stream](n_rows, seed)
    found = {}
    for name, options in LEARNERS.items():
        model = HBPClassifier(X.shape[1], int(y.max()) + 1, seed=seed, **options)
        found[name] = learn(model, [(X, y)])
    return found, float((y[1:] != y[:-1]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.quality", description=__doc__)
    parser.add_argument("--rows", type=int, default=45_312)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=cores())
    options = parser.parse_args()
    streams = [name for name in STREAMS if name != "electricity" or ELECTRICITY.exists()]
    if len(streams) < len(STREAMS):
        print(f"left out: electricity, which is not at {ELECTRICITY}", file=sys.stderr)
    jobs = [(stream, seed, options.rows) for stream in streams for seed in range(options.seeds)]
    done = dict(zip(jobs, in_processes(courses, jobs, options.processes), strict=True))

    print(f"{'error, %':<18} {'default':>8} {'paper':>7} {'best fixed depth':>17} {'of 20':>7}"
          f" {'no change':>10} {'kappa':>6}")  # fmt: skip
    below, failed = 0, []
    for stream in streams:
        of_seeds = [done[stream, seed, options.rows] for seed in range(options.seeds)]
        error = {
            name: 100 * np.mean([found[name].error for found, _ in of_seeds]) for name in LEARNERS
        }
        no_change = 100 * np.mean([unchanged for _, unchanged in of_seeds])
        best = min((name for name in LEARNERS if name.startswith("BP")), key=error.__getitem__)
        kappa = 1 - error["default"] / no_change
        below += error["default"] <= error[best]
        for seed, (found, _) in enumerate(of_seeds):
            if not found["default"].finite:
                failed.append(f"{stream}, seed {seed}: diverged")
            elif found["default"].dead_layers:
                failed.append(f"{stream}, seed {seed}: dead {found['default'].dead_layers}")
        print(f"{stream:<18} {error['default']:>8.2f} {error['paper']:>7.2f} {error[best]:>10.2f}"
              f" ({best}) {error['BP 20']:>7.2f} {no_change:>10.2f} {kappa:>6.2f}")  # fmt: skip
    print(f"at or below the best fixed depth on {below} of {len(streams)} streams")
    print("diverged or died: " + ("; ".join(failed) or "no run"))


if __name__ == "__main__":
    main()
