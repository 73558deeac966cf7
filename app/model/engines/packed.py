"""A state as the kernels take it: flat arrays, and units padded to whole vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from app.config.learning import BOLD_SPLIT, CAREFUL_SPLIT
from app.config.model import ModelConfig
from app.model.kernels.forest import Growth, Nodes
from app.model.kernels.network import Network
from app.model.kernels.recursive import Recursive
from app.model.kernels.scaling import Moments
from app.model.kernels.stack import Stack
from app.model.state import GROWTH, NODES, State, Trees, spread_name

VECTOR = 16
"""Units are padded to a multiple of this: a cache line of float32."""


def padded_units(config: ModelConfig) -> int:
    return -(-config.n_hidden_units // VECTOR) * VECTOR


@dataclass
class Packed:
    """Arrays that share nothing with the state they were made of.

    What an option leaves out is an array that nothing reads.
    """

    moments: Moments
    input_head: Recursive
    network: Network
    random_kernel: np.ndarray
    random_bias: np.ndarray
    random_head: Recursive
    shallow: Network
    nodes: Nodes
    growth: Growth
    stack: Stack

    def what_predicts(self) -> list[np.ndarray]:
        """Return the arrays that a prediction is made of, but those that never change."""
        networks = [array for net in (self.network, self.shallow) for array in net[:7]]
        heads = [array for head in (self.input_head, self.random_head) for array in head[:2]]
        return [*self.moments[:3], self.moments.origin, *heads, *networks, *self.nodes]

    def copy_from(self, other: Packed) -> None:
        """Predict from now on as ``other`` does now."""
        for mine, theirs in zip(self.what_predicts(), other.what_predicts(), strict=True):
            np.copyto(mine, theirs)


def pack(state: Mapping[str, np.ndarray], config: ModelConfig) -> Packed:
    """Return a state, or what predicts of one, as arrays for the kernels."""
    real = np.dtype(config.dtype)
    N, W = config.n_numbers, config.n_inputs

    def array(name: str, shape: tuple[int, ...] = (0,), dtype: DTypeLike = real) -> np.ndarray:
        return np.array(state[name] if name in state else np.zeros(shape, dtype))

    def counts(name: str) -> np.ndarray:
        return np.atleast_1d(array(name, (0,), np.int64))

    wide = np.dtype("float64")
    moments = Moments(
        array("scaler_mean", (N,), wide),
        array(spread_name(config), (N,), wide),
        array("scaler_count", (0,), wide),
        array("scaler_recent_mean", (0,), wide),
        array("scaler_recent_variance", (0,), wide),
        array("scaler_origin", (0,), wide),
        np.array([state.get("outlier_count", 0), state.get("rescale_count", 0)], np.int64),
    )
    input_head = Recursive(
        array("input_head_kernel").ravel(),
        array("input_head_bias"),
        array("input_head_covariance", (0,), wide).ravel(),
        array("input_head_variance", (W - N,), wide),
    )
    network = Network(
        *_pack_layers(state, config, "hidden", config.n_hidden_layers),
        *_pack_heads(state, config, _head_names(config)),
        input_head.kernel,
        input_head.bias,
        array("alpha"),
        counts("layer_silence"),
        counts("layer_reset_count"),
    )
    shallow = Network(
        *_pack_layers(state, config, "shallow", config.shallow_layers or 0),
        *_pack_heads(state, config, ["shallow_head_{}"] if config.shallow_layers else []),
        np.zeros(0, real),
        np.zeros(0, real),
        np.ones(1, real),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    )
    random_head = Recursive(
        array("random_head_kernel").ravel(),
        array("random_head_bias"),
        array("random_head_covariance", (0,), wide).ravel(),
        np.zeros(0),
    )
    trees = range(config.n_trees or 0)
    bars = np.array([CAREFUL_SPLIT if t < config.n_careful_trees else BOLD_SPLIT for t in trees])
    return Packed(
        moments,
        input_head,
        network,
        array("random_kernel").ravel(),
        array("random_bias"),
        random_head,
        shallow,
        Nodes._make(_pack_trees(state, config, NODES)),
        Growth._make([*_pack_trees(state, config, GROWTH), bars]),
        Stack(array("stack_weights", (0,), wide), array("stack_covariance", (0, 0), wide)),
    )


def unpack(packed: Packed, config: ModelConfig) -> State:
    """Return the arrays of a state that :func:`pack` takes, as copies, but for ``row_count``."""
    N, U = config.n_numbers, config.n_random_features
    network, moments = packed.network, packed.moments
    state: State = {}
    if config.input_head == "recursive":
        state["input_head_covariance"] = packed.input_head.covariance.reshape(N + 1, N + 1)
        if config.n_inputs > N:
            state["input_head_variance"] = packed.input_head.variance
    if config.scaler_window:
        state["scaler_recent_mean"] = moments.recent_mean
        state["scaler_recent_variance"] = moments.recent_variance
        state["outlier_count"], state["rescale_count"] = moments.met
    if config.stacking:
        state["layer_silence"], state["layer_reset_count"] = network.silent, network.met[0]
        state["stack_weights"], state["stack_covariance"] = packed.stack
    if U:
        state["random_kernel"] = packed.random_kernel.reshape(config.n_inputs, U)
        state["random_bias"] = packed.random_bias
        state["random_head_covariance"] = packed.random_head.covariance.reshape(U + 1, U + 1)
    if config.n_trees:
        state |= dict(zip(GROWTH, packed.growth[:-1], strict=True))
    return unpack_served(packed, config) | _copied(state)


def unpack_served(packed: Packed, config: ModelConfig) -> State:
    """Return, as copies, the arrays that a prediction is made of and that learning changes."""
    C, network, moments = config.n_classes, packed.network, packed.moments
    state: State = {"alpha": network.alpha}
    _unpack_layers(state, config, network, "hidden", config.n_hidden_layers)
    _unpack_heads(state, config, network, _head_names(config))
    if config.has_input_head:
        state["input_head_kernel"] = packed.input_head.kernel.reshape(-1, C)
        state["input_head_bias"] = packed.input_head.bias
    if config.standardize:
        state["scaler_mean"], state[spread_name(config)] = moments.mean, moments.spread
        if config.scaler_window or config.imputes:
            state["scaler_count"] = moments.known
    if config.scaler_window:
        state["scaler_origin"] = moments.origin
    if config.n_random_features:
        state["random_head_kernel"] = packed.random_head.kernel.reshape(-1, C)
        state["random_head_bias"] = packed.random_head.bias
    if config.shallow_layers:
        _unpack_layers(state, config, packed.shallow, "shallow", config.shallow_layers)
        _unpack_heads(state, config, packed.shallow, ["shallow_head_{}"])
    if config.n_trees:
        state |= dict(zip(NODES, packed.nodes, strict=True))
    return _copied(state)


def _copied(state: State) -> State:
    return {name: np.array(array) for name, array in state.items()}


def _head_names(config: ModelConfig) -> list[str]:
    return [f"head_{{}}_{l}" for l in config.head_layers]


def _pack_layers(
    state: Mapping[str, np.ndarray], config: ModelConfig, kind: str, n_layers: int
) -> tuple[np.ndarray, np.ndarray]:
    kernels = [_pad(state[f"{kind}_kernel_{l}"], config).ravel() for l in range(n_layers)]
    biases = [_pad(state[f"{kind}_bias_{l}"], config) for l in range(n_layers)]
    none = np.zeros((0, padded_units(config)), config.dtype)
    return np.concatenate([none[:, 0], *kernels]), np.stack(biases) if biases else none


def _pack_heads(
    state: Mapping[str, np.ndarray], config: ModelConfig, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    P, C = padded_units(config), config.n_classes
    kernels = [_pad(state[name.format("kernel")].T, config) for name in names]
    biases = [state[name.format("bias")] for name in names]
    if not names:
        return np.zeros((0, C, P), config.dtype), np.zeros((0, C), config.dtype)
    return np.stack(kernels), np.stack(biases)


def _pack_trees(
    state: Mapping[str, np.ndarray], config: ModelConfig, names: Trees
) -> list[np.ndarray]:
    empty = {
        name: np.zeros((0,) * len(axes), kind or config.dtype)
        for name, (axes, kind) in names.items()
    }
    return [np.array(state.get(name, array)) for name, array in empty.items()]


def _unpack_layers(
    state: State, config: ModelConfig, network: Network, kind: str, n_layers: int
) -> None:
    P, H, start = padded_units(config), config.n_hidden_units, 0
    for l in range(n_layers):
        stop = start + (H if l else config.n_inputs) * P
        state[f"{kind}_kernel_{l}"] = network.kernels[start:stop].reshape(-1, P)[:, :H]
        state[f"{kind}_bias_{l}"] = network.biases[l, :H]
        start = stop


def _unpack_heads(state: State, config: ModelConfig, network: Network, names: list[str]) -> None:
    for place, name in enumerate(names):
        kernel = network.head_kernels[place, :, : config.n_hidden_units]
        state[name.format("kernel")] = kernel.T
        state[name.format("bias")] = network.head_biases[place]


def _pad(array: np.ndarray, config: ModelConfig) -> np.ndarray:
    short = padded_units(config) - array.shape[-1]
    wide = np.pad(array, [*[(0, 0)] * (array.ndim - 1), (0, short)])
    return np.ascontiguousarray(wide, config.dtype)
