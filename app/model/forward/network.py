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
from app.model.forward.inputs import numbers_of, with_binary
from app.model.forward.layers import Numbers, RunningStandardizer, Trees, stacked
from app.model.forward.scaler import known_or_mean, standardized
from app.model.state import spread_name

# After the backend, which imports TensorFlow its own way.
import keras  # isort: skip


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
    :mod:`app.model.forward.inputs` makes of them.
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
            RunningStandardizer(config) if config.standardize else Numbers(config.dtype)
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
        self.shallow_layers = [
            dense(H, H if l else W, he if l or W == D else first, activation="relu")
            for l in range(config.shallow_layers or 0)
        ]
        self.shallow_head = dense(C, H, glorot) if config.shallow_layers else None
        self.random_layer = self.random_head = None
        if config.n_random_features:
            zeros = keras.initializers.Zeros()
            self.random_layer = dense(config.n_random_features, W, zeros, activation="relu")
            self.random_layer.trainable = False
            self.random_head = dense(C, config.n_random_features, zeros)
        self.trees = Trees(config) if config.n_trees else None
        self.stack_weights = None
        if config.stacking:
            self.stack_weights = self.add_weight(
                name="stack_weights",
                shape=(2 * config.n_experts,),
                initializer="zeros",
                dtype="float64",
                trainable=False,
                autocast=False,
            )
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
        z = self.standardizer(numbers_of(x, self.config))
        inputs = h = with_binary(z, x, self.config)
        logits = [] if self.input_head is None else [self.input_head(h)]
        heads = dict(zip(self.head_layers, self.heads, strict=True))
        for l, hidden in enumerate(self.hidden_layers):
            h = hidden(h)
            if l in heads:
                logits.append(heads[l](h))
        probabilities = keras.ops.softmax(keras.ops.stack(logits), axis=-1)
        mixed = keras.ops.tensordot(self.alpha, probabilities, axes=1)
        if self.stack_weights is None:
            return mixed
        experts = [mixed] if self.input_head is None else [mixed, probabilities[0]]
        if self.random_layer is not None and self.random_head is not None:
            experts.append(keras.ops.softmax(self.random_head(self.random_layer(inputs))))
        if self.shallow_head is not None:
            h = inputs
            for hidden in self.shallow_layers:
                h = hidden(h)
            experts.append(keras.ops.softmax(self.shallow_head(h)))
        said = keras.ops.stack(experts)
        if self.trees is not None:
            trees = self.trees(x)
            said = keras.ops.concatenate([said, trees])
        return stacked(said, tf.convert_to_tensor(self.stack_weights))

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
        for l, hidden in enumerate(self.shallow_layers):
            named[f"shallow_kernel_{l}"], named[f"shallow_bias_{l}"] = hidden.kernel, hidden.bias
        dense = {
            "shallow_head_": self.shallow_head,
            "random_": self.random_layer,
            "random_head_": self.random_head,
        }
        for name, layer in dense.items():
            if layer is not None:
                named[name + "kernel"], named[name + "bias"] = layer.kernel, layer.bias
        if self.stack_weights is not None:
            named["stack_weights"] = self.stack_weights
        if isinstance(self.standardizer, RunningStandardizer):
            named |= self.standardizer.named_variables()
        if self.trees is not None:
            named |= self.trees.named_variables()
        return named


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
    if config.standardize:
        count = state.get("scaler_count", np.float64(state["row_count"]))
        count = np.float64(1) if config.scaler_window else count
        mean, spread = state["scaler_mean"], state[spread_name(config)]
        z = standardized(numbers, mean, spread, count, config)
    else:
        z = known_or_mean(tf.cast(numbers, config.dtype), numbers)
    h = with_binary(z, X, config).numpy()
    dead = []
    for l in range(config.n_hidden_layers):
        h = np.maximum(h @ state[f"hidden_kernel_{l}"] + state[f"hidden_bias_{l}"], 0)
        if not h.any():
            dead.append(l)
    return tuple(dead)
