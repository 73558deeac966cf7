"""Rows that are packed come out as they went in."""

import pyarrow as pa

from app.streaming.sources.packed_rows import _unpack, pack

ROWS = pa.record_batch(
    {
        "sequence": pa.array([7, 8, 9], pa.int64()),
        "text": pa.array(["a,1", None, ""]),
        "x": pa.array([[0.5, None], None, []], pa.list_(pa.float32())),
    }
)


def test_each_batch_is_one_value_and_comes_out_as_it_was():
    packed = [pack(ROWS), pack(ROWS.slice(1, 1))]
    assert [batch.num_rows for batch in packed] == [1, 1]
    both = pa.concat_batches(packed)
    assert list(_unpack(iter([both]))) == [ROWS, ROWS.slice(1, 1)]


def test_part_of_a_batch_carries_no_more_than_its_rows():
    many = pa.record_batch({"x": pa.array(range(100_000), pa.int64())})
    assert pack(many.slice(5, 10)).nbytes < 2_000
