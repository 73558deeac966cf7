"""Arrow messages: typed rows from good ones, nothing worse than a null row from any other."""

from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest

from app.contract import UNPARSABLE, Contract
from app.parsing.arrow_messages import MAX_ROWS_PER_MESSAGE, numbered_rows, rows_of_message
from app.parsing.row_parser import RowParser

CONTRACT = Contract(("x", "id"), ("x",), 1, ("0", "1"), id="id")
GOOD = {"x": [1.0, 2.0], "id": ["a", "b"]}


def stream(columns=GOOD, rows_per_batch=None, options=None) -> bytes:
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows_per_batch)
    return sink.getvalue().to_pybytes()


def numbered(messages: list[bytes | None], **options) -> list[pa.RecordBatch]:
    """Return the rows of messages, each with numbers of its own from a multiple of 1,024 on."""
    first = pa.array([i << 10 for i in range(len(messages))], pa.int64())
    return list(numbered_rows(first, pa.array(messages, pa.binary()), **options))


def parsed(*messages: bytes | None) -> list[tuple]:
    """Return the id and the feature of each row, or the reason why it is of no use."""
    parser = RowParser(CONTRACT)
    rows = [row for batch in numbered([*messages]) for row in parser.parse(batch).to_pylist()]
    return [row["reason"] or (row["event_id"], *row["features"]) for row in rows]


AB = [("a", 1.0), ("b", 2.0)]


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
        stream(GOOD | {"more": [1, 2]}),
    ],
    ids=["plain", "batches", "order", "integers", "text", "decimals", "wide", "compressed", "more"],
)
def test_rows_of_any_types_mean_the_same(message):
    assert parsed(message) == AB


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (stream({"x": ["one", "2"], "id": ["a", "b"]}), ["unparsable", ("b", 2.0)]),
        (stream({"x": [1.0, None], "id": [None, "b"]}), ["null_id", "null_feature"]),
        (stream({"x": [[1.0], [2.0]], "id": ["a", "b"]}), ["unparsable"] * 2),
        (stream({"x": [1.0]}), ["null_id"]),
        (stream({"x": [1.0], "ID": ["a"]}), ["null_id"]),
        (stream({"x": [1.0], "id": [b"\xff"]}), ["null_id"]),
        (stream(pa.table([[1.0], [2.0], ["a"]], names=["x", "x", "id"])), ["null_feature"]),
    ],
    ids=["text", "nulls", "arrays", "no id", "case", "no UTF-8", "twice"],
)
def test_a_row_of_a_sound_stream_is_of_no_use_for_itself_alone(message, found):
    assert parsed(stream(), message, stream()) == [*AB, *found, *AB]


def test_streams_without_rows_have_none():
    assert parsed(stream(pa.schema([("x", pa.float32())]).empty_table())) == []


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
        stream({"x": [1.0] * (MAX_ROWS_PER_MESSAGE + 1), "id": ["a"] * (MAX_ROWS_PER_MESSAGE + 1)}),
    ],
)
def test_a_message_that_is_no_stream_of_rows_is_one_row_that_cannot_be_parsed(message):
    assert rows_of_message(message) is None
    assert parsed(stream(), message, stream()) == [*AB, UNPARSABLE, *AB]


def test_as_many_rows_as_a_message_may_have_are_taken():
    full = {"x": [1.0] * MAX_ROWS_PER_MESSAGE, "id": ["a"] * MAX_ROWS_PER_MESSAGE}
    assert parsed(stream(full)) == [("a", 1.0)] * MAX_ROWS_PER_MESSAGE


def test_a_damaged_message_never_raises():
    message = stream({"x": [1.0] * 50, "id": [f"row {i}" for i in range(50)]}, rows_per_batch=10)
    random = np.random.default_rng(0)
    n_sound = 0
    for _ in range(2000):
        damaged = bytearray(message)
        for at in random.integers(0, len(message), size=random.integers(1, 8)):
            damaged[at] = random.integers(0, 256)
        found = parsed(bytes(damaged))
        n_sound += len(found) == 50
        assert found
    assert 0 < n_sound < 2000


def test_each_row_has_a_number_of_its_own_and_an_unusable_message_has_one():
    empty = stream(pa.table(GOOD).slice(0, 0))
    batches = numbered([stream(), b"garbage", None, empty, stream(rows_per_batch=1)])
    found = [row for batch in batches for row in batch.to_pylist()]
    assert found == [
        {"sequence": 0, "x": 1.0, "id": "a"},
        {"sequence": 1, "x": 2.0, "id": "b"},
        {"sequence": 1 << 10, "damaged": None},
        {"sequence": 2 << 10, "damaged": None},
        {"sequence": 4 << 10, "x": 1.0, "id": "a"},
        {"sequence": (4 << 10) + 1, "x": 2.0, "id": "b"},
    ]
    assert [b"damage" in batch.schema.metadata for batch in batches] == [False, True, True, False]


def test_rows_of_other_types_are_not_put_together():
    other = stream({"id": [1, 2], "x": ["1", "2"]})
    assert [batch.schema.names for batch in numbered([stream(), stream(), other, stream()])] == [
        ["sequence", "x", "id"],
        ["sequence", "id", "x"],
        ["sequence", "x", "id"],
    ]
    assert parsed(stream(), other, stream()) == [*AB, ("1", 1.0), ("2", 2.0), *AB]


def test_many_messages_come_in_batches_of_bounded_size():
    message = stream({"x": [1.0] * 1000, "id": ["a"] * 1000})
    assert [len(batch) for batch in numbered([message] * 25)] == [10_000, 10_000, 5000]
    assert [len(batch) for batch in numbered([message] * 5, merged=2500)] == [3000, 2000]


def test_no_messages_give_no_batch():
    assert numbered([]) == []
