"""Rows that are packed come out as they went in, and a source's rows as they are parsed."""

import math

import numpy as np
import pyarrow as pa
import pytest

from app.parsing.packed_rows import (
    ARROW,
    JSON,
    PACKED,
    PACKED_SCHEMA,
    RowSource,
    bytes_of,
    features_of,
    of_one_length,
    packed,
    packed_batches,
    unpacked,
)
from app.parsing.row_parser import RowParser
from tests.unit.rows import KEYED, text_batch, typed_batch

ROWS = typed_batch(
    {
        "text": pa.array(["a,1", None, ""]),
        "x": pa.array([[0.5, None], None, []], pa.list_(pa.float32())),
        "sequence": pa.array([5, 6, 7]),
    }
)
LINES = text_batch("csv", ["1,a", "2,b", "3,c", "4,d", "5,e"], ("x", "y"))


def values(batches: list[pa.RecordBatch]) -> pa.ChunkedArray:
    return pa.Table.from_batches(batches, PACKED_SCHEMA)["rows"]


def test_rows_come_out_as_they_were_with_what_their_schema_says():
    found = list(unpacked(values(packed_batches([ROWS, LINES], 10))))
    assert found == [ROWS, LINES]
    assert [each.schema.metadata for each in found] == [ROWS.schema.metadata, LINES.schema.metadata]


def test_a_value_holds_as_many_rows_at_most():
    batches = packed_batches([LINES, ROWS], 2)
    assert [len(each) for each in unpacked(values(batches))] == [2, 2, 1, 2, 1]
    assert all(len(batch) == 1 for batch in batches)
    assert pa.concat_batches([*unpacked(values(batches))][:3]).equals(LINES)


def test_no_rows_are_no_value():
    assert packed_batches([], 10) == []
    assert packed_batches([LINES.slice(0, 0)], 10) == []


def test_part_of_a_batch_carries_no_more_than_its_rows():
    many = pa.record_batch({"x": pa.array(range(100_000), pa.int64())})
    assert len(packed(many.slice(5, 10))) < 2_000


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([[0.1, -0.0], None, [1e300, 5e-324]], np.float64),
        # A number that float32 holds, beside one that it does not.
        ([[0.5, 1.0], [16777217.0, 1.0]], np.float64),
        ([[0.5, -0.0], None, [16777216.0, math.nan]], np.float32),
        ([[float(np.float32(0.1)), 3e38], [0.0, 1e-45]], np.float64),
        ([[float(np.float32(0.1)), 3e38]], np.float64),
        ([[float(np.float32(0.1)), 2.0**100]], np.float32),
    ],
)
def test_features_become_bytes_of_the_least_that_holds_them_exactly(rows, kind):
    array = pa.array(rows, pa.list_(pa.float64(), 2))
    wanted = [None if row is None else np.array(row, kind).tobytes() for row in rows]
    found = bytes_of(array).to_pylist()
    assert found == wanted
    for row, given in zip(found, rows, strict=True):
        if given is not None:
            again = features_of(row, 2)
            assert again.dtype == np.float64
            assert again.tobytes() == np.array(given).tobytes()


def test_no_features_become_no_bytes():
    array = pa.array([[0.1, 0.2], None, [0.3, 0.4]], pa.list_(pa.float64(), 2))
    assert bytes_of(array[1:]).to_pylist() == [None, np.array([0.3, 0.4]).tobytes()]
    assert bytes_of(array[:0]).to_pylist() == []


def test_features_of_several_batches_get_one_length():
    narrow, wide = np.array([1.0, 2.0], np.float32), np.array([0.1, 0.2])
    rows = [narrow.tobytes(), wide.tobytes()]
    assert of_one_length(rows, 2) == [narrow.astype(np.float64).tobytes(), wide.tobytes()]
    assert of_one_length(rows[:1] * 2, 2) == rows[:1] * 2
    assert of_one_length([], 2) == []


class TestRowSource:
    NUMBERS = pa.array([7, 8], pa.int64())

    def source(self, encoding: str) -> RowSource:
        return RowSource(encoding, RowParser(KEYED))

    def test_packed_rows_have_their_own_numbers(self):
        given = pa.array([packed(LINES), packed(ROWS)])
        assert list(self.source(PACKED).batches(self.NUMBERS, given)) == [LINES, ROWS]

    def test_json_is_one_object_a_value(self):
        given = pa.array([b'{"id": "a"}', None], pa.binary())
        [batch] = self.source(JSON).batches(self.NUMBERS, given)
        assert batch.schema.metadata == {b"format": b"json"}
        assert batch.to_pydict() == {"sequence": [7, 8], "text": [b'{"id": "a"}', None]}
        assert list(self.source(JSON).batches(self.NUMBERS[:0], given[:0])) == []

    def test_an_arrow_stream_is_many_rows_numbered_from_that_of_its_value(self):
        rows = pa.record_batch({"id": ["a", "b", "c"]})
        given = pa.array([packed(rows)], pa.binary())
        [batch] = self.source(ARROW).batches(self.NUMBERS[:1], given)
        assert batch.schema.metadata == {b"format": b"parquet"}
        assert batch.to_pydict() == {"sequence": [7, 8, 9], "id": ["a", "b", "c"]}
