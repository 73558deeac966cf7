"""The paper's streams: ``python -m tests.bench.paper --rows 1000000 --output paper``.

Syn8, CD1 and CD2 are learned by Hedge Backpropagation, as published and with this
project's defaults, and by online backpropagation in networks of fixed depth. Written are a
table of final cumulative errors, and two figures: the error over rows, and alpha over depth
in the first 0.5 %, in 10 to 15 % and in 60 to 80 % of the rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from app.model import HBPClassifier
from app.synthetic import PAPER_STREAMS, drift_points, stream_blocks
from tests.bench.prequential import Course, cores, fixed_depth, in_processes, learn

DEPTHS = (2, 3, 4, 8, 16, 20)
N_FEATURES = 50
HEDGED = {"HBP, as published": {"variant": "paper"}, "HBP, default": {}}
LEARNERS = HEDGED | {f"BP, {depth} layers": fixed_depth(depth) for depth in DEPTHS}
PERIODS = {"first 0.5 %": (0.0, 0.005), "10-15 %": (0.10, 0.15), "60-80 %": (0.60, 0.80)}


def course(stream: str, learner: str, n_rows: int, seed: int) -> Course:
    """Learn a stream as one of ``LEARNERS``."""
    model = HBPClassifier(N_FEATURES, 2, seed=seed, **LEARNERS[learner])
    return learn(model, stream_blocks(stream, n_rows, N_FEATURES, seed=seed))


def table(courses: dict[str, dict[str, Course]]) -> str:
    """Return the final cumulative errors in percent, as Markdown."""
    lines = ["| learner | " + " | ".join(courses) + " |", "| --- |" + " --- |" * len(courses)]
    for learner in next(iter(courses.values())):
        errors = (100 * courses[stream][learner].error for stream in courses)
        lines.append(f"| {learner} | " + " | ".join(f"{error:.2f}" for error in errors) + " |")
    return "\n".join(lines) + "\n"


def verdicts(courses: dict[str, dict[str, Course]]) -> list[str]:
    """Tell for each stream whether a hedged network is at or below every fixed depth."""
    told = []
    for stream, of in courses.items():
        best = min((name for name in of if name not in HEDGED), key=lambda name: of[name].error)
        for name in [name for name in HEDGED if name in of]:
            apart = 100 * (of[name].error - of[best].error)
            word = "at or below" if apart <= 0 else "above"
            told.append(f"{stream}: {name} is {word} the best fixed depth ({best}): {apart:+.2f}")
    return told


def _panels(n: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(5 * n, 4), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(1, n))


def draw_errors(courses: dict[str, dict[str, Course]]) -> Figure:
    figure, places = _panels(len(courses))
    for axes, (stream, of) in zip(places, courses.items(), strict=True):
        for name, course in of.items():
            width = 2 if name in HEDGED else 1
            errors = np.cumsum(course.mistakes) / course.rows
            axes.plot(course.rows, errors, label=name, linewidth=width)
        if len(PAPER_STREAMS[stream].order) > 1:
            for row in drift_points(int(course.rows[-1])):
                axes.axvline(row, color="grey", linestyle="--", linewidth=1)
        axes.set(title=stream, xlabel="rows", ylabel="cumulative error")
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure


def draw_alpha(courses: dict[str, dict[str, Course]], learner: str) -> Figure:
    figure, places = _panels(len(courses))
    for axes, (stream, of) in zip(places, courses.items(), strict=True):
        course = of[learner]
        share = course.rows / course.rows[-1]
        heads = np.arange(course.alpha.shape[1])
        for place, (name, (start, end)) in enumerate(PERIODS.items()):
            # The first block that ends after the period began stands for one that is shorter.
            inside = (share > start) & (share <= max(end, share[share > start][0]))
            mean = course.alpha[inside].mean(axis=0)
            axes.bar(heads + 0.27 * (place - 1), mean, width=0.27, label=name)
        axes.set(title=stream, xlabel="head, shallow to deep", ylabel="alpha")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _depth(learner: str) -> int:
    return int(LEARNERS[learner].get("n_hidden_layers", 99))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.paper", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("paper"))
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=[*LEARNERS])
    parser.add_argument("--processes", type=int, default=cores())
    options = parser.parse_args()
    # The longest first, so that the last process does not work alone.
    jobs = [
        (stream, learner, options.rows, options.seed)
        for learner in sorted(options.learners, key=_depth)
        for stream in PAPER_STREAMS
    ][::-1]
    done = dict(zip(jobs, in_processes(course, jobs, options.processes), strict=True))
    courses = {
        stream: {name: done[stream, name, options.rows, options.seed] for name in options.learners}
        for stream in PAPER_STREAMS
    }
    options.output.mkdir(parents=True, exist_ok=True)
    written = f"{table(courses)}\n" + "\n".join(verdicts(courses)) + "\n"
    title = f"Final cumulative error in percent, {options.rows:,} rows, seed {options.seed}."
    (options.output / "table.md").write_text(f"{title}\n\n{written}")
    draw_errors(courses).savefig(options.output / "error.png", dpi=130)
    if "HBP, as published" in options.learners:
        draw_alpha(courses, "HBP, as published").savefig(options.output / "alpha.png", dpi=130)
    print(written)
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
