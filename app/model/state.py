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
``scaler_m2``              (N,)          float64   sum of squared deviations
``scaler_count``           (N,)          float64   only when imputing: numbers in the two
``pending_features``       (B - 1, D)    float64   only with B > 1: rows that wait
``pending_labels``         (B - 1,)      int32     for their group of B to be full
``pending_count``          ()            int64     how many of them are set
=========================  ============  ========  ==============================

N of the D columns are numbers; W is :attr:`app.config.model.ModelConfig.n_inputs`. With an input
head, ``alpha[0]`` is its weight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from app.config.model import BALANCED, ModelConfig
from app.errors import InvalidParameterError, StateError

State = dict[str, np.ndarray]

_HEADER_LENGTH_BYTES = 8
_CHECKSUM = "metadata_sha256"
_LATER_SETTINGS = ("category_slots", "class_weight", "class_weights", "imputes", "indicators")


def state_layout(config: ModelConfig) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return the shape and dtype that each array of a model's state must have."""
    D, H, C, L = config.n_features, config.n_hidden_units, config.n_classes, config.n_hidden_layers
    W, N = config.n_inputs, config.n_numbers
    real, wide, count = np.dtype(config.dtype), np.dtype("float64"), np.dtype("int64")
    layout: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
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
        layout["scaler_mean"] = ((N,), wide)
        layout["scaler_m2"] = ((N,), wide)
        if config.imputes:
            layout["scaler_count"] = ((N,), wide)
    if config.update_batch_size > 1:
        waiting = config.update_batch_size - 1
        layout["pending_features"] = ((waiting, D), wide)
        layout["pending_labels"] = ((waiting,), np.dtype("int32"))
        layout["pending_count"] = ((), count)
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
