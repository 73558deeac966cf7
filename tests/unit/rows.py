"""Contracts, and what becomes of rows under them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa

from app.contract import (
    DIVERGED,
    DUPLICATE_ID,
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_TIME,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WRONG_LENGTH,
    Contract,
)
from app.files.reading.lines import COMMAS, CsvDialect
from app.parsing.row_parser import ParsingRules, RowParser
from app.parsing.times import TimeRules

KEYED = Contract(
    columns=("id", "t", "x0", "x1", "y"),
    features=("x0", "x1"),
    n_features=2,
    classes=("0", "1", "up"),
    label="y",
    id="id",
    time="t",
)
ARRAYS = Contract(
    columns=("f", "y"), features=("f",), n_features=2, classes=("0", "1"), label="y", is_array=True
)
ONE_FEATURE = Contract(
    columns=("id", "t", "x", "y"),
    features=("x",),
    n_features=1,
    classes=("0", "1"),
    label="y",
    id="id",
    time="t",
)
REASONS = {
    NULL_ID,
    DUPLICATE_ID,
    NULL_TIME,
    NULL_FEATURE,
    NAN_FEATURE,
    INFINITE_FEATURE,
    WRONG_LENGTH,
    UNPARSABLE,
    UNKNOWN_LABEL,
    DIVERGED,
}
"""Why a row of a replay may be a dead letter."""

NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
GOOD = {"id": "a", "t": 1, "x0": 1.5, "x1": 2, "y": 0}
NAN, INFINITY = float("nan"), float("inf")

NUMBER_TYPES = [
    *(pa.float16(), pa.float32(), pa.float64()),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64()),
    pa.decimal128(5, 2),
]

SECONDS = ParsingRules(times=TimeRules("s"))
"""Rules by which small numbers are times too."""


def text_batch(
    file_format: str,
    lines: Sequence[str | bytes],
    header: Sequence[str] = (),
    first: int = 0,
    dialect: CsvDialect = COMMAS,
) -> pa.RecordBatch:
    """Return lines as a raw batch, numbered from ``first`` on."""
    said = {"format": file_format}
    if header:
        said |= {"header": json.dumps(header), "dialect": dialect.to_metadata()}
    schema = pa.schema([("sequence", pa.int64()), ("text", pa.binary())], said)
    data = [line.encode() if isinstance(line, str) else line for line in lines]
    numbers = pa.array(range(first, first + len(data)), pa.int64())
    return pa.RecordBatch.from_arrays([numbers, pa.array(data, pa.binary())], schema=schema)


def typed_batch(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    """Return typed columns as a raw batch."""
    numbers = pa.array(range(len(next(iter(columns.values())))), pa.int64())
    fields = [("sequence", pa.int64()), *((name, each.type) for name, each in columns.items())]
    schema = pa.schema(fields, {"format": "parquet"})
    return pa.RecordBatch.from_arrays([numbers, *columns.values()], schema=schema)


def event(**kinds: pa.DataType) -> dict[str, pa.DataType]:
    """Return the types of an event's columns, some of them others than usual."""
    return {"id": pa.string(), "t": pa.int64(), "x": pa.float64(), "y": pa.int32()} | kinds


def event_columns(**given: pa.Array) -> pa.RecordBatch:
    """Return events with some of their columns, and good ones in place of the others."""
    n = len(next(iter(given.values())))
    usual = {"id": "a", "t": 1, "x": 0.5, "y": 0}
    return typed_batch({name: pa.array([each] * n) for name, each in usual.items()} | given)


def as_item(number: int | None, kind: pa.DataType) -> object:
    """Return a number as Arrow takes it for a column of a type."""
    if number is None:
        return None
    if pa.types.is_decimal(kind):
        return Decimal(number)
    if pa.types.is_floating(kind):
        return np.float16(number) if pa.types.is_float16(kind) else float(number)
    return str(number) if pa.types.is_string(kind) else kind.to_pandas_dtype()(number)


def parsed(
    contract: Contract, batch: pa.RecordBatch, rules: ParsingRules = SECONDS, **options
) -> list[dict]:
    """Return what becomes of the rows of a raw batch."""
    parser = RowParser(contract, rules)
    found = parser.parse(batch, **options)
    found.validate(full=True)
    assert found.schema == parser.schema
    return found.to_pylist()


def validated(
    contract: Contract,
    file_format: str,
    rows: Sequence,
    schema: dict[str, pa.DataType] | None = None,
    rules: ParsingRules = SECONDS,
    **options,
) -> list[dict]:
    """Return what becomes of lines of text, or of tuples in the columns of ``schema``."""
    if schema is None:
        batch = text_batch(file_format, rows, contract.columns if file_format == "csv" else ())
    else:
        columns = zip(*rows, strict=True)
        kinds = zip(schema.items(), columns, strict=True)
        batch = typed_batch({name: pa.array(column, kind) for (name, kind), column in kinds})
    return parsed(contract, batch, rules, **options)


def named(contract: Contract, file_format: str, cases: dict) -> dict[str, dict]:
    """Return what becomes of each case's row, all in one batch."""
    rows = validated(contract, file_format, [case[0] for case in cases.values()])
    return dict(zip(cases, rows, strict=True))


def as_json(**changes) -> str:
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v != "absent"})
