"""The hedged network: one classifier at every depth, mixed by the weights alpha.

D. Sahoo, Q. Pham, J. Lu, S. C. H. Hoi, "Online Deep Learning: Learning Deep
Neural Networks on the Fly", IJCAI 2018, equation (1). Letters as there: W
hidden kernels, Theta head kernels, alpha hedge weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from app.config.model import ModelConfig
from app.model.backend import tf
from app.model.inputs import numbers_of, with_binary
from app.model.scaler import known_or_mean, standardize
from app.model.state import State, state_layout

# After the backend, which imports TensorFlow its own way.
import keras  # isort: skip


class RunningStandardizer(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Standardises numbers by moments that the learner keeps, see :mod:`app.model.scaler`.

    Parameters
    ----------
    n_numbers
    dtype
    imputes
        Whether a NaN stands for a missing number, so that each column has a count of its own.
    """

    def __init__(self, n_numbers: int, dtype: str, imputes: bool) -> None:
        super().__init__(name="standardizer", dtype=dtype, trainable=False, autocast=False)
        wide = {"shape": (n_numbers,), "initializer": "zeros", "dtype": "float64"}
        self.mean = self.add_weight(name="mean", autocast=False, **wide)
        self.m2 = self.add_weight(name="m2", autocast=False, **wide)
        self.row_count = self.add_weight(
            name="count", shape=(), initializer="zeros", dtype="int64", autocast=False
        )
        self.known_count = None
        if imputes:
            self.known_count = self.add_weight(name="known_count", autocast=False, **wide)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        counts = self.row_count if self.known_count is None else self.known_count
        count = tf.cast(tf.convert_to_tensor(counts), tf.float64)
        mean, m2 = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.m2)
        x = tf.cast(x, tf.float64)
        z = standardize(x, mean, m2, count, self.compute_dtype)
        return z if self.known_count is None else known_or_mean(z, x)


class Numbers(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Numbers as they are, but for missing ones, which are 0."""

    def __init__(self, dtype: str) -> None:
        super().__init__(name="numbers", dtype=dtype, trainable=False, autocast=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return known_or_mean(tf.cast(x, self.compute_dtype), x)


class HedgedNetwork(keras.Model):  # type: ignore[misc]  # Keras has no types.
    """L hidden layers, a softmax head on each, and their hedged mixture.

    Parameters
    ----------
    config

    Notes
    -----
    Calling it on rows of shape (n, D) gives probabilities of shape (n, C):
    ``sum_l alpha[l] * softmax(h[l] @ Theta[l] + c[l])`` with
    ``h[l] = relu(h[l-1] @ W[l] + b[l])`` and ``h[0]`` the standardised rows, or what
    :mod:`app.model.inputs` makes of them.
    """

    def __init__(self, config: ModelConfig) -> None:
        # Rows stay float64 until they are standardised.
        super().__init__(name="hedged_network", dtype=config.dtype, autocast=False)
        self.config = config
        seeds = keras.random.SeedGenerator(config.seed)

        def dense(
            units: int, inputs: int, initializer: keras.Initializer, **kwargs: Any
        ) -> keras.layers.Dense:
            layer = keras.layers.Dense(
                units, kernel_initializer=initializer, dtype=config.dtype, **kwargs
            )
            layer.build((None, inputs))
            return layer

        D, W, H, C = config.n_features, config.n_inputs, config.n_hidden_units, config.n_classes
        he, glorot = keras.initializers.HeNormal(seeds), keras.initializers.GlorotUniform(seeds)
        depths = range(config.n_hidden_layers)
        self.standardizer = (
            RunningStandardizer(config.n_numbers, config.dtype, config.imputes)
            if config.standardize
            else Numbers(config.dtype)
        )
        # He's, by how many inputs are not 0: of a category, one slot is.
        first = keras.initializers.VarianceScaling(2 * W / D, "fan_in", seed=seeds)
        self.hidden_layers = [
            dense(H, H if l else W, he if l or W == D else first, activation="relu") for l in depths
        ]
        self.head_layers = config.head_layers
        self.heads = [dense(C, H, glorot) for _ in self.head_layers]
        self.input_head = None
        if config.has_input_head:
            # The recursion starts from the middle of its prior.
            recursive = config.input_head == "recursive"
            self.input_head = dense(C, W, keras.initializers.Zeros() if recursive else glorot)
        n_heads = config.n_heads
        self.alpha = self.add_weight(
            name="alpha",
            shape=(n_heads,),
            # Not Constant, which rounds to float32.
            initializer=lambda shape, dtype: np.full(shape, 1 / n_heads, dtype),
            trainable=False,
        )
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        h = with_binary(self.standardizer(numbers_of(x, self.config)), x, self.config)
        logits = [] if self.input_head is None else [self.input_head(h)]
        heads = dict(zip(self.head_layers, self.heads, strict=True))
        for l, hidden in enumerate(self.hidden_layers):
            h = hidden(h)
            if l in heads:
                logits.append(heads[l](h))
        probabilities = keras.ops.softmax(keras.ops.stack(logits), axis=-1)
        return keras.ops.tensordot(self.alpha, probabilities, axes=1)

    def named_variables(self) -> dict[str, keras.Variable]:
        """Return the network's variables by their state key."""
        named = {"alpha": self.alpha}
        for l, hidden in enumerate(self.hidden_layers):
            named[f"hidden_kernel_{l}"], named[f"hidden_bias_{l}"] = hidden.kernel, hidden.bias
        for l, head in zip(self.head_layers, self.heads, strict=True):
            named[f"head_kernel_{l}"], named[f"head_bias_{l}"] = head.kernel, head.bias
        if self.input_head is not None:
            named["input_head_kernel"] = self.input_head.kernel
            named["input_head_bias"] = self.input_head.bias
        if isinstance(self.standardizer, RunningStandardizer):
            named["scaler_mean"] = self.standardizer.mean
            named["scaler_m2"] = self.standardizer.m2
            named["row_count"] = self.standardizer.row_count
            if self.standardizer.known_count is not None:
                named["scaler_count"] = self.standardizer.known_count
        return named


def initial_state(network: HedgedNetwork, config: ModelConfig) -> State:
    """Return the state of a model that has learned nothing."""
    state = {name: np.zeros(*spec) for name, spec in state_layout(config).items()}
    for name, variable in network.named_variables().items():
        state[name] = variable.numpy()
    if config.input_head == "recursive":
        np.fill_diagonal(state["input_head_covariance"], 1)
        if "input_head_variance" in state:
            state["input_head_variance"][:] = 1
    return state


def forward_function(
    network: HedgedNetwork,
) -> Callable[[Mapping[str, tf.Tensor], tf.Tensor], tf.Tensor]:
    """Return the network's call as a function of (state, rows), without its variables."""
    keys = {id(variable): name for name, variable in network.named_variables().items()}
    trainable = [keys[id(variable)] for variable in network.trainable_variables]
    fixed = [keys[id(variable)] for variable in network.non_trainable_variables]

    def forward(state: Mapping[str, tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        probabilities, _ = network.stateless_call(
            [state[name] for name in trainable], [state[name] for name in fixed], x
        )
        return probabilities

    return forward


def dead_layers(
    state: Mapping[str, np.ndarray], X: np.ndarray, config: ModelConfig
) -> tuple[int, ...]:
    """Return the hidden layers, from 0, of which no unit fires in any of some rows.

    Such a layer passes no gradient down, and the heads on it and above it see a
    constant: they can learn no more than how common the classes are. Large steps
    do that to a ReLU network.

    Parameters
    ----------
    state
    X : ndarray, shape (n, D), float64
    config
    """
    numbers = numbers_of(X, config)
    z = tf.cast(numbers, config.dtype)
    if config.standardize:
        count = state.get("scaler_count", np.float64(state["row_count"]))
        z = standardize(numbers, state["scaler_mean"], state["scaler_m2"], count, config.dtype)
    h = with_binary(known_or_mean(z, numbers), X, config).numpy()
    dead = []
    for l in range(config.n_hidden_layers):
        h = np.maximum(h @ state[f"hidden_kernel_{l}"] + state[f"hidden_bias_{l}"], 0)
        if not h.any():
            dead.append(l)
    return tuple(dead)
