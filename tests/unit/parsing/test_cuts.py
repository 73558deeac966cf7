"""What becomes of a row depends on no other row of its batch."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from app.contract import Contract
from app.files.reading.lines import COMMAS, DELIMITERS, CsvDialect
from app.parsing.cells import MISSING_TOKENS
from app.parsing.packed_rows import packed, unpacked
from app.parsing.row_parser import DEFAULT_RULES, ParsingRules, RowParser
from app.parsing.times import TimeRules
from tests.unit.rows import ARRAYS, KEYED, SECONDS, text_batch

NUMBERS = [
    "1", "1.5", "-2e-3", "+1", ".5", "5.", "1e400", "-1e39", "1e-400", "-0.0", "0", "nan", "NaN",
    "-nan", "nan(1)", "inf", "+Infinity", "infinit", "NA", "null", "?", "", " ", "\t", "\u00a0",
    " 1.5 ", "\u00a02", "3\u00a0", "\x1c4", "\ufeff1", "1\x00", "\u0661", "abc", "1_000", "0x10",
    "1,5", "1 5", "1.234,5", "1,234.5", "1 234,5", "n.a.", "n,a,", "1.5.2", "true", "False", "1d",
    "1e", "--1", "+-1", "9223372036854775808", "12345678901234567890123", "0" * 30 + "1", "-999",
    " -999 ", "-999.0", "-999,0", "1\\\\2", "1\\",
]  # fmt: skip
TEXTS = [
    "a", "17", "17.0", "007", "1e+05", "1.0E7", "12e4", "True", "true", "nan", " b ", "", " ", "é",
    'say "hi"', "a, b", "a; b", "two\nlines", "\ufeffa", "\u00a0c\u00a0", "1", "0", "1.0", "up",
    "UP", "NA", "-0", "1e23", "0.1", "1.50", "100000000000000000000000.0", "a\\", 'a\\"b', "a\tb",
]  # fmt: skip
TIMES = [
    "2024-01-01", "2024-01-01T00:00:00Z", "2024-01-01 00:00:00", "2024-01-01T02:00:00+02:00",
    "2024-01-01T02:00:00+0200", "2024-01-01T02:00:00.1234567", " 2024-01-01 ", "2024",
    "2024-03-10 02:30:00", "2024-11-03 01:30:00", "2024-03-31T02:30:00", "20240101", "2024-W01-1",
    "20240101T000000", "1704067200", "1704067200.25", "1.7040672e9", "-1", "1e30", "nan", "inf",
    "NA", "", " ", "soon", "12:00", "2024-13-01", "2024-01-01T25:00", "2024-01-01T24:00:00",
    "2024-01-01T23:59:60", "2024-01-01T00", "2024-01-01T00:00", "2024-01-01T00:00:00,5",
    "0000-01-01", "0001-01-01", "9999-12-31T23:59:59.999999", "9999-12-31T23:59:59-05:00",
    "0001-01-01T00:00:00+05:00", "true", "False", "2024-01-01T00:00:00 Z", "2024-01-01Z",
    "2024-1-1", "2024-01-01T00:00:00z", "2024-01-01T00:00:00+02", "253402300799999999",
    "-99999999999",
]  # fmt: skip

RULES = {
    "default": DEFAULT_RULES,
    "seconds": SECONDS,
    "microseconds, New York": ParsingRules(times=TimeRules("us", "America/New_York")),
    "Berlin": ParsingRules(times=TimeRules(zone="Europe/Berlin")),
    "-999": ParsingRules(missing=("", "-999"), times=TimeRules("ms")),
    "future": ParsingRules((*MISSING_TOKENS, "n.a.", "n,a,"), rejects_future=True),
}
CONTRACTS = {
    "keyed": KEYED,
    "without an id": dataclasses.replace(KEYED, id=None),
    "feature and id": dataclasses.replace(KEYED, features=("id", "x1")),
    "feature, time and label": Contract(KEYED.columns, ("t", "y"), 2, ("0", "1"), "y", "id", "t"),
    "feedback": Contract.of_feedback(KEYED.columns, ("0", "1", "NA"), id="id", time="t", label="y"),
}

DIALECTS = {
    "commas": COMMAS,
    "decimal commas": CsvDialect(";", decimal=","),
    "points between thousands": CsvDialect(";", decimal=",", thousands="."),
    "commas between thousands": CsvDialect("|", thousands=","),
    "backslashes": CsvDialect("\t", escapes=True),
    "single quotes": CsvDialect(quote="'"),
    "no quotes": CsvDialect("|", quote=""),
}
NESTED = Contract(("x0", "o"), ("x0", "o.x"), 2, ("0", "1"), label="o.y", id="o.id")

POOLS = {"id": TEXTS, "t": TIMES, "x0": NUMBERS, "x1": NUMBERS, "y": TEXTS}
USUAL = {"id": "a", "t": "2024-01-01", "x0": "1.5", "x1": "2", "y": "1"}


def cells_of(name: str) -> st.SearchStrategy[str]:
    """Mostly what is usual, so that not every batch takes the slow way."""
    return st.just(USUAL[name]) | st.sampled_from(POOLS[name]) | st.floats().map(repr)


def quoted(cell: str, dialect: CsvDialect) -> str:
    mark = dialect.quote
    # Without quotes, what a field cannot hold is left out.
    text = cell if mark else cell.replace("\n", "").replace(dialect.delimiter, "")
    return mark + text.replace(mark or "\0", 2 * mark) + mark


@st.composite
def csv_records(draw: st.DrawFn, dialect: CsvDialect) -> bytes:
    cells = []
    for name in USUAL:
        cell = draw(cells_of(name))
        must = any(each in cell for each in f"{dialect.delimiter}{dialect.quote}\n\r")
        form = draw(st.sampled_from(["plain"] * 6 + ["quoted", "raw"]))
        if form == "quoted" or (must and form == "plain"):
            cell = quoted(cell, dialect)
        cells.append(cell.replace("\n", "") if form == "raw" else cell)
    damage = draw(st.sampled_from([None] * 8 + ["short", "long", "bytes", "garbage", "mark"]))
    if damage == "short":
        cells.pop(draw(st.integers(0, 4)))
    if damage == "long":
        cells.insert(draw(st.integers(0, 4)), "9")
    record = dialect.delimiter.join(cells).encode()
    if damage == "bytes":
        return record.replace(b"2", b"\xff", 1)
    if damage == "mark":
        return b"\xef\xbb\xbf" + record
    if damage == "garbage":
        pieces = ['"', '""', "'", "\r", "a", "1", " ", "\n", "\x00", '",', ',"', "\\", *DELIMITERS]
        garbage = "".join(draw(st.lists(st.sampled_from(pieces), max_size=12)))
        # A reader hands out no blank lines.
        return garbage.strip("\r\n").encode() or b"1"
    return record


VALUES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1e23, -0.0, 2**53 + 1])
    | st.sampled_from([[], [1], {"a": 1}, [None], {"a": [float("nan")]}, ["\ud800"], "\ud800"])
)


@st.composite
def json_lines(draw: st.DrawFn) -> bytes:
    row: dict[str, Any] = {}
    for name, usual in USUAL.items():
        as_number = draw(st.booleans()) and name in ("x0", "x1", "y")
        typical = st.just(float(usual) if as_number else usual)
        row[name] = draw(typical | typical | cells_of(name) | VALUES)
    row["o"] = {"x": draw(VALUES), "y": draw(VALUES), "id": draw(VALUES | st.sampled_from(TEXTS))}
    if draw(st.integers(0, 9)) == 0:
        row["o"] = draw(VALUES)
    row["f"] = draw(st.sampled_from(ARRAYS_OF_JSON) | st.lists(VALUES, max_size=3))
    damage = draw(st.sampled_from([None] * 8 + ["missing", "bytes", "open", "no object", "twice"]))
    if damage == "missing":
        del row[draw(st.sampled_from(sorted(row)))]
    line = json.dumps(row, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    if damage == "bytes":
        return line.replace(b"2", b"\xff", 1)
    if damage == "open":
        return line[:-1]
    if damage == "no object":
        return draw(
            st.sampled_from([b"", b"5", b"null", b"[1]", b'"a"', b"NaN", b"{", b"{}", b" "])
        )
    if damage == "twice":
        return line[:-1] + b', "x0": 7, "id": 1e400}'
    return line


ARRAYS_OF_JSON = [[1.5, 2], [1.5, 2], ["1", " 2 "], [1, "NA"], [True, 1], None, 5, "", "a", {}, []]


def outcomes(parser: RowParser, batches: list[pa.RecordBatch], **options: bool) -> list[list]:
    found = [parser.parse(batch, **options) for batch in batches]
    for each in found:
        each.validate(full=True)
    table = pa.Table.from_batches(found, parser.schema)
    # Written out, a NaN equals itself, and a zero has a sign.
    return [[repr(value) for value in row.values()] for row in table.to_pylist()]


def check_cuts(parser: RowParser, batch: pa.RecordBatch, cut: int) -> list[list[str]]:
    """Make sure that rows are parsed alike in any cut, and return what they are parsed as."""
    whole = outcomes(parser, [batch])
    one_by_one = [batch.slice(i, 1) for i in range(len(batch))]
    assert outcomes(parser, one_by_one) == whole
    parts = [batch.slice(0, cut), batch.slice(cut)]
    assert outcomes(parser, parts) == whole
    assert outcomes(parser, list(unpacked(pa.array([packed(batch)])))) == whole
    kept = outcomes(parser, [batch], with_rows=True)
    assert [row[:-1] for row in kept] == [row[:-1] for row in whole]
    return whole


RULES_OF_ALL_KINDS = st.sampled_from(list(RULES.values()))


@given(
    data=st.data(),
    dialect=st.sampled_from(list(DIALECTS.values())),
    contract=st.sampled_from(list(CONTRACTS.values())),
    rules=RULES_OF_ALL_KINDS,
    cut=st.integers(1, 11),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_records_of_csv_are_parsed_alike_in_any_cut(data, dialect, contract, rules, cut):
    lines = data.draw(st.lists(csv_records(dialect), min_size=1, max_size=12))
    parser = RowParser(contract, rules)
    batch = text_batch("csv", lines, KEYED.columns, dialect=dialect)
    whole = check_cuts(parser, batch, cut)
    # Bytes that are no text make every row take the slow way.
    slow = text_batch("csv", [*lines, b"\xff"], KEYED.columns, dialect=dialect)
    assert outcomes(parser, [slow])[:-1] == whole


@given(
    lines=st.lists(json_lines(), min_size=1, max_size=12),
    contract=st.sampled_from([*CONTRACTS.values(), ARRAYS, NESTED]),
    rules=RULES_OF_ALL_KINDS,
    cut=st.integers(1, 11),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_lines_of_json_are_parsed_alike_in_any_cut(lines, contract, rules, cut):
    check_cuts(RowParser(contract, rules), text_batch("json", lines), cut)
