"""Categories become slots and missing values NaN, whatever the rows are written in."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from app.contract import (
    ALL_MISSING,
    INFINITE_FEATURE,
    NULL_FEATURE,
    UNPARSABLE,
    Category,
    Contract,
    Encoding,
)
from app.parsing.row_parser import ParsingRules, RowParser
from tests.unit.rows import text_batch, typed_batch

JOB = Category(("clerk", "17", "true"), n_hashed=4)
COLUMNS = ("x", "job", "y")
NAN = float("nan")


def parser(imputes: bool = True, missing: tuple[str, ...] | None = None) -> RowParser:
    encoding = Encoding({"job": JOB}, ("x",) if imputes else (), imputes)
    contract = Contract(COLUMNS, ("x", "job"), 2, ("0", "1"), label="y", encoding=encoding)
    return RowParser(contract, ParsingRules() if missing is None else ParsingRules(missing))


def csv(*lines: str) -> pa.RecordBatch:
    return text_batch("csv", list(lines), header=COLUMNS)


def parsed(batch: pa.RecordBatch, by: RowParser) -> list[tuple[list[float] | None, str | None]]:
    found = by.parse(batch)
    return list(zip(found["features"].to_pylist(), found["reason"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("cell", "slot"),
    [
        ("clerk", 5), (" clerk ", 5), ("17", 6), ("17.0", 6), ("True", 7), ("NA", 0), ("", 0),
        ("?", 0),
    ],
)  # fmt: skip
def test_a_category_is_its_slot_however_it_is_written(cell, slot):
    assert parsed(csv(f"1.5,{cell},0"), parser()) == [([1.5, slot], None)]
    row = json.dumps({"x": 1.5, "job": cell, "y": 0})
    assert parsed(text_batch("json", [row]), parser()) == [([1.5, slot], None)]


@pytest.mark.parametrize(
    ("values", "slot"),
    [
        (pa.array([17], pa.int8()), 6), (pa.array([17.0]), 6), (pa.array([True]), 7),
        (pa.array(["clerk"]).dictionary_encode(), 5), (pa.array([None], pa.string()), 0),
        (pa.array([NAN]), 0),
    ],
    ids=str,
)  # fmt: skip
def test_a_typed_category_is_the_same(values, slot):
    batch = typed_batch({"x": pa.array([1.5]), "job": values, "y": pa.array([0])})
    assert parsed(batch, parser()) == [([1.5, slot], None)]


def test_what_is_not_in_the_vocabulary_shares_slots_by_its_hash_for_good():
    names = [f"job {i}" for i in range(200)]
    slots = JOB.slots(names)
    assert set(slots) == {1, 2, 3, 4}
    assert JOB.slots([*names[:3], None, "clerk"]) == [*slots[:3], 0, 5]
    # Stored models depend on it.
    assert JOB.slots(["painter", "naïve", ""]) == [4, 1, 1]


def test_a_missing_number_is_nan():
    rows = parsed(csv("NaN,clerk,0", ",clerk,1", "null,clerk,", "2,clerk,0"), parser())
    np.testing.assert_array_equal([features for features, _ in rows], [[NAN, 5]] * 3 + [[2, 5]])
    assert {reason for _, reason in rows} == {None}


def test_a_number_that_stands_for_a_missing_value_is_nan():
    rows = parsed(csv("-999,clerk,0", "-999.0,clerk,0"), parser(missing=("", "-999")))
    np.testing.assert_array_equal([features for features, _ in rows], [[NAN, 5]] * 2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",,0", ALL_MISSING), ("NA,?,0", ALL_MISSING), ("inf,clerk,0", INFINITE_FEATURE),
        ("abc,,0", UNPARSABLE),
    ],
)  # fmt: skip
def test_a_row_of_which_nothing_is_known_is_of_no_use(line, reason):
    assert parsed(csv(line), parser()) == [(None, reason)]


@pytest.mark.parametrize("line", [",clerk,0", "1,,0", "1,NA,0"])
def test_a_model_that_rejects_missing_values_has_no_use_for_them(line):
    assert parsed(csv(line), parser(imputes=False)) == [(None, NULL_FEATURE)]


def test_a_category_may_have_the_name_of_a_missing_value():
    encoding = Encoding({"job": Category(("none", "some"), 1)}, imputes=True)
    contract = Contract(COLUMNS, ("x", "job"), 2, ("0", "1"), label="y", encoding=encoding)
    assert parsed(csv("1,none,0", "1,NA,0"), RowParser(contract)) == [
        ([1, 2], None),
        ([1, 0], None),
    ]


def test_missing_numbers_of_an_array_are_nan():
    contract = Contract(
        ("f", "y"), ("f",), 2, ("0", "1"), label="y", is_array=True,
        encoding=Encoding(imputes=True),
    )  # fmt: skip
    lines = ['{"f":[1.5,null],"y":0}', '{"f":[null,null],"y":0}', '{"f":null,"y":0}']
    rows = parsed(text_batch("json", lines), RowParser(contract))
    np.testing.assert_array_equal(rows[0][0], [1.5, NAN])
    assert [reason for _, reason in rows] == [None, ALL_MISSING, NULL_FEATURE]
