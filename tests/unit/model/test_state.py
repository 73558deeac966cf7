"""States as bytes, hashes and layouts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from app.config.model import ModelConfig
from app.errors import StateError
from app.model.state import (
    check_state,
    config_from_metadata,
    config_to_metadata,
    is_finite,
    state_from_bytes,
    state_layout,
    state_sha256,
    state_to_bytes,
)

CONFIG = ModelConfig(
    n_features=3,
    n_classes=2,
    variant="fast",
    n_hidden_layers=2,
    n_hidden_units=4,
    input_head="sgd",
    update_batch_size=3,
)
METADATA = {"config": "{}", "note": "naïve — 学"}


def filled_state(config: ModelConfig = CONFIG) -> dict[str, np.ndarray]:
    """Return a state of ``config`` in which every value differs from its neighbours."""
    return {
        name: np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
        for name, (shape, dtype) in state_layout(config).items()
    }


def assert_same_arrays(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_bytes_give_back_every_array_and_the_metadata():
    state, metadata = state_from_bytes(state_to_bytes(filled_state(), METADATA))

    assert_same_arrays(state, filled_state())
    assert state["row_count"].shape == ()
    assert metadata == METADATA


def test_bytes_give_back_the_experts_and_what_is_served():
    config = ModelConfig(n_features=3, n_classes=2, n_hidden_layers=2, n_trees=2, horizon=50)
    state, _ = state_from_bytes(state_to_bytes(filled_state(config), METADATA))

    assert_same_arrays(check_state(state, config), filled_state(config))
    assert {"tree_feature", "stack_weights", "served_tree_feature", "served_alpha"} < state.keys()


def test_bytes_without_metadata_give_back_none():
    assert state_from_bytes(state_to_bytes(filled_state(), {}))[1] == {}


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0).reshape(3, 2).T,
        np.arange(12.0).reshape(2, 6)[:, ::2],
        np.arange(6.0)[::-1],
        np.arange(3, dtype=">i4"),
        np.zeros((0, 3)),
        np.array(7, ">i8"),
    ],
    ids=["fortran", "transposed", "strided", "reversed", "big-endian", "empty", "scalar"],
)
def test_memory_layout_changes_neither_bytes_nor_hash(array):
    plain = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")

    assert state_to_bytes({"a": array}, {}) == state_to_bytes({"a": plain}, {})
    assert state_sha256({"a": array}) == state_sha256({"a": plain})
    assert_same_arrays(state_from_bytes(state_to_bytes({"a": array}, {}))[0], {"a": plain})


def test_hash_survives_the_bytes():
    state, _ = state_from_bytes(state_to_bytes(filled_state(), METADATA))

    assert state_sha256(state) == state_sha256(filled_state())


def test_hash_does_not_depend_on_metadata():
    hashes = {
        state_sha256(state_from_bytes(state_to_bytes(filled_state(), metadata))[0])
        for metadata in ({}, METADATA, {"version": "9"})
    }

    assert len(hashes) == 1


def test_hash_does_not_depend_on_insertion_order():
    state = filled_state()
    backwards = dict(reversed(state.items()))

    assert list(backwards) != list(state)
    assert state_sha256(backwards) == state_sha256(state)


def test_hash_is_the_one_that_earlier_releases_wrote():
    state = {"alpha": np.array([0.25, 0.75], "float32"), "row_count": np.array(3, "int64")}

    assert state_sha256(state) == "218f6643fee5674f9cecb8a4fd215a3a72464bbb010fb6de7bd2fa58da84f843"


def test_hash_changes_with_any_one_value():
    state = filled_state()
    hashes = {state_sha256(state)}
    for name, array in state.items():
        for index in np.ndindex(array.shape):
            changed = array.copy()
            changed[index] += 1
            hashes.add(state_sha256(state | {name: changed}))

    assert len(hashes) == 1 + sum(array.size for array in state.values())


@pytest.mark.parametrize(
    "other",
    [
        {"b": np.zeros(4, "float32")},
        {"a": np.zeros(4, "int32")},
        {"a": np.zeros(2, "float64")},
        {"a": np.zeros((2, 2), "float32")},
        {"a": np.zeros((1, 4), "float32")},
        {"a": np.zeros(4, "float32"), "b": np.zeros(0, "float32")},
        {},
    ],
    ids=["name", "dtype", "dtype-and-shape", "shape", "dimensions", "one-more", "none"],
)
def test_hash_changes_with_name_dtype_and_shape(other):
    assert state_sha256(other) != state_sha256({"a": np.zeros(4, "float32")})


def test_hash_tells_a_scalar_from_an_array_of_one():
    assert state_sha256({"n": np.array(1)}) != state_sha256({"n": np.array([1])})


def test_values_moved_from_one_array_to_another_change_the_hash():
    one = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    other = {"a": np.array([1.0]), "b": np.array([2.0, 3.0])}

    assert state_sha256(one) != state_sha256(other)


def safetensors_bytes(header: object, values: bytes = b"") -> bytes:
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + values


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not a state at all, and longer than a header's length",
        b"\x00" * 64,
        b"\xff" * 64,
        b"\x80\x04\x95" + b"pickle" * 10,
        safetensors_bytes([]),
        safetensors_bytes({"a": 1}),
        safetensors_bytes({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"0000"),
        safetensors_bytes({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"00"),
        safetensors_bytes({"__metadata__": {"version": 1}}),
        state_to_bytes({"a": np.zeros(2)}, {}) + b"\x00",
    ],
    ids=[
        "empty", "one-byte", "text", "zeros", "ones", "pickle", "list-header", "number-entry",
        "short-array", "unknown-dtype", "number-metadata", "one-byte-more",
    ],
)  # fmt: skip
def test_bytes_that_are_no_state_are_refused(data):
    with pytest.raises(StateError, match=f"{len(data)} bytes"):
        state_from_bytes(data)


def test_bytes_cut_anywhere_are_refused():
    data = state_to_bytes({"alpha": np.array([0.5, 0.5]), "n": np.array(3)}, METADATA)
    for length in range(len(data)):
        with pytest.raises(StateError):
            state_from_bytes(data[:length])


def test_check_state_returns_the_arrays():
    assert_same_arrays(check_state(filled_state(), CONFIG), filled_state())


@pytest.mark.parametrize("name", sorted(state_layout(CONFIG)))
def test_missing_array_is_named(name):
    state = filled_state()
    del state[name]

    with pytest.raises(StateError, match=rf"missing \['{name}'\], not known nothing"):
        check_state(state, CONFIG)


def test_unknown_array_is_named():
    with pytest.raises(StateError, match=r"missing nothing, not known \['momentum'\]"):
        check_state(filled_state() | {"momentum": np.zeros(1)}, CONFIG)


def test_array_of_another_shape_is_named_with_both_shapes():
    with pytest.raises(StateError, match=r"alpha must have shape \(3,\).* not \(3, 1\)"):
        check_state(filled_state() | {"alpha": np.ones((3, 1), "float32")}, CONFIG)


def test_count_with_a_dimension_is_refused():
    with pytest.raises(StateError, match=r"row_count must have shape \(\).* not \(1,\)"):
        check_state(filled_state() | {"row_count": np.array([5])}, CONFIG)


def test_array_of_another_dtype_is_named_with_both_dtypes():
    with pytest.raises(StateError, match="alpha must have .*float32.* not .*float64"):
        check_state(filled_state() | {"alpha": np.ones(3)}, CONFIG)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_features": 4},
        {"n_classes": 3},
        {"n_hidden_layers": 3},
        {"n_hidden_units": 5},
        {"dtype": "float64"},
        {"input_head": "none"},
        {"input_head": "recursive"},
        {"heads": "last"},
        {"standardize": False},
        {"update_batch_size": 1},
        {"update_batch_size": 4},
    ],
    ids=str,
)
def test_state_of_another_architecture_is_refused(changes):
    other = ModelConfig(**CONFIG.to_dict() | changes)

    with pytest.raises(StateError):
        check_state(filled_state(other), CONFIG)


def test_config_survives_metadata():
    assert config_from_metadata(config_to_metadata(CONFIG)) == CONFIG


def test_config_survives_the_bytes_of_a_state():
    _, metadata = state_from_bytes(state_to_bytes({}, config_to_metadata(CONFIG)))

    assert config_from_metadata(metadata) == CONFIG


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"config": ""},
        {"config": "{"},
        {"config": "null"},
        {"config": "[1]"},
        {"config": "{}"},
        {"config": json.dumps({"n_features": 3})},
        {"config": json.dumps(CONFIG.to_dict() | {"momentum": 0.9})},
        {"config": json.dumps(CONFIG.to_dict() | {"beta": 1.5})},
        {"config": json.dumps(CONFIG.to_dict() | {"learning_rate": float("nan")})},
    ],
    ids=[
        "none", "empty", "half-json", "null", "list", "no-settings", "setting-missing",
        "setting-unknown", "out-of-range", "nan",
    ],
)  # fmt: skip
def test_metadata_without_usable_settings_is_refused(metadata):
    with pytest.raises(StateError, match="without usable model settings"):
        config_from_metadata(metadata)


def test_finite_state_is_finite():
    assert is_finite(filled_state())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["hidden_kernel_1", "alpha", "scaler_m2"])
def test_one_value_that_is_not_finite_is_noticed(name, value):
    state = filled_state()
    state[name].flat[-1] = value

    assert not is_finite(state)
