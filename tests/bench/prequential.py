"""A stream learned row by row: how often its rows were mistaken before they were learned."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np

from app.model import HBPClassifier
from app.model.backend import use_one_thread
from app.model.columns import as_rows
from app.model.forward.network import dead_layers

Blocks = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Course:
    """How learning a stream went.

    Attributes
    ----------
    rows : ndarray of int, shape (n_blocks,)
        Rows learned after each block.
    mistakes : ndarray of int, shape (n_blocks,)
        Rows of each block whose class was not the most probable before they were learned.
    alpha : ndarray, shape (n_blocks, n_heads)
        After each block.
    finite : bool
        Whether the final state holds no NaN and no infinity.
    dead_layers : tuple of int
        Hidden layers of which no unit fired in the last rows.
    """

    rows: np.ndarray
    mistakes: np.ndarray
    alpha: np.ndarray
    finite: bool
    dead_layers: tuple[int, ...]

    @property
    def error(self) -> float:
        """Mistakes by rows, of the whole stream."""
        return float(self.mistakes.sum() / self.rows[-1])


def is_right(probabilities: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return whose label is the most probable. A NaN is no probability, so it is a mistake."""
    right: np.ndarray = probabilities.argmax(axis=1) == y
    return right & np.isfinite(probabilities).all(axis=1)


def learn(model: HBPClassifier, blocks: Blocks) -> Course:
    """Learn a stream with a new model."""
    rows, mistakes, alpha = [], [], []
    for X, y in blocks:
        right = is_right(model.partial_fit(X, y), y)
        rows.append(len(y))
        mistakes.append(int((~right).sum()))
        alpha.append(model.alpha)
    return Course(
        np.cumsum(rows),
        np.array(mistakes),
        np.array(alpha),
        all(np.isfinite(array).all() for array in model.get_state().values()),
        dead_layers(model.get_state(), as_rows(X[-256:], model.config), model.config),
    )


def in_processes(task: Any, jobs: Iterable[tuple], processes: int) -> Iterator[Any]:
    """Yield ``task(*job)`` of each job, in order, computed in several processes.

    Each is given one core.
    """
    jobs = list(jobs)
    with ProcessPoolExecutor(
        min(processes, len(jobs)), get_context("spawn"), initializer=use_one_thread
    ) as pool:
        yield from pool.map(task, *zip(*jobs, strict=True))


def cores() -> int:
    return len(os.sched_getaffinity(0))


def fixed_depth(n_layers: int) -> Mapping[str, Any]:
    """Return the options of online backpropagation in a network of that depth."""
    return {"variant": "backprop", "n_hidden_layers": n_layers}
