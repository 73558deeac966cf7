"""A value means the same whoever wrote it, in whatever form."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contract import INFINITE_FEATURE, NAN_FEATURE, NULL_FEATURE, NULL_ID, UNPARSABLE, Contract
from app.files.finders import DeltaFinder
from app.files.reading.readers import open_arrived
from app.files.sequence import START, FileSequence
from app.parsing.cells import MISSING_TOKENS, canonical_text
from app.parsing.packed_rows import ARROW, JSON, RowSource
from app.parsing.row_parser import RowParser
from tests.unit.rows import text_batch, typed_batch

# What a column of one type may hold.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=12)
LIKE_NUMBERS = st.sampled_from(
    ["007", " 1 ", "1.0", "1.50", "01.0", "1e5", "1e+05", "12e4", "1.0E7", "+1", ".5", "5.", "-0.0",
     "NaN", "nan", "inf", "-Infinity", "NA", "null", "?", "", " ", "\u00a01", "True", "false",
     "1e400", "1_000", "0x10", "1,5", "nan(1)", "\ufeff1", '"', '""', "a\nb", "2024-01-01",
     "-0", "0.00001", "3.4028235e+38", "3.4028236e38"]
)  # fmt: skip
NUMBER_TEXT = st.floats().map(repr) | st.integers(-(10**25), 10**25).map(str) | st.builds(
    "{}{}{}".format, st.sampled_from(["", " ", "\u00a0", "\t"]), st.floats(allow_nan=False),
    st.sampled_from(["", " "]),
)  # fmt: skip
KINDS = {
    "text": TEXT | LIKE_NUMBERS,
    "number text": NUMBER_TEXT | LIKE_NUMBERS,
    "int": st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5),
    "big int": st.integers(-(10**37), 10**37) | st.sampled_from([2**63, 2**64, -(2**63) - 1]),
    "float": st.floats()
    | st.integers(-(2**60), 2**60).map(float)
    | st.sampled_from([-0.0, 1e16, 1e22, 1e23, 5e-324, 1e-5, 1e-7, 0.1 + 0.2, 1e39, 1e308]),
    "bool": st.booleans(),
}
TYPED = list(KINDS)
KINDS["mixed"] = st.one_of(*KINDS.values())
TYPES = {
    "text": [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())],
    "int": [pa.int64()],
    "big int": [pa.decimal128(38, 0)],
    "float": [pa.float64()],
    "bool": [pa.bool_()],
    "mixed": [None],
}


@dataclass(frozen=True)
class Column:
    """Values of one type, and how Arrow holds them."""

    kind: str
    values: list[Any]
    type: pa.DataType | None

    def arrow(self) -> pa.Array:
        values = self.values
        if self.kind == "big int":
            values = [value if value is None else Decimal(value) for value in values]
        if pa.types.is_dictionary(self.type):
            return pa.array(values, self.type.value_type).dictionary_encode()
        if pa.types.is_binary(self.type):
            values = [value if value is None else value.encode() for value in values]
        return pa.array(values, self.type)

    def pandas(self) -> pd.Series:
        if None in self.values and self.kind != "float":
            # By itself pandas makes floating-point numbers of integers.
            return pd.Series(self.values, dtype=object)
        return pd.Series(self.values)


Columns = dict[str, Column]

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?"


@st.composite
def columns(draw: st.DrawFn, kinds: list[str] = TYPED) -> Columns:
    n = draw(st.integers(1, 16))

    def column() -> Column:
        kind = draw(st.sampled_from(kinds))
        values = draw(st.lists(st.none() | KINDS[kind], min_size=n, max_size=n))
        types = TYPES["text" if "text" in kind else kind]
        return Column(kind, values, draw(st.sampled_from(types)))

    return {name: column() for name in ("id", "x", "y")}


def rows_of(given: Columns) -> list[dict[str, Any]]:
    values = (column.values for column in given.values())
    return [dict(zip(given, row, strict=True)) for row in zip(*values, strict=True)]


def table_of(given: Columns) -> pa.Table:
    return pa.table({name: column.arrow() for name, column in given.items()})


def frame_of(given: Columns) -> pd.DataFrame:
    return pd.DataFrame({name: column.pandas() for name, column in given.items()})


def write_csv(given: Columns, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(given)
        writer.writerows(row.values() for row in rows_of(given))


def write_quoted_csv(given: Columns, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(given)
        writer.writerows(row.values() for row in rows_of(given))


def write_csv_of_arrow(given: Columns, path: Path) -> None:
    table = table_of(given)
    plain = [column.cast(pa.string()) if pa.types.is_binary(column.type) else column
             for column in table.columns]  # fmt: skip
    pyarrow.csv.write_csv(pa.table(plain, table.column_names), path)


def write_json(given: Columns, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows_of(given)))


def write_json_in_unicode(given: Columns, path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows_of(given)]
    path.write_text("".join(lines), newline="")


def write_orjson(given: Columns, path: Path) -> None:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows_of(given)))


FILE_WRITERS: dict[str, Callable[[Columns, Path], object]] = {
    "csv": write_csv,
    "csv in quotes": write_quoted_csv,
    "csv of Arrow": write_csv_of_arrow,
    "csv of pandas": lambda given, path: frame_of(given).to_csv(path, index=False),
    "json": write_json,
    "json in Unicode": write_json_in_unicode,
    "json of orjson": write_orjson,
    "parquet": lambda given, path: pq.write_table(table_of(given), path),
    "parquet of pandas": lambda given, path: frame_of(given).to_parquet(path, index=False),
}
WITHOUT_NAN = {"csv of pandas", "json of orjson", "parquet of pandas"}
"""Those that write a missing value in place of a NaN."""
WITHOUT_INFINITY = {"json of orjson"}
WITHOUT_BIG_INTEGERS = {"json of orjson", "parquet of pandas"}


def written(writer: str, given: Columns, directory: Path) -> list[pa.RecordBatch]:
    """Return what is read of rows that a writer has written."""
    path = directory / writer
    FILE_WRITERS[writer](given, path)
    files = FileSequence([str(path)], writer.split()[0], list(given))
    batches, _ = files.read(START, 1000)
    files.close()
    return batches


def arrow_message(given: Columns) -> tuple[str, list[bytes]]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table_of(given).schema) as stream:
        stream.write_table(table_of(given))
    return ARROW, [bytes(sink.getvalue())]


def redis_entries(given: Columns) -> tuple[str, list[bytes]]:
    """Return the rows as the Redis source has them, whose fields are text."""
    entries = [
        {name: str(value) for name, value in row.items() if value is not None}
        for row in rows_of(given)
    ]
    return JSON, [json.dumps(entry).encode() for entry in entries]


def sent(encoding: str, messages: list[bytes], parser: RowParser) -> Iterator[pa.RecordBatch]:
    numbers = pa.array(range(len(messages)), pa.int64())
    return RowSource(encoding, parser).batches(numbers, pa.array(messages, pa.binary()))


def id_of(value: Any) -> str | None:
    if isinstance(value, str):
        text = canonical_text(value)
        return None if text.lower() in ("", "nan") else text
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        text = format(Decimal(repr(value)), "f")
        whole = int(value) == value
        return str(int(Decimal(text))) if whole else text
    return None if value is None or value != value else str(value)


def label_of(value: Any) -> str | None:
    text = id_of(value)
    return None if text is None or text.lower() in MISSING_TOKENS else text


def contract_of(given: Columns) -> Contract:
    labels = sorted({*map(label_of, given["y"].values), "0", "1"} - {None})
    return Contract(("id", "x", "y"), ("x",), 1, tuple(labels), label="y", id="id")


def outcome(parser: RowParser, batches: Iterable[pa.RecordBatch]) -> list[tuple]:
    """Return of each row the id, the label, the number in its bits, and the reason."""
    rows = pa.Table.from_batches(map(parser.parse, batches), parser.schema).to_pylist()
    return [
        (
            row["event_id"],
            row["label_index"],
            row["features"] and np.float64(row["features"][0]).tobytes(),
            row["reason"],
        )
        for row in rows
    ]


def number_of(value: Any) -> float | str | None:
    """Return a feature, or the reason why it is none."""
    if isinstance(value, str):
        text = value.strip().lower()
        if re.fullmatch(r"[+-]?(nan|inf|infinity)|" + NUMBER, text):
            value = float(text)
        elif text in ("true", "false"):
            value = text == "true"
        else:
            return NULL_FEATURE if text in MISSING_TOKENS else UNPARSABLE
    if value is None:
        return NULL_FEATURE
    number = float(value)
    if math.isnan(number):
        return NAN_FEATURE
    with np.errstate(over="ignore"):
        return INFINITE_FEATURE if np.isinf(np.float32(number)) else number


def expected(rows: list[dict[str, Any]], contract: Contract) -> list[tuple]:
    outcomes = []
    for row in rows:
        event_id, label, number = id_of(row["id"]), label_of(row["y"]), number_of(row["x"])
        reason = NULL_ID if event_id is None else number if isinstance(number, str) else None
        index = None if label is None else contract.classes.index(label)
        outcomes.append((event_id, index, None if reason else np.float64(number).tobytes(), reason))
    return outcomes


def is_lost(value: Any, writer: str) -> bool:
    """Return whether a writer writes a number that is not finite as a missing value."""
    if not isinstance(value, float):
        return False
    nan, infinite = math.isnan(value), math.isinf(value)
    return (nan and writer in WITHOUT_NAN) or (infinite and writer in WITHOUT_INFINITY)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written")


def check(parser: RowParser, given: Columns, writer: str, batches: Iterable[Any]) -> None:
    rows = [
        {name: None if is_lost(value, writer) else value for name, value in row.items()}
        for row in rows_of(given)
    ]
    assert outcome(parser, batches) == expected(rows, parser.contract), writer


@given(given=columns())
@settings(max_examples=250, deadline=None, derandomize=True)
def test_every_writer_of_a_typed_column_writes_the_same_rows(directory, given):
    parser = RowParser(contract_of(given))
    for writer in FILE_WRITERS:
        try:
            batches = written(writer, given, directory)
        except (OverflowError, TypeError):
            assert writer in WITHOUT_BIG_INTEGERS
            assert any(each.kind == "big int" for each in given.values())
            continue
        check(parser, given, writer, batches)
    check(parser, given, "arrow", sent(*arrow_message(given), parser))
    check(parser, given, "redis", sent(*redis_entries(given), parser))


@given(given=columns(kinds=["mixed"]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_writer_of_rows_writes_the_same_rows(directory, given):
    parser = RowParser(contract_of(given))
    for writer in ("csv", "csv in quotes", "json", "json in Unicode", "json of orjson"):
        with contextlib.suppress(TypeError):
            check(parser, given, writer, written(writer, given, directory))
    check(parser, given, "redis", sent(*redis_entries(given), parser))


@given(given=columns())
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_delta_table_holds_the_same_rows(directory, given):
    place = directory / uuid.uuid4().hex
    table = table_of(given)
    for i, column in enumerate(table.columns):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(i, table.column_names[i], column.cast(pa.string()))
    deltalake.write_deltalake(place, table)
    paths, _ = DeltaFinder(place).find((), {})
    batches, _ = FileSequence(paths, "parquet", list(given), open_arrived).read(START, 1000)
    check(RowParser(contract_of(given)), given, "delta", batches)


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_float32_has_the_id_that_its_text_has(values):
    contract = Contract(("id", "x"), ("x",), 1, ("0", "1"), id="id")
    parser = RowParser(contract)
    column = pa.array(values, pa.float32())
    frame = pd.DataFrame({"id": np.array(values, np.float32), "x": np.array(values, np.float32)})
    header, *lines = frame.to_csv(index=False).splitlines()
    batches = {
        "typed": typed_batch({"id": column, "x": column}),
        "csv": text_batch("csv", lines, header.split(",")),
    }
    found = {name: parser.parse(batch) for name, batch in batches.items()}
    assert found["csv"]["event_id"] == found["typed"]["event_id"]
    numbers = {name: each["features"].flatten().to_numpy() for name, each in found.items()}
    assert numbers["typed"].tolist() == values
    assert numbers["csv"].astype(np.float32).tolist() == values
