"""Records of delimited text in their dialects, and what looks like the end of one."""

from __future__ import annotations

import pytest

from app.contract import NULL_FEATURE, UNPARSABLE, WRONG_LENGTH
from app.files.reading.lines import CsvDialect
from app.parsing.row_parser import ParsingRules
from app.parsing.times import TimeRules
from tests.unit.rows import KEYED, SECONDS, parsed, text_batch, validated

ROW = "a,1,1.5,2,0"

EUROPEAN = CsvDialect(";", decimal=",", thousands=".")
GERMAN = CsvDialect(";", decimal=",")
ENGLISH = CsvDialect("|", thousands=",")
ESCAPED = CsvDialect("\t", escapes=True)


def features(dialect: CsvDialect, *cells: str, rules: ParsingRules = SECONDS) -> list:
    """Return of each cell the number that it is, or the reason why it is none."""
    lines = [dialect.delimiter.join(["a", "1", cell, "2", "0"]) for cell in cells]
    rows = parsed(KEYED, text_batch("csv", lines, KEYED.columns, dialect=dialect), rules)
    return [row["reason"] or row["features"][0] for row in rows]


@pytest.mark.parametrize(
    "lines",
    [
        # As many ends of lines as there are records, and not where they end.
        ["a,1,1.5,2,0\rb,1,1.5,2,0", '"c,1,1.5,2,0', 'd",1,1.5,2,0'],
        ['"c,1,1.5,2,0', 'd",1,1.5,2,0', "a,1,1.5,2,0\rb,1,1.5,2,0"],
        ["a,1,1.5,2,0\n"],
        ["\ra,1,1.5,2,0"],
        ["a,1,1.5,2,0,", "a,1,1.5,2"],
    ],
)
def test_a_record_that_is_none_spoils_itself_only(lines):
    expected = {ROW: None, 'd",1,1.5,2,0': None}
    found = validated(KEYED, "csv", [ROW, *lines, ROW])
    assert [row["reason"] for row in found] == [
        expected.get(line, WRONG_LENGTH) for line in [ROW, *lines, ROW]
    ]


@pytest.mark.parametrize("wrong", ["a,1", '"a\n",1', "a,1,1.5,2,0,9"])
def test_a_record_over_several_lines_shifts_no_other(wrong):
    lines = ['"b\n\nc",1,1.5,2,0', wrong, ROW, '"d\n",1,1.5,2,0', wrong]
    found = validated(KEYED, "csv", lines)
    assert [row["reason"] for row in found] == [None, WRONG_LENGTH, None, None, WRONG_LENGTH]
    assert [row["event_id"] for row in found if row["reason"] is None] == ["b\n\nc", "a", "d"]


def test_quotes_within_a_field_are_characters_like_others():
    found = validated(KEYED, "csv", ['5" pipe,1,1.5,2,0', '"a"b,1,1.5,2,0', '"x" ,1,"1.5" ,2,0'])
    assert [row["event_id"] for row in found] == ['5" pipe', "ab", "x"]
    assert {row["reason"] for row in found} == {None}


def test_a_mark_of_byte_order_within_a_file_is_text():
    assert validated(KEYED, "csv", [f"\ufeff{ROW}"])[0]["event_id"] == "\ufeffa"


@pytest.mark.parametrize(
    ("dialect", "cells", "expected"),
    [
        (GERMAN, ["1,5", "-0,25", "1,5e3", "2"], [1.5, -0.25, 1500.0, 2.0]),
        (GERMAN, ["1,5", "1.5", "1.234,5"], [1.5, UNPARSABLE, UNPARSABLE]),
        (EUROPEAN, ["1.234.567,5", "1.234", "-1,5"], [1234567.5, 1234.0, -1.5]),
        (ENGLISH, ["1,234,567.5", "1,234", "1.5"], [1234567.5, 1234.0, 1.5]),
    ],
)
@pytest.mark.parametrize("others", [[], ["NA"], ["x"], [" 1 "]], ids=str)
def test_a_number_is_read_as_its_dialect_writes_it(dialect, cells, expected, others):
    found = features(dialect, *cells, *others)
    assert found[: len(cells)] == expected


@pytest.mark.parametrize(
    ("dialect", "token"), [(GERMAN, "n.a."), (EUROPEAN, "n.a."), (ENGLISH, "n,a"), (GERMAN, "n,a")]
)
@pytest.mark.parametrize("others", [[], ["NA"], ["x"]], ids=str)
def test_a_token_for_a_missing_value_is_no_number_of_the_dialect(dialect, token, others):
    rules = ParsingRules(missing=("", token), times=TimeRules("s"))
    found = features(dialect, token, f" {token.upper()} ", "7", *others, rules=rules)
    assert found[:3] == [NULL_FEATURE, NULL_FEATURE, 7.0]


def test_a_backslash_may_stand_before_what_is_special_within_quotes():
    lines = ['"a\\"b\\\\"\t1\t1.5\t2\t0', "a\\b\t1\t1.5\t2\t0", '"a""b"\t1\t1.5\t2\t0']
    found = parsed(KEYED, text_batch("csv", lines, KEYED.columns, dialect=ESCAPED))
    assert [row["event_id"] for row in found] == ['a"b\\', "a\\b", 'a"b']
