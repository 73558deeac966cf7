"""The synthetic streams of the HBP paper: Syn8, CD1 and CD2.

D. Sahoo, Q. Pham, J. Lu, S. C. H. Hoi, "Online Deep Learning: Learning Deep
Neural Networks on the Fly", IJCAI 2018, section 4.1: labels come from random
deep networks; a stream with drift follows one such concept, then another, a third of the
rows each. The paper says neither how weights are drawn nor where classes part: here they
are drawn so that activations keep their scale, and classes part at the median.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

_ROWS_PER_BLOCK = 8192
_THRESHOLD_SAMPLE = 10_000


class RandomNetworkConcept:
    """A two-class concept: the sign of a random ReLU network's output around its median.

    Parameters
    ----------
    n_features
    depth, width
        Number of hidden layers and of units in each; the paper's Syn8 has 8 of 100.
    rng
        Draws the weights, and the rows that the median is taken over.
    """

    def __init__(self, n_features: int, depth: int, width: int, rng: np.random.Generator) -> None:
        sizes = [n_features] + [width] * depth + [1]
        self._kernels = [
            rng.normal(scale=np.sqrt(2 / inputs), size=(inputs, outputs))
            for inputs, outputs in itertools.pairwise(sizes)
        ]
        self._threshold = 0.0
        sample = rng.normal(size=(_THRESHOLD_SAMPLE, n_features))
        self._threshold = float(np.median(self._score(sample)))

    def labels(self, X: np.ndarray) -> np.ndarray:
        """Return the class, 0 or 1, of rows of shape (n, n_features)."""
        return (self._score(X) > self._threshold).astype(np.int8)

    def _score(self, X: np.ndarray) -> np.ndarray:
        for kernel in self._kernels[:-1]:
            X = np.maximum(X @ kernel, 0)
        return (X @ self._kernels[-1])[:, 0]


@dataclass(frozen=True)
class Concepts:
    """The concepts that label a stream.

    Attributes
    ----------
    depths
        Hidden layers of each concept's network.
    order
        The concept, by its place in ``depths``, of each equal part of the stream.
    """

    depths: tuple[int, ...]
    order: tuple[int, ...]


PAPER_STREAMS = {
    "syn8": Concepts(depths=(8,), order=(0,)),
    "cd1": Concepts(depths=(8, 8), order=(0, 1, 0)),
    "cd2": Concepts(depths=(8, 6, 8), order=(0, 1, 2)),
}


def drift_points(n_rows: int) -> list[int]:
    """Return the rows, counted from 0, at which the concept of CD1 and CD2 changes."""
    return [n_rows // 3, 2 * n_rows // 3]


def stream_blocks(
    name: str, n_rows: int, n_features: int = 50, width: int = 100, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks (X, y) of one of ``PAPER_STREAMS``.

    Yields
    ------
    X : ndarray, shape (n, n_features), float32, standard normal
    y : ndarray, shape (n,), int8
    """
    stream = PAPER_STREAMS[name]
    rng = np.random.default_rng(seed)
    concepts = [RandomNetworkConcept(n_features, depth, width, rng) for depth in stream.depths]
    parts = len(stream.order)
    edges = [n_rows * part // parts for part in range(parts + 1)]
    for concept, (start, end) in zip(stream.order, itertools.pairwise(edges), strict=True):
        for block in range(start, end, _ROWS_PER_BLOCK):
            X = rng.normal(size=(min(_ROWS_PER_BLOCK, end - block), n_features))
            X = X.astype(np.float32)
            yield X, concepts[concept].labels(X)


def write_cd1(path: str | Path, n_rows: int, n_features: int = 50, seed: int = 0) -> None:
    """Write a CD1 stream as CSV with columns ``x0..``, ``label``."""
    fields = [(f"x{i}", pa.float32()) for i in range(n_features)] + [("label", pa.int8())]
    schema = pa.schema(fields)
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for X, y in stream_blocks("cd1", n_rows, n_features, seed=seed):
            columns = [pa.array(column) for column in X.T] + [pa.array(y)]
            writer.write_table(pa.table(columns, schema=schema))
