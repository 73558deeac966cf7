"""Rows that are nested deeper than any parser follows are rows like any other bad one."""

from __future__ import annotations

import sys

import pytest

from app.contract import UNPARSABLE
from app.files.documents import json_object
from app.parsing.json_rows import json_value
from tests.unit.rows import ARRAYS, KEYED, as_json, validated

OPEN, CLOSED = "[" * 100_000, "[" * 100_000 + "]" * 100_000

# About where each of the parsers gives up, and Python itself.
DEPTHS = [200, 260, *range(900, 1100, 10), sys.getrecursionlimit(), 1023, 1024, 1025, 5000]


@pytest.mark.parametrize("deep", [OPEN, CLOSED, '{"a":' * 50_000, f'{{"id": {CLOSED}}}'])
def test_a_line_nested_too_deeply_is_a_dead_letter(deep):
    rows = validated(KEYED, "json", [as_json(), deep, as_json()])
    assert [row["reason"] is None for row in rows] == [True, False, True]


def test_what_is_nested_too_deeply_stands_in_no_column_that_counts():
    (row,) = validated(KEYED, "json", [as_json()[:-1] + f', "more": {CLOSED}}}'])
    assert row["reason"] in (None, UNPARSABLE)


@pytest.mark.parametrize("column", ["id", "t", "x0", "y"])
def test_no_depth_of_a_column_that_counts_spoils_the_other_rows(column):
    deep = [as_json()[:-1] + f', "{column}": {"[" * n + "]" * n}}}' for n in DEPTHS]
    # A number that takes a slower parser to be read exactly.
    large = [line[:-1] + f', "{column}": 1e30, "more": {OPEN[:n]}1{"]" * n}}}' for line in deep[:1]
             for n in DEPTHS]  # fmt: skip
    first, *_, last = validated(KEYED, "json", [as_json(), *deep, *large, as_json()])
    assert (first["reason"], last["reason"]) == (None, None)


def test_no_depth_of_an_array_of_features_spoils_the_other_rows():
    lines = ['{"f":[1,' + "[" * n + "]" * n + "]}" for n in DEPTHS]
    *deep, good = validated(ARRAYS, "json", [*lines, '{"f":[1,2]}'])
    assert {row["reason"] for row in deep} == {UNPARSABLE}
    assert good["features"] == [1.0, 2.0]


@pytest.mark.parametrize("deep", [OPEN, CLOSED, f'{{"id": {CLOSED}}}', '{"a": ' + "1" * 5000 + "}"])
def test_a_line_that_is_looked_at_in_python_holds_no_object(deep):
    assert json_object(deep) == {}
    assert json_value(deep.encode()) is None
