"""Hedge Backpropagation of one row at a time, compiled by Numba."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from app.config.model import BALANCED, ModelConfig
from app.model import kernels
from app.model.inputs import places_of
from app.model.learner import UpdateRule
from app.model.state import State

VECTOR = 16
"""Units are padded to a multiple of this: a cache line of float32."""

_HEDGE_KINDS = {"raw": kernels.RAW, "minmax": kernels.MINMAX, "bounded": kernels.BOUNDED}
_INPUT_KINDS = {"none": kernels.NO_HEAD, "sgd": kernels.SGD, "recursive": kernels.RECURSIVE}


class NumbaLearner:
    """A :class:`app.model.learner.Learner` for updates of one row.

    Parameters
    ----------
    config
        Its ``update_batch_size`` must be 1.

    Notes
    -----
    Compiled once for each dtype, whatever the sizes and the options, and kept on disk for
    the next process where there is a place for it.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._real = np.dtype(config.dtype)
        self._padded = -(-config.n_hidden_units // VECTOR) * VECTOR
        real, rule = self._real.type, UpdateRule.of(config)
        places = places_of(config)
        self._numbers, self._indicators = places["numbers"], places["indicators"]
        self._categories, self._firsts = places["categories"], places["firsts"]
        class_weights = np.array(config.class_weights, self._real)
        self._settings = (
            config.n_hidden_units,
            real(rule.eta),
            real(rule.head_eta),
            rule.head_boost,
            rule.scale_heads_by_alpha,
            real(rule.beta),
            real(rule.floor),
            real(rule.clip),
            _HEDGE_KINDS[rule.hedge_loss],
            _INPUT_KINDS[rule.input_head],
            config.standardize,
            class_weights,
        )

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        config, heads = self._config, self._config.head_layers
        layers = range(config.n_hidden_layers)
        N, W = config.n_numbers, config.n_inputs
        weights = [self._pad(state[f"hidden_kernel_{l}"]).ravel() for l in layers]
        self._kernels = np.concatenate(weights)
        self._biases = np.stack([self._pad(state[f"hidden_bias_{l}"]) for l in layers])
        self._head_kernels = np.stack([self._pad(state[f"head_kernel_{l}"].T) for l in heads])
        self._head_biases = np.stack([state[f"head_bias_{l}"] for l in heads])
        # What an option leaves out is an array that nothing reads.
        none = np.zeros(0, self._real)
        self._input_kernel = state.get("input_head_kernel", none).flatten()
        self._input_bias = np.array(state.get("input_head_bias", none))
        self._covariance = state.get("input_head_covariance", np.zeros(0)).flatten()
        self._variance = np.array(state.get("input_head_variance", np.zeros(W - N)))
        self._class_count = np.array(state.get("class_count", np.zeros(0, np.int64)))
        self._mean = np.array(state.get("scaler_mean", np.zeros(N)))
        self._m2 = np.array(state.get("scaler_m2", np.zeros(N)))
        self._known = np.array(state.get("scaler_count", np.zeros(0)))
        self._alpha = np.array(state["alpha"])
        self._count = np.array([state["row_count"]], np.int64)

    def learn(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        probabilities = np.empty((len(X), self._config.n_classes), self._real)
        kernels.learn_rows(
            X, y, probabilities, self._kernels, self._biases, self._head_kernels,
            self._head_biases, self._config.head_layers[0], self._input_kernel,
            self._input_bias, self._covariance, self._variance, self._alpha, self._mean,
            self._m2, self._known, self._count, self._class_count, self._numbers,
            self._indicators, self._categories, self._firsts, *self._settings,
        )  # fmt: skip
        return probabilities

    def compile(self) -> None:
        self.learn(np.zeros((0, self._config.n_features)), np.zeros(0, np.int32))

    def get_state(self) -> State:
        config = self._config
        W, N, H, C = config.n_inputs, config.n_numbers, config.n_hidden_units, config.n_classes
        P = self._padded
        state: State = {"alpha": self._alpha.copy(), "row_count": np.array(self._count[0])}
        start = 0
        for l in range(config.n_hidden_layers):
            inputs = H if l else W
            kernel = self._kernels[start : start + inputs * P].reshape(inputs, P)
            state[f"hidden_kernel_{l}"] = kernel[:, :H].copy()
            state[f"hidden_bias_{l}"] = self._biases[l, :H].copy()
            start += inputs * P
        for place, l in enumerate(config.head_layers):
            state[f"head_kernel_{l}"] = self._head_kernels[place, :, :H].T.copy()
            state[f"head_bias_{l}"] = self._head_biases[place].copy()
        if config.has_input_head:
            state["input_head_kernel"] = self._input_kernel.reshape(W, C).copy()
            state["input_head_bias"] = self._input_bias.copy()
        if config.input_head == "recursive":
            state["input_head_covariance"] = self._covariance.reshape(N + 1, N + 1).copy()
            if W > N:
                state["input_head_variance"] = self._variance.copy()
        if config.class_weight == BALANCED:
            state["class_count"] = self._class_count.copy()
        if config.standardize:
            state["scaler_mean"], state["scaler_m2"] = self._mean.copy(), self._m2.copy()
            if config.imputes:
                state["scaler_count"] = self._known.copy()
        return state

    @property
    def alpha(self) -> np.ndarray:
        return self._alpha.copy()

    def _pad(self, array: np.ndarray) -> np.ndarray:
        short = self._padded - array.shape[-1]
        wide = np.pad(array, [*[(0, 0)] * (array.ndim - 1), (0, short)])
        return np.ascontiguousarray(wide, self._real)
