"""A chunk of rows as the experts take it, and what they predict of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from app.config.model import ModelConfig
from app.model.columns import places_of
from app.model.engines.packed import Packed
from app.model.engines.rules import network_rule, resolved, shallow_rule
from app.model.kernels import forest, network, recursive, scaling, stack
from app.model.kernels.scaling import Moments, Places


class Rows(NamedTuple):
    """``z`` (n, N), ``active`` (n, A) and ``n_active`` (n,), int64, and ``trees`` (n, D)."""

    z: np.ndarray
    active: np.ndarray
    n_active: np.ndarray
    trees: np.ndarray


class Said(NamedTuple):
    """``experts`` (n, E, C), and ``losses`` (n, n_heads) of the network's heads."""

    experts: np.ndarray
    losses: np.ndarray


class Lesson(NamedTuple):
    """What the networks learn of a chunk of n rows.

    ``rows``, their inputs; ``y`` (n,); ``weights`` (n,), how much each counts; ``n_before``,
    rows learned before; ``n_learned``, rows to learn, of whole groups, the others are predicted;
    ``p_input`` (n, C) and ``input_losses`` (n,), of the recursive input head; ``hedged``
    (n or 0, n_heads), the losses that move alpha, if not the present ones.
    """

    rows: Rows
    y: np.ndarray
    weights: np.ndarray
    n_before: int
    n_learned: int
    p_input: np.ndarray
    input_losses: np.ndarray
    hedged: np.ndarray


class Networks(Protocol):
    """The networks of a model, compiled by an engine."""

    def take(self, packed: Packed) -> None:
        """Learn on from these arrays."""

    def give(self, packed: Packed) -> None:
        """Write what was learned to these arrays."""

    def compile(self) -> None:
        """Compile what learning no rows does not."""

    def learn(self, packed: Packed, lesson: Lesson) -> np.ndarray:
        """Learn with the hedged network; return its mixture before each group, shape (n, C).

        An input head that learns by gradient is written to ``lesson.p_input``.
        """

    def learn_shallow(self, packed: Packed, lesson: Lesson) -> np.ndarray:
        """Learn with the shallow network; return what it said before, shape (n, C)."""

    @property
    def alpha(self) -> np.ndarray:
        """Hedge weights, shape (n_heads,)."""

    @property
    def n_reset(self) -> int:
        """Layers of the hedged network that started over."""


class RowReader:
    """Makes the inputs of rows for one configuration."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._window = resolved(config.scaler_window)
        self._places = Places(**places_of(config))

    def learning(self, X: np.ndarray, moments: Moments, count: int) -> Rows:
        """Add rows to the moments, and return their inputs by the moments that include them."""
        config, rows = self._config, self._empty(len(X))
        scaling.standardize_rows(
            X, self._places, moments, count, self._window, config.standardize, *rows[:3]
        )
        return self._with_trees(X, moments, rows)

    def predicting(self, X: np.ndarray, moments: Moments, count: int) -> Rows:
        """Return the inputs of rows by moments, of so many rows, which stay as they are."""
        config, rows = self._config, self._empty(len(X))
        scaling.apply_moments(
            X, self._places, moments, count, self._window, config.standardize, *rows[:3]
        )
        return self._with_trees(X, moments, rows)

    def _empty(self, n: int) -> Rows:
        places, real = self._places, np.dtype(self._config.dtype)
        z = np.empty((n, len(places.numbers)), real)
        active = np.zeros((n, len(places.indicators) + len(places.categories)), np.int64)
        return Rows(z, active, np.zeros(n, np.int64), z)

    def _with_trees(self, X: np.ndarray, moments: Moments, rows: Rows) -> Rows:
        if not self._config.n_trees:
            return rows
        trees = np.empty(X.shape, rows.z.dtype)
        largest = float(np.finfo(trees.dtype).max)
        scaling.tree_rows(X, self._places, moments.origin, largest, trees)
        return rows._replace(trees=trees)


def random_inputs(rows: Rows, packed: Packed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random features of rows as a recursive head takes them: no other input is 1."""
    n = len(rows.z)
    features = np.empty((n, len(packed.random_bias)), rows.z.dtype)
    network.random_features(*rows[:3], packed.random_kernel, packed.random_bias, features)
    return features, np.zeros((n, 0), np.int64), np.zeros(n, np.int64)


class Predictor:
    """Predicts rows by a packed state."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._reader = RowReader(config)
        self._rule, self._shallow = network_rule(config), shallow_rule(config)

    def said(self, packed: Packed, count: int, X: np.ndarray, y: np.ndarray) -> Said:
        """Return what the experts say of rows, and the heads' losses for the labels.

        The state is of ``count`` rows; without stacking, the hedged network is the one expert.
        """
        config, rows = self._config, self._reader.predicting(X, packed.moments, count)
        n, C, real = len(X), config.n_classes, np.dtype(config.dtype)
        experts = np.empty((n, max(config.n_experts, 1), C), real)
        losses = np.empty((n, config.n_heads), real)
        inputs = rows[:3]
        p, loss, mixed = np.zeros((n, C), real), np.zeros(n, real), np.zeros((n, C), real)
        found = [mixed]
        if config.input_head == "recursive":
            recursive.predict_recursively(*inputs, y, packed.input_head, p, loss)
        network.predict_network(*inputs, y, packed.network, self._rule, p, loss, mixed, losses)
        if config.stacking and config.has_input_head:
            found.append(p)
        if config.n_random_features:
            q, on = np.zeros((n, C), real), random_inputs(rows, packed)
            recursive.predict_recursively(*on, y, packed.random_head, q, loss)
            found.append(q)
        if config.shallow_layers:
            q = np.zeros((n, C), real)
            network.predict_network(
                *inputs, y, packed.shallow, self._shallow, p, loss, q, np.zeros((n, 1), real)
            )
            found.append(q)
        for e, each in enumerate(found):
            experts[:, e] = each
        if config.n_trees:
            forest.predict_forest(
                rows.trees, config.n_numbers, config.n_careful_trees, packed.nodes,
                experts[:, len(found) :],
            )  # fmt: skip
        return Said(experts, losses)

    def predict_proba(self, packed: Packed, count: int, X: np.ndarray) -> np.ndarray:
        """Return the class probabilities, shape (n, C), of rows of shape (n, D)."""
        experts, _ = self.said(packed, count, X, np.zeros(len(X), np.int32))
        if not self._config.stacking:
            return experts[:, 0]
        out = np.empty((len(X), self._config.n_classes), self._config.dtype)
        stack.predict_stack(experts, packed.stack.weights, out)
        return out
