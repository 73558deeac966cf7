"""How well the defaults learn unlike streams: ``python -m tests.bench.quality``.

Told are, for each stream, the mean over seeds of the error of what was served: of the default
settings, of the network alone (``--variant fast``), of online backpropagation in networks of fixed
depth, of forests, MOA's where CapyMOA is installed, of the label that is known last ("no
change"), and of the commonest ("majority"); and Cohen's kappa of the default against no change
(I. Zliobaite et al., "Evaluation methods and decision theory for classification of streaming data
with temporal dependence", Machine Learning 98, 2015), which is 0 for what is no better and 1 for no
error. With ``--late K``, labels come when K rows were served, and the default has that horizon.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator

import numpy as np

from tests.bench.learners import FIXED, FORESTS, LEARNERS, Served
from tests.bench.prequential import cores, in_processes
from tests.bench.streams import ALL, ELECTRICITY, UNSEEN

COLUMNS = ("default", "fast", *FORESTS, "no change", "majority")


def served(stream: str, learner: str, late: int, seed: int, n_rows: int) -> Served:
    return LEARNERS[learner](ALL[stream](n_rows, seed), late, seed)


def means(found: Iterable[Served]) -> Served:
    rows = [(each.error, each.log_loss, each.microseconds) for each in found]
    return Served(*np.mean(rows, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.quality", description=__doc__)
    parser.add_argument("--rows", type=int, default=45_312)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--late", type=int, nargs="+", default=[0, 500, 5000])
    parser.add_argument("--streams", nargs="+", choices=ALL, default=[*ALL], metavar="NAME")
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=[*LEARNERS])
    parser.add_argument("--processes", type=int, default=cores())
    options = parser.parse_args()
    streams = [name for name in options.streams if name != "electricity" or ELECTRICITY.exists()]
    if len(streams) < len(options.streams):
        print(f"left out: electricity, which is not at {ELECTRICITY}", file=sys.stderr)
    for late in options.late:
        jobs = [
            (stream, learner, late, seed, options.rows)
            for stream in streams
            for learner in options.learners
            for seed in range(options.seeds)
        ]
        done = in_processes(served, jobs, options.processes)
        print(f"\nlabels {late} rows late" if late else "\nlabels at once")
        _table(streams, options.learners, done, options.seeds)


def _table(streams: list[str], learners: list[str], done: Iterator[Served], n_seeds: int) -> None:
    """Print a line for each stream as soon as all of it has come."""
    columns = [name for name in COLUMNS if name in learners]
    fixed = [name for name in FIXED if name in learners]
    rivals = [*fixed, *(name for name in FORESTS if name in learners)]
    titles = ["stream", *columns, "best fixed depth", "kappa", "log loss", "us"]
    print("| " + " | ".join(titles) + " |\n|" + " --- |" * len(titles), flush=True)
    above = []
    for stream in streams:
        of = {name: means(itertools.islice(done, n_seeds)) for name in learners}
        cells = [f"{100 * of[name].error:.2f}" for name in columns]
        best = min(fixed, key=lambda name: of[name].error, default=None)
        cells.append(f"{100 * of[best].error:.2f} ({best})" if best else "")
        if {"default", "no change"} <= of.keys():
            cells.append(f"{1 - of['default'].error / max(of['no change'].error, 1e-9):.2f}")
            cells.append(f"{of['default'].log_loss:.3f}")
            cells.append(f"{of['default'].microseconds:.0f}")
        mark = " *" if stream in UNSEEN else ""
        print(f"| {stream}{mark} | " + " | ".join(cells) + " |", flush=True)
        better = [name for name in rivals if of[name].error < of["default"].error]
        if better:
            above.append(f"{stream} ({', '.join(better)})")
    print(f"\nabove a rival on {len(above)} of {len(streams)}: " + ("; ".join(above) or "none"))
    print("* nobody had looked at it when the defaults were chosen")


if __name__ == "__main__":
    main()
