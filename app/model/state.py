"""State: everything that learning changes, as a flat dict of named arrays.

=========================  ============  ========  ==============================
key                        shape         dtype     what
=========================  ============  ========  ==============================
``hidden_kernel_{l}``      (in, H)       model's   W of hidden layer l = 0..L-1; in = W for l = 0
``hidden_bias_{l}``        (H,)          model's   b of hidden layer l
``head_kernel_{l}``        (H, C)        model's   Theta of the head on layer l
``head_bias_{l}``          (C,)          model's   bias of that head
``input_head_kernel``      (W, C)        model's   only with an input head
``input_head_bias``        (C,)          model's   only with an input head
``input_head_covariance``  (N+1, N+1)    float64   only with a recursive one
``input_head_variance``    (W - N,)      float64   the same, where there are 0/1 inputs
``alpha``                  (n_heads,)    model's   hedge weights, shallow to deep
``row_count``              ()            int64     rows learned
``class_count``            (C,)          int64     only with balanced weights: rows learned
``scaler_mean``            (N,)          float64   only when standardising
``scaler_m2``              (N,)          float64   sum of squared deviations; the variance, with
                                                   a window, is ``scaler_variance``
``scaler_count``           (N,)          float64   when imputing, or with a window: numbers in them
``scaler_recent_mean``     (N,)          float64   with a window: moments of the last 100 rows,
``scaler_recent_variance``                         which take over when a scale has changed
``scaler_origin``          (N,)          float64   with a window: the first number of each column
``outlier_count``          ()            int64     with a window: numbers that were cut,
``rescale_count``                                  and moments that were taken over
``pending_features``       (B - 1, D)    float64   only with B > 1: rows that wait
``pending_labels``         (B - 1,)      int32     for their group of B to be full
``pending_count``          ()            int64     how many of them are set
``stack_weights``          (2 E,)        float64   with stacking, of E experts: of their
                                                   log-probabilities, then of their votes
``stack_covariance``       (2 E, 2 E)    float64   of these weights
``layer_silence``          (L,)          int64     with stacking: rows since a unit fired,
``layer_reset_count``      ()            int64     and layers that started over
``random_kernel``          (W, U)        model's   the random features, which never change,
``random_bias``            (U,)          model's   and their head
``random_head_kernel``     (U, C)        model's
``random_head_bias``       (C,)          model's
``random_head_covariance`` (U+1, U+1)    float64
``shallow_kernel_{l}``     (in, H)       model's   the shallow network, and its head
``shallow_bias_{l}``       (H,)          model's
``shallow_head_kernel``    (H, C)        model's
``shallow_head_bias``      (C,)          model's
``tree_...``, ``leaf_...``                         see :mod:`app.model.kernels.forest`
``served_...``                                     with a horizon: what predicts, of the state that
                                                   was served a horizon ago
=========================  ============  ========  ==============================

N of the D columns are numbers; W is :attr:`app.config.model.ModelConfig.n_inputs`. With an input
head, ``alpha[0]`` is its weight.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from app.config.learning import CANDIDATES
from app.config.model import BALANCED, ModelConfig
from app.errors import InvalidParameterError, StateError

State = dict[str, np.ndarray]
Trees = dict[str, tuple[str, str | None]]
NODES: Trees = {
    "tree_feature": ("TM", "int32"),
    "tree_threshold": ("TM", None),
    "tree_child": ("TM", "int32"),
    "tree_counts": ("TMC", None),
}
"""What trees predict by: the axes of each array and its dtype, None for the model's."""
GROWTH: Trees = {
    "tree_slot": ("TM", "int32"),
    "leaf_first": ("TS", "int32"),
    "leaf_drawn": ("TS", "int32"),
    "leaf_candidates": ("TSK", None),
    "leaf_left": ("TSKC", None),
    "leaf_seen": ("TSC", None),
    "leaf_looked": ("TS", None),
    "tree_nodes": ("T", "int32"),
    "tree_age": ("T", "int64"),
    "tree_error": ("T", "float64"),
    "tree_best": ("T", "float64"),
}
"""What they grow by, see :class:`app.model.kernels.forest.Growth`."""

_HEADER_LENGTH_BYTES = 8
_CHECKSUM = "metadata_sha256"
_LATER_SETTINGS = (
    "category_slots",
    "class_weight",
    "class_weights",
    "horizon",
    "imputes",
    "indicators",
    "n_random_features",
    "n_trees",
    "recursive_drift",
    "scaler_window",
    "shallow_layers",
    "stacking",
)
SERVED = "served_"
"""Prefix of the arrays of the state that was served a horizon ago."""
_NOT_SERVED = re.compile(r"scaler_recent_.*|.*_covariance|input_head_variance|random_(kernel|bias)")
"""What a prediction is not made of, or never changes."""


Layout = dict[str, tuple[tuple[int, ...], np.dtype]]


def state_layout(config: ModelConfig) -> Layout:
    """Return the shape and dtype that each array of a model's state must have."""
    D, H, C, L = config.n_features, config.n_hidden_units, config.n_classes, config.n_hidden_layers
    W, N = config.n_inputs, config.n_numbers
    real, wide, count = np.dtype(config.dtype), np.dtype("float64"), np.dtype("int64")
    layout: Layout = {}
    for layer in range(L):
        layout[f"hidden_kernel_{layer}"] = ((W if layer == 0 else H, H), real)
        layout[f"hidden_bias_{layer}"] = ((H,), real)
    for layer in config.head_layers:
        layout[f"head_kernel_{layer}"] = ((H, C), real)
        layout[f"head_bias_{layer}"] = ((C,), real)
    if config.has_input_head:
        layout["input_head_kernel"] = ((W, C), real)
        layout["input_head_bias"] = ((C,), real)
    if config.input_head == "recursive":
        layout["input_head_covariance"] = ((N + 1, N + 1), wide)
        if W > N:
            layout["input_head_variance"] = ((W - N,), wide)
    layout["alpha"] = ((config.n_heads,), real)
    layout["row_count"] = ((), count)
    if config.class_weight == BALANCED:
        layout["class_count"] = ((C,), count)
    if config.standardize:
        layout |= _scaler_layout(config)
    if config.update_batch_size > 1:
        waiting = config.update_batch_size - 1
        layout["pending_features"] = ((waiting, D), wide)
        layout["pending_labels"] = ((waiting,), np.dtype("int32"))
        layout["pending_count"] = ((), count)
    if config.stacking:
        experts = _expert_layout(config)
        if config.horizon:
            found = (layout | experts).items()
            layout |= {SERVED + name: spec for name, spec in found if serves(name)}
        E = config.n_experts
        layout |= experts
        layout["layer_silence"] = ((L,), count)
        layout["layer_reset_count"] = ((), count)
        layout["stack_weights"] = ((2 * E,), wide)
        layout["stack_covariance"] = ((2 * E, 2 * E), wide)
    return layout


def serves(name: str) -> bool:
    """Return whether a prediction is made of an array, and not of what never changes."""
    kinds = ("hidden_", "head_", "input_head_", "alpha", "scaler_", "random_", "shallow_", *NODES)
    return name.startswith(kinds) and not _NOT_SERVED.fullmatch(name)


def spread_name(config: ModelConfig) -> str:
    """Return the name of the sums of squared deviations, or with a window of the variances."""
    return "scaler_variance" if config.scaler_window else "scaler_m2"


def _scaler_layout(config: ModelConfig) -> Layout:
    N, wide, count = (config.n_numbers,), np.dtype("float64"), np.dtype("int64")
    if not config.scaler_window:
        names = ["scaler_mean", "scaler_m2"] + ["scaler_count"] * config.imputes
        return dict.fromkeys(names, (N, wide))
    names = ["mean", "variance", "count", "recent_mean", "recent_variance", "origin"]
    layout: Layout = {f"scaler_{name}": (N, wide) for name in names}
    layout["outlier_count"] = layout["rescale_count"] = ((), count)
    return layout


def _expert_layout(config: ModelConfig) -> Layout:
    W, H, C, U = config.n_inputs, config.n_hidden_units, config.n_classes, config.n_random_features
    real, wide = np.dtype(config.dtype), np.dtype("float64")
    layout: Layout = {}
    if U:
        layout["random_kernel"] = ((W, U), real)
        layout["random_bias"] = ((U,), real)
        layout["random_head_kernel"] = ((U, C), real)
        layout["random_head_bias"] = ((C,), real)
        layout["random_head_covariance"] = ((U + 1, U + 1), wide)
    for layer in range(config.shallow_layers or 0):
        layout[f"shallow_kernel_{layer}"] = ((H if layer else W, H), real)
        layout[f"shallow_bias_{layer}"] = ((H,), real)
    if config.shallow_layers:
        layout["shallow_head_kernel"] = ((H, C), real)
        layout["shallow_head_bias"] = ((C,), real)
    if config.n_trees:
        sizes = {"T": config.n_trees, "S": config.n_tree_leaves, "K": CANDIDATES, "C": C}
        sizes["M"] = 2 * config.n_tree_leaves - 1
        for name, (axes, dtype) in (NODES | GROWTH).items():
            layout[name] = (tuple(sizes[axis] for axis in axes), np.dtype(dtype or real))
    return layout


def check_state(state: Mapping[str, np.ndarray], config: ModelConfig) -> State:
    """Return ``state`` as arrays of the model's layout.

    Raises
    ------
    StateError
        When an array is missing, unknown, or of another shape or dtype.
    """
    layout = state_layout(config)
    missing = sorted(layout.keys() - state.keys())
    unknown = sorted(state.keys() - layout.keys())
    if missing or unknown:
        raise StateError(
            f"not a state of this architecture: missing {missing or 'nothing'}, "
            f"not known {unknown or 'nothing'}"
        )
    checked: State = {}
    for name, (shape, dtype) in layout.items():
        array = np.asarray(state[name])
        if name == "pending_features":
            # Older releases kept them in the model's dtype.
            array = array.astype(dtype)
        if array.shape != shape or array.dtype != dtype:
            raise StateError(
                f"{name} must have shape {shape} and dtype {dtype}, "
                f"not {array.shape} and {array.dtype}"
            )
        checked[name] = array
    return checked


def is_finite(state: Mapping[str, np.ndarray]) -> bool:
    """Return whether nothing that was learned is a NaN or an infinity."""
    # Rows that wait may lack a number.
    learned = (array for name, array in state.items() if name != "pending_features")
    return all(np.isfinite(array).all() for array in learned)


def state_sha256(state: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256, in hex, of a state's names, dtypes, shapes and values.

    Examples
    --------
    >>> import numpy as np
    >>> a = state_sha256({"alpha": np.array([0.5, 0.5], "float32")})
    >>> a == state_sha256({"alpha": np.array([[0.5, 0.5]], "float32")})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.asarray(state[name])
        little_endian = array.dtype.newbyteorder("<")
        digest.update(json.dumps([name, little_endian.str, array.shape]).encode())
        digest.update(array.astype(little_endian, copy=False).tobytes(order="C"))
    return digest.hexdigest()


def state_to_bytes(state: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return a state and its metadata in the safetensors format."""
    # Not ascontiguousarray, which gives a scalar a dimension.
    arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
    checksum = {_CHECKSUM: metadata_sha256(metadata)}
    return safetensors.numpy.save(arrays, metadata=dict(metadata) | checksum)


def state_from_bytes(data: bytes) -> tuple[State, dict[str, str]]:
    """Return the state and the metadata held in safetensors bytes.

    Raises
    ------
    StateError
        When the bytes are not in the safetensors format.
    """
    try:
        state = safetensors.numpy.load(data)
        length = int.from_bytes(data[:_HEADER_LENGTH_BYTES], "little")
        header = json.loads(data[_HEADER_LENGTH_BYTES : _HEADER_LENGTH_BYTES + length])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"not safetensors bytes ({len(data)} bytes): {error}") from error
    metadata = header.get("__metadata__", {})
    checksum = metadata.pop(_CHECKSUM, None)
    if checksum != metadata_sha256(metadata):
        raise StateError("metadata that does not have the SHA-256 it was written with")
    return state, metadata


def metadata_sha256(metadata: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of a state's metadata, which the state's own does not cover.

    The bytes of a state hold it as well, which tells of damage, and not of another's hand.
    """
    content = {name: text for name, text in metadata.items() if name != _CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def config_to_metadata(config: ModelConfig) -> dict[str, str]:
    """Return the metadata that lets :func:`config_from_metadata` rebuild ``config``."""
    settings = config.to_dict()
    for name in _LATER_SETTINGS:
        # As older releases have stored it, where it is what they know.
        if not settings[name]:
            del settings[name]
    return {"config": json.dumps(settings, sort_keys=True)}


def config_from_metadata(metadata: Mapping[str, str]) -> ModelConfig:
    """Return the settings of the model that a state belongs to.

    Raises
    ------
    StateError
        When the metadata holds no settings, or settings out of range.
    """
    try:
        return ModelConfig(**json.loads(metadata["config"]))
    except (KeyError, RecursionError, TypeError, ValueError, InvalidParameterError) as error:
        raise StateError(f"a state without usable model settings: {error}") from error
