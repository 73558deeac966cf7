"""The forward pass that scores rows, compiled once for a few sizes of batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np

from app.config.model import ModelConfig
from app.model.backend import tf
from app.model.columns import as_rows
from app.model.forward.network import HedgedNetwork, forward_function
from app.model.state import config_from_metadata

PADDED_ROWS = (64, 512, 2048)
"""The batch sizes that are compiled; a batch is padded to the next one up."""

_KEPT_SCORERS = 4


class Scorer:
    """The compiled forward pass of one architecture, fed any state of it.

    A state is an argument of the compiled function and not a constant in it, so
    that a new version costs no compilation.

    Parameters
    ----------
    config
    network
        An existing network of that configuration. Without one, it is built.

    Attributes
    ----------
    trace_count
        How often the forward pass was traced: at most ``len(PADDED_ROWS)``.
    """

    def __init__(self, config: ModelConfig, network: HedgedNetwork | None = None) -> None:
        self.config = config
        self.trace_count = 0
        network = network or HedgedNetwork(config)
        self._names = tuple(network.named_variables())
        forward = forward_function(network)

        def traced(state: Mapping[str, tf.Tensor], x: tf.Tensor) -> tf.Tensor:
            self.trace_count += 1
            return forward(state, x)

        self._forward = tf.function(traced, jit_compile=True, autograph=False)

    def tensors(self, state: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        """Return those arrays of a state that a prediction is made of."""
        return {name: tf.constant(state[name]) for name in self._names}

    def predict_proba(self, state: Mapping[str, tf.Tensor], X: np.ndarray) -> np.ndarray:
        """Return the class probabilities, shape (n, C), of rows of shape (n, D).

        ``state`` is what :meth:`tensors` gives.
        """
        X = as_rows(X, self.config)
        probabilities = np.empty((len(X), self.config.n_classes), self.config.dtype)
        largest = PADDED_ROWS[-1]
        for start in range(0, len(X), largest):
            rows = X[start : start + largest]
            size = next(size for size in PADDED_ROWS if size >= len(rows))
            padded = np.zeros((size, X.shape[1]), X.dtype)
            padded[: len(rows)] = rows
            result = self._forward(state, tf.constant(padded)).numpy()
            probabilities[start : start + len(rows)] = result[: len(rows)]
        return probabilities


@functools.lru_cache(_KEPT_SCORERS)
def scorer_of(config: str) -> Scorer:
    """Return this process's scorer for a configuration as a state's metadata holds it."""
    return Scorer(config_from_metadata({"config": config}))
