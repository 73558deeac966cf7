"""Arrow messages: typed rows from good ones, nothing worse than a null row from any other."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest

from app.streaming.sources.arrow_messages import (
    MAX_ROWS_PER_MESSAGE,
    RowsOfMessages,
    rows_of_message,
)

SCHEMA = pa.schema([("x", pa.float32()), ("id", pa.string())])
GOOD = {"x": [1.0, 2.0], "id": ["a", "b"]}


def stream(columns=GOOD, rows_per_batch=None, options=None) -> bytes:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)
    return sink.getvalue().to_pybytes()


def rows(message) -> list[dict] | None:
    table = rows_of_message(message, SCHEMA)
    assert table is None or table.schema == SCHEMA
    return None if table is None else table.to_pylist()


AB = [{"x": 1.0, "id": "a"}, {"x": 2.0, "id": "b"}]


@pytest.mark.parametrize(
    "message",
    [
        stream(),
        stream(rows_per_batch=1),
        stream({"id": GOOD["id"], "x": GOOD["x"]}),
        stream({"x": [1, 2], "id": ["a", "b"]}),
        stream({"x": ["1", "2.0"], "id": pa.array(["a", "b"]).dictionary_encode()}),
        stream({"x": [decimal.Decimal(1), decimal.Decimal(2)], "id": [b"a", b"b"]}),
        stream(
            {"x": pa.array([1, 2], pa.float64()), "id": pa.array(["a", "b"], pa.large_string())}
        ),
        stream(options=pa.ipc.IpcWriteOptions(compression="zstd")),
    ],
    ids=["plain", "batches", "order", "integers", "text", "decimals", "wide", "compressed"],
)
def test_values_that_fit_come_in_the_types_of_the_schema(message):
    assert rows(message) == AB


def test_nulls_and_streams_without_rows_are_as_they_are():
    assert rows(stream({"x": [None, 1.0], "id": pa.nulls(2)})) == [
        {"x": None, "id": None},
        {"x": 1.0, "id": None},
    ]
    assert rows(stream(SCHEMA.empty_table())) == []


@pytest.mark.parametrize(
    "message",
    [
        None,
        b"",
        b"garbage",
        b'{"x": 1, "id": "a"}',
        stream()[:-20],
        stream() + stream(),
        stream() + b"x",
        stream({"x": [1.0]}),
        stream(GOOD | {"more": [1, 2]}),
        stream({"x": [1.0], "ID": ["a"]}),
        stream({"x": ["one", "2"], "id": ["a", "b"]}),
        stream({"x": [[1.0], [2.0]], "id": ["a", "b"]}),
        stream({"x": [1.0], "id": [b"\xff"]}),
        stream(pa.table([[1.0], [2.0], ["a"]], names=["x", "x", "id"])),
        stream({"x": [1.0] * (MAX_ROWS_PER_MESSAGE + 1), "id": ["a"] * (MAX_ROWS_PER_MESSAGE + 1)}),
    ],
)
def test_a_message_that_is_no_stream_of_such_rows_has_none(message):
    assert rows(message) is None


def test_as_many_rows_as_a_message_may_have_are_taken():
    full = {"x": [1.0] * MAX_ROWS_PER_MESSAGE, "id": ["a"] * MAX_ROWS_PER_MESSAGE}
    assert len(rows(stream(full))) == MAX_ROWS_PER_MESSAGE


def test_a_damaged_message_never_raises():
    message = stream({"x": [1.0] * 50, "id": [f"row {i}" for i in range(50)]}, rows_per_batch=10)
    random = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(message)
        for at in random.integers(0, len(message), size=random.integers(1, 8)):
            damaged[at] = random.integers(0, 256)
        rows(bytes(damaged))


def test_each_row_has_a_number_of_its_own_and_an_unusable_message_has_one():
    messages = [stream(), b"garbage", None, stream(SCHEMA.empty_table()), stream(rows_per_batch=1)]
    first = [i << 10 for i in range(len(messages))]
    batches = [
        pa.record_batch({"sequence": first[:2], "message": messages[:2]}),
        pa.record_batch({"sequence": first[2:], "message": messages[2:]}),
    ]
    found = pa.Table.from_batches(RowsOfMessages(SCHEMA)(iter(batches)))
    assert found.column_names == ["sequence", "x", "id"]
    assert found.to_pylist() == [
        {"sequence": 0, **AB[0]},
        {"sequence": 1, **AB[1]},
        {"sequence": 1 << 10, "x": None, "id": None},
        {"sequence": 2 << 10, "x": None, "id": None},
        {"sequence": 4 << 10, **AB[0]},
        {"sequence": (4 << 10) + 1, **AB[1]},
    ]


def test_many_messages_come_in_batches_of_bounded_size():
    message = stream({"x": [1.0] * 1000, "id": ["a"] * 1000})
    given = pa.record_batch({"sequence": [i << 10 for i in range(25)], "message": [message] * 25})
    assert [len(b) for b in RowsOfMessages(SCHEMA)(iter([given]))] == [10_000, 10_000, 5000]


def test_no_rows_give_no_batch():
    none = pa.record_batch(
        {"sequence": pa.array([], pa.int64()), "message": pa.array([], "binary")}
    )
    assert list(RowsOfMessages(SCHEMA)(iter([none]))) == []
