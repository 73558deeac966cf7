"""The figures that benchmarks give, gathered from several processes into one table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_GATHERED_IN = "BENCH_FIGURES"


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    what : str
    value : float
        Usually a ratio of two things measured in one run.
    limit : str
        The target, as ``<= 2.0`` or ``>= 0.8``.
    absolute : str
        What the ratio is of, in units.
    """

    what: str
    value: float
    limit: str
    absolute: str

    @property
    def is_met(self) -> bool:
        """Whether the value is within the limit."""
        relation, bound = self.limit.split()
        return self.value <= float(bound) if relation == "<=" else self.value >= float(bound)


def tell(what: str, value: float, limit: str, absolute: str) -> None:
    """Add a figure to those gathered, if somebody gathers them."""
    if path := os.environ.get(_GATHERED_IN):
        with open(path, "a") as file:
            file.write(json.dumps(asdict(Figure(what, float(value), limit, absolute))) + "\n")


def environment(path: Path) -> dict[str, str]:
    """Return the environment of a process whose figures are gathered in a file."""
    return os.environ | {_GATHERED_IN: str(path)}


def gathered(path: Path) -> list[Figure]:
    """Return the figures in a file, in the order in which they were told."""
    return [Figure(**json.loads(line)) for line in path.read_text().splitlines()]


def table(figures: Iterable[Figure]) -> str:
    """Return one line for each figure."""
    lines = [f"{'':<58} {'figure':>8}  {'target':<9} {'':<7} absolute"]
    for figure in figures:
        verdict = "met" if figure.is_met else "MISSED"
        lines.append(
            f"{figure.what:<58} {figure.value:>8.3g}  {figure.limit:<9} {verdict:<7} "
            f"{figure.absolute}"
        )
    return "\n".join(lines)
