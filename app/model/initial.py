"""The state of a model that has learned nothing."""

from __future__ import annotations

import math

import numpy as np

from app.config.learning import (
    HORIZON_SHARES,
    RANDOM_BIAS,
    RANDOM_SCALE,
    RANDOM_VARIANCE,
    STACK_HORIZON,
    STACK_VARIANCE,
)
from app.config.model import ModelConfig
from app.model.forward.network import HedgedNetwork
from app.model.kernels.forest import NO_BEST
from app.model.state import SERVED, State, state_layout


def initial_state(network: HedgedNetwork, config: ModelConfig) -> State:
    """Return the state of a model that has learned nothing."""
    state = {name: np.zeros(*spec) for name, spec in state_layout(config).items()}
    for name, variable in network.named_variables().items():
        state[name] = variable.numpy()
    if config.input_head == "recursive":
        np.fill_diagonal(state["input_head_covariance"], 1)
        if "input_head_variance" in state:
            state["input_head_variance"][:] = 1
    if config.stacking:
        _begin_experts(state, config)
    return {name: state.get(name.removeprefix(SERVED), state[name]) for name in state}


def _first_weights(config: ModelConfig) -> list[float]:
    """Return the weights of the experts' log-probabilities, in the experts' order."""
    found = (
        (True, "quick"),
        (config.has_input_head, "slow"),
        (config.n_random_features, "slow"),
        (config.shallow_layers, "quick"),
        (config.n_trees, "slow"),
        (config.n_trees, "quick"),
    )
    kinds = [kind for is_there, kind in found if is_there]
    return [HORIZON_SHARES[kind] if config.horizon else 1 / len(kinds) for kind in kinds]


def _begin_experts(state: State, config: ModelConfig) -> None:
    E, K, D = config.n_experts, config.horizon, config.n_features
    state["stack_weights"][:E] = _first_weights(config)
    variance = min(STACK_VARIANCE, STACK_HORIZON / K) if K else STACK_VARIANCE
    np.fill_diagonal(state["stack_covariance"], variance)
    rng = np.random.default_rng(config.seed)
    if config.n_random_features:
        by = 1 / math.sqrt(RANDOM_VARIANCE)
        kernel, bias = state["random_kernel"], state["random_bias"]
        kernel[:] = by * RANDOM_SCALE / math.sqrt(D) * rng.standard_normal(kernel.shape)
        bias[:] = by * RANDOM_BIAS * rng.standard_normal(bias.shape)
        np.fill_diagonal(state["random_head_covariance"], 1)
    if config.n_trees:
        state["tree_feature"][:] = -1
        state["tree_nodes"][:] = 1
        state["tree_best"][:] = NO_BEST
        state["leaf_first"][:, 0] = rng.integers(D, size=config.n_trees)
