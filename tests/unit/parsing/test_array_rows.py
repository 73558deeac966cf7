"""Features that come as one array a row."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from app.contract import (
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    UNPARSABLE,
    WRONG_LENGTH,
)
from tests.unit.rows import ARRAYS, INFINITY, NAN, NUMBER_TYPES, as_item, parsed, typed_batch

LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
}
PAIRS = LISTS | {"fixed_size_list": lambda element: pa.list_(element, 2)}


def of_arrays(column: pa.Array, **others: pa.Array) -> list[dict]:
    return parsed(ARRAYS, typed_batch({**others, "f": column, "y": pa.array([0] * len(column))}))


def reasons(column: pa.Array) -> list[str | None]:
    return [row["reason"] for row in of_arrays(column)]


@pytest.mark.parametrize("element", [*NUMBER_TYPES, pa.string()], ids=str)
@pytest.mark.parametrize("list_of", LISTS.values(), ids=LISTS)
def test_arrays_of_any_type(element, list_of):
    arrays = [[1, 2], [1], [1, 2, 3], [], [1, None], None]
    typed = [values and [as_item(v, element) for v in values] for values in arrays]
    found = of_arrays(pa.array(typed, list_of(element)))
    assert [row["reason"] for row in found] == [
        None,
        WRONG_LENGTH,
        WRONG_LENGTH,
        WRONG_LENGTH,
        NULL_FEATURE,
        NULL_FEATURE,
    ]
    assert [row["features"] for row in found] == [[1.0, 2.0]] + [None] * 5


@pytest.mark.parametrize("element", [*NUMBER_TYPES, pa.string()], ids=str)
def test_arrays_of_one_length(element):
    arrays = [[1, 2], [3, None], None]
    typed = [values and [as_item(v, element) for v in values] for values in arrays]
    found = of_arrays(pa.array(typed, pa.list_(element, 2)))
    assert [row["reason"] for row in found] == [None, NULL_FEATURE, NULL_FEATURE]
    assert found[0]["features"] == [1.0, 2.0]


@pytest.mark.parametrize("list_of", PAIRS.values(), ids=PAIRS)
def test_a_slice_of_arrays(list_of):
    arrays = [[8.0, 8.0], [1.0, 2.0], None, [3.0, 4.0], [9.0, 9.0]]
    batch = typed_batch({"f": pa.array(arrays, list_of(pa.float64())), "y": pa.array([0] * 5)})
    found = parsed(ARRAYS, batch.slice(1, 3))
    assert [row["features"] for row in found] == [[1.0, 2.0], None, [3.0, 4.0]]


def test_elements_that_are_no_finite_numbers():
    arrays = [[1.0, NAN], [INFINITY, 1.0], [1.0, 1e39], [INFINITY, -INFINITY]]
    assert reasons(pa.array(arrays)) == [NAN_FEATURE] + [INFINITE_FEATURE] * 3


def test_elements_that_are_kept_once_for_many():
    values = pa.array(["1", "2", "x"]).dictionary_encode()
    arrays = pa.ListArray.from_arrays(pa.array([0, 2, 3, 3], pa.int32()), values)
    assert reasons(arrays) == [None, WRONG_LENGTH, WRONG_LENGTH]


def test_arrays_of_arrays_hold_no_numbers():
    assert reasons(pa.array([[[1.0], [2.0]]])) == [UNPARSABLE]


def test_a_tensor_is_an_array():
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert [row["features"] for row in of_arrays(tensors)] == [[1.0, 2.0], [3.0, 4.0]]


SPARK_VECTOR = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        ("size", pa.int32()),
        ("indices", pa.list_(pa.field("element", pa.int32(), nullable=False))),
        ("values", pa.list_(pa.field("element", pa.float64(), nullable=False))),
    ]
)


def test_vectors_of_spark_are_arrays():
    vectors = [
        {"type": 1, "size": None, "indices": None, "values": [1.5, 2.0]},
        {"type": 0, "size": 2, "indices": [1], "values": [2.0]},
        {"type": 0, "size": 2, "indices": [], "values": []},
        None,
        {"type": 0, "size": 3, "indices": [1], "values": [2.0]},
    ]
    found = of_arrays(pa.array(vectors, SPARK_VECTOR))
    assert [row["features"] for row in found] == [[1.5, 2.0], [0.0, 2.0], [0.0, 0.0], None, None]
    assert [row["reason"] for row in found] == [None] * 3 + [NULL_FEATURE, WRONG_LENGTH]


@pytest.mark.parametrize(
    ("size", "indices", "values"),
    [(2, [2], [1.0]), (2, [-1], [1.0]), (2, [0], []), (2, [0], None), (2**31 - 1, [0], [1.0]),
     (-1, [], []), (None, [0], [1.0]), (2, [0, 1, 2], [1.0, 2.0, 3.0])],
)  # fmt: skip
def test_a_vector_that_is_none_stops_nothing(size, indices, values):
    forged = {"type": 0, "size": size, "indices": indices, "values": values}
    good = {"type": 1, "size": None, "indices": None, "values": [1.5, 2.0]}
    assert reasons(pa.array([forged, good], SPARK_VECTOR)) == [WRONG_LENGTH, None]


@pytest.mark.parametrize("name", SPARK_VECTOR.names)
def test_what_has_the_names_of_a_vector_and_not_its_types_is_none(name):
    fields = {field.name: pa.array([None], field.type) for field in SPARK_VECTOR}
    struct = pa.StructArray.from_arrays(
        list((fields | {name: pa.array(["a"])}).values()), SPARK_VECTOR.names
    )
    assert reasons(struct) == [WRONG_LENGTH]


@pytest.mark.parametrize("values", [pa.array([1.0]), pa.array(["1"]), pa.array([{"a": 1}])])
def test_what_is_no_array_is_of_the_wrong_length(values):
    assert reasons(values) == [WRONG_LENGTH]


def test_an_array_that_is_not_there_is_missing():
    (row,) = parsed(ARRAYS, typed_batch({"z": pa.array([1])}))
    assert row["reason"] == NULL_FEATURE


def test_an_id_is_missed_before_an_array():
    contract = dataclasses.replace(ARRAYS, columns=("id", "f", "y"), id="id")
    columns = {"id": pa.nulls(1), "f": pa.array([None], pa.list_(pa.float64()))}
    (row,) = parsed(contract, typed_batch(columns))
    assert row["reason"] == NULL_ID
