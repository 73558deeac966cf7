"""What is wrong with a dead letter is told by its own cells, in one line."""

from __future__ import annotations

import json

import pytest

from app.contract import DIVERGED, DUPLICATE_ID, Contract
from app.files.reading.lines import CsvDialect
from app.parsing.explain import explain
from app.parsing.row_parser import DEFAULT_RULES, ParsingRules, RowParser
from app.parsing.times import TimeRules
from tests.unit.rows import ARRAYS, KEYED, text_batch

GOOD = {"id": "a", "t": "2024-01-01", "x0": "1", "x1": "2", "y": "0"}
FEEDBACK = Contract.of_feedback(("id", "t", "y"), ("no", "yes"), id="id", time="t", label="y")
LIVE = ParsingRules(rejects_future=True)


def told(
    line: str | bytes,
    contract: Contract = KEYED,
    rules: ParsingRules = DEFAULT_RULES,
    file_format: str = "csv",
) -> str:
    """Return what is said of a line that the parser makes a dead letter of."""
    header = contract.columns if file_format == "csv" else ()
    parsed = RowParser(contract, rules).parse(text_batch(file_format, [line], header))
    (row,) = parsed.to_pylist()
    assert row["reason"] is not None
    said = explain(row["reason"], row["row"], contract, rules)
    assert said == " ".join(said.split())
    return said


def csv(**cells: str) -> str:
    return ",".join((GOOD | cells).values())


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"id": ""}, "column id = '' is no id"),
        ({"x0": ""}, "column x0 = '' holds no value"),
        ({"x1": "NA"}, "column x1 = 'NA' holds no value"),
        ({"x1": "nan"}, "column x1 = 'nan' is NaN"),
        ({"x0": "-1e39"}, "column x0 = '-1e39' is infinite, or beyond the largest float32"),
        ({"x1": "abc"}, "column x1 = 'abc' is not a number"),
        ({"x1": '"-1,5"'}, "column x1 = '-1,5' is not a number; --decimal , reads it as one"),
        ({"y": "7"}, "column y = '7' is none of the classes 0, 1, up"),
        ({"t": ""}, "column t = '' holds no time"),
        ({"t": "01/02/2024"}, "is no time: ISO 8601 with a date, or a number"),
        ({"t": "20240102"}, "a number before 1973; if it counts from 1970, give --time-unit"),
        ({"t": "1704067200000"}, "--time-unit ms makes it 2024-01-01 00:00"),
        ({"t": "1704067200000000"}, "--time-unit us makes it 2024-01-01 00:00"),
    ],
)
def test_a_cell_of_no_use_is_named_with_the_option_that_would_read_it(cells, said):
    assert told(csv(**cells)).endswith(said)


def test_the_first_cell_that_is_wrong_is_the_one_that_is_told():
    assert told(csv(x1="abc", t="")) == "column x1 = 'abc' is not a number"


def test_a_number_that_counts_nothing_is_told_without_an_option():
    assert told(csv(t="1e300"), rules=ParsingRules(times=TimeRules("us"))).endswith(
        "is no time: ISO 8601 with a date, or a number"
    )


def test_a_cell_is_looked_at_as_the_options_read_it():
    commas = CsvDialect(delimiter=";", decimal=",", thousands=".")
    cells = GOOD | {"x0": "1.000,5", "x1": "2.0x"}
    batch = text_batch("csv", [";".join(cells.values())], KEYED.columns, dialect=commas)
    (row,) = RowParser(KEYED).parse(batch).to_pylist()
    assert explain(row["reason"], row["row"], KEYED, DEFAULT_RULES, commas) == (
        "column x1 = '2.0x' is not a number"
    )


@pytest.mark.parametrize("line", ["1,2", '"a,2024-01-01,1,2,0', '"a\nb",1'])
def test_a_record_of_another_length_is_told_as_it_is_written(line):
    said = " has not as many fields as the header, or not its columns"
    assert told(line) == " ".join(line.split()) + said


def test_bytes_that_are_no_text_ask_for_their_encoding():
    assert told(csv(id="Größe").encode("cp1252")) == (
        r"Gr\xf6\xdfe,2024-01-01,1,2,0 is not UTF-8; give its --encoding"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1]", "[1] cannot be read as a row"),
        ("nonsense", "nonsense cannot be read as a row"),
        ('{"x0": "abc", "x1": null}', "column id = None is no id"),
        (json.dumps(GOOD | {"x0": {"a": 1}}), "column x0 = {'a': 1} is not a number"),
        (json.dumps(GOOD | {"x0": 1e39}), "column x0 = 1e+39 is infinite, or beyond the largest"),
        (json.dumps(GOOD | {"t": 1704067200000}), "column t = 1704067200000 is no time in seconds"),
    ],
)
def test_json_is_told_by_its_values(line, said):
    assert told(line, file_format="json").startswith(said)


def test_a_value_within_an_object_is_told_by_its_path():
    contract = Contract(("price.net",), ("price.net",), 1, ("0", "1"))
    assert told('{"price": {"net": "abc"}}', contract, file_format="json") == (
        "column price.net = 'abc' is not a number"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"f": [1, 2, 3], "y": 1}', "column f holds 3 numbers, not 2"),
        ('{"f": "1", "y": 1}', "column f holds 0 numbers, not 2"),
        ('{"f": [1, "abc"], "y": 1}', "column f has an element 'abc' that is not a number"),
        ('{"f": [null, 1], "y": 1}', "column f has an element None that holds no value"),
    ],
)
def test_an_array_is_told_by_its_length(line, said):
    assert told(line, ARRAYS, file_format="json").startswith(said)


def test_a_row_of_feedback_is_told_by_its_label_or_its_time():
    assert told("a,2024-01-01,", FEEDBACK) == "column y = '' is none of the classes no, yes"
    assert told("a,2123-01-01,yes", FEEDBACK, LIVE) == (
        "column t = '2123-01-01' is more than a day ahead of the clock"
    )


def test_a_row_that_was_found_out_later_is_told_too():
    row = json.dumps(GOOD)
    assert explain(DUPLICATE_ID, row, KEYED, DEFAULT_RULES) == (
        "column id = 'a' is that of an earlier row"
    )
    assert explain(DIVERGED, row, KEYED, DEFAULT_RULES).startswith('diverged: {"id": "a"')


def test_long_cells_are_cut():
    assert len(told(csv(x0="9" * 5000 + "a"))) < 200
    assert len(told("x" * 5000)) < 200
