"""Rows that are nested deeper than any parser follows are rows like any other bad one."""

from __future__ import annotations

import pytest

from app.files.lines import json_object
from tests.unit.rows import KEYED, as_json, validated

OPEN, CLOSED = "[" * 100_000, "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("deep", [OPEN, CLOSED, '{"a":' * 50_000, f'{{"id": {CLOSED}}}'])
def test_a_line_nested_too_deeply_is_a_dead_letter(spark, deep):
    rows = validated(spark, KEYED, "json", [as_json(), deep, as_json()])
    assert [row["reason"] is None for row in rows] == [True, False, True]


def test_what_is_nested_too_deeply_stands_in_no_column_that_counts(spark):
    (row,) = validated(spark, KEYED, "json", [as_json()[:-1] + f', "more": {CLOSED}}}'])
    assert row["reason"] in (None, "unparsable")


@pytest.mark.parametrize("deep", [OPEN, CLOSED, f'{{"id": {CLOSED}}}', '{"a": ' + "1" * 5000 + "}"])
def test_a_line_that_is_looked_at_in_python_holds_no_object(deep):
    assert json_object(deep) == {}
