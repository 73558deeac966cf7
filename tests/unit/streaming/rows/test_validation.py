"""A row is fit for the model, or it has a reason and is kept as it came."""

from __future__ import annotations

import json

import numpy as np
import pytest

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
)
from app.monitor.records import BatchRecord
from app.streaming.rows.validation import (
    RAW_COLUMN,
    mark_duplicates,
    parse,
    parse_and_validate,
    raw_as_json,
    validate,
)
from tests.unit.rows import (
    ARRAYS,
    INFINITY,
    KEYED,
    NAN,
    ONE_FEATURE,
    REASONS,
    as_json,
    named,
)

# name: line, reason, original values (of the whole line where it is no row)
CSV_CASES = {
    "good": ("a,1,1.5,2,0", None, None),
    "good, quoted": ('"a","1","1.5","2","0"', None, None),
    "good, padded": (" a , 1 , 1.5 , 2 , 0 ", None, None),
    "good, without a label": ("a,1,1.5,2,", None, None),
    "short": ("a,1,1.5,0", WRONG_LENGTH, None),
    "long": ("a,1,1.5,2,0,9", WRONG_LENGTH, None),
    "open quote": ('"a,1,1.5,2,0', WRONG_LENGTH, None),
    "commas only": (",,,,", NULL_ID, {}),
    "no id": (",1,1.5,2,0", NULL_ID, {"t": "1", "x0": "1.5", "x1": "2", "y": "0"}),
    "blank id": ("  ,1,1.5,2,0", NULL_ID, {"id": "  "}),
    "no time": ("a,,1.5,2,0", NULL_TIME, {"id": "a", "x0": "1.5", "x1": "2", "y": "0"}),
    "time of day": ("a,12:00,1.5,2,0", UNPARSABLE, {"t": "12:00"}),
    "no feature": ("a,1,,2,0", NULL_FEATURE, {"x1": "2", "y": "0"}),
    "blank feature": ("a,1,1.5,  ,0", NULL_FEATURE, {"x0": "1.5"}),
    "text feature": ("a,1,1.5,abc,0", UNPARSABLE, {"x1": "abc"}),
    "comma in a feature": ('a,1,"1,5",2,0', UNPARSABLE, {"x0": "1,5"}),
    "two numbers": ("a,1,1 5,2,0", UNPARSABLE, {"x0": "1 5"}),
    "nan": ("a,1,nan,2,0", NAN_FEATURE, {"x0": "nan"}),
    "NaN": ("a,1,1.5,NaN,0", NAN_FEATURE, {"x1": "NaN"}),
    "inf": ("a,1,inf,2,0", INFINITE_FEATURE, {"x0": "inf"}),
    "-Infinity": ("a,1,1.5,-Infinity,0", INFINITE_FEATURE, {"x1": "-Infinity"}),
    "inf and -inf": ("a,1,inf,-inf,0", INFINITE_FEATURE, {"x0": "inf", "x1": "-inf"}),
    "1e39": ("a,1,1e39,2,0", INFINITE_FEATURE, {"x0": "1e39"}),
    "-1e39": ("a,1,1.5,-1e39,0", INFINITE_FEATURE, {"x1": "-1e39"}),
    "1e999": ("a,1,1e999,2,0", INFINITE_FEATURE, {"x0": "1e999"}),
    "unknown label": ("a,1,1.5,2,7", UNKNOWN_LABEL, {"y": "7"}),
    "label of another case": ("a,1,1.5,2,UP", UNKNOWN_LABEL, {"y": "UP"}),
    "kept as it came": (
        '"say ""hi"", a","2024-01-01",nan, 2.50 ,"1.0"',
        NAN_FEATURE,
        {"id": 'say "hi", a', "t": "2024-01-01", "x0": "nan", "x1": " 2.50 ", "y": "1.0"},
    ),
    # With several faults, the first found is told.
    "short before all": (",x,nan,7", WRONG_LENGTH, None),
    "id before all": (",x,nan,,7", NULL_ID, {}),
    "no feature before text": ("a,,abc,,7", NULL_FEATURE, {"x0": "abc"}),
    "text before nan": ("a,,nan,abc,7", UNPARSABLE, {"x1": "abc"}),
    "nan before infinite": ("a,,inf,nan,7", NAN_FEATURE, {"x0": "inf"}),
    "infinite before no time": ("a,,inf,2,7", INFINITE_FEATURE, {"x0": "inf"}),
    "no time before label": ("a,,1.5,2,7", NULL_TIME, {"y": "7"}),
    "time before label": ("a,soon,1.5,2,7", UNPARSABLE, {"t": "soon"}),
}

JSON_CASES = {
    "good": (as_json(), None, None),
    "good, as text": (as_json(t="1", x0="1.5", x1=" 2 ", y="0"), None, None),
    "good, other order and more": ('{"z":[1],"y":0,"x1":2,"x0":1.5,"t":1,"id":"a"}', None, None),
    "good, null label": (as_json(y=None), None, None),
    "good, no label": (as_json(y="absent"), None, None),
    "open": ('{"id": "a"', UNPARSABLE, None),
    "no JSON": ("a,1,1.5,2,0", UNPARSABLE, None),
    "number": ("5", UNPARSABLE, None),
    "null": ("null", UNPARSABLE, None),
    "string": ('"a"', UNPARSABLE, None),
    "array": ("[1, 2]", UNPARSABLE, None),
    "array of objects": (f"[{as_json()}]", UNPARSABLE, None),
    "deep": ("[" * 5000, UNPARSABLE, None),
    "empty object": ("{}", NULL_ID, {}),
    "no id": (as_json(id="absent"), NULL_ID, {"t": "1", "x0": "1.5"}),
    "null id": (as_json(id=None), NULL_ID, {"x1": "2"}),
    "null time": (as_json(t=None), NULL_TIME, {"id": "a"}),
    "time of day": (as_json(t="12:00"), UNPARSABLE, {"t": "12:00"}),
    "null feature": (as_json(x0=None), NULL_FEATURE, {"id": "a", "x1": "2"}),
    "no feature": (as_json(x1="absent"), NULL_FEATURE, {"x0": "1.5"}),
    "empty feature": (as_json(x0=""), NULL_FEATURE, {"x1": "2"}),
    "text feature": (as_json(x0="abc"), UNPARSABLE, {"x0": "abc"}),
    "object feature": (as_json(x0={"a": 1}), UNPARSABLE, {"x0": '{"a":1}'}),
    "nan as text": (as_json(x0="nan"), NAN_FEATURE, {"x0": "nan"}),
    "NaN token": (as_json(x0=NAN), NAN_FEATURE, {"id": "a"}),
    "Infinity token": (as_json(x0=INFINITY), INFINITE_FEATURE, {"id": "a"}),
    "-Infinity token": (as_json(x1=-INFINITY), INFINITE_FEATURE, {"id": "a"}),
    "inf as text": (as_json(x1="inf"), INFINITE_FEATURE, {"x1": "inf"}),
    "1e39": (as_json(x0=1e39), INFINITE_FEATURE, {"x1": "2"}),
    "unknown label": (as_json(y=7), UNKNOWN_LABEL, {"y": "7"}),
    "boolean label": (as_json(y=True), UNKNOWN_LABEL, {"y": "true"}),
    "id before all": (as_json(id=None, t="x", x0=NAN, y=7), NULL_ID, {"t": "x"}),
    "no feature before nan": (as_json(x0=NAN, x1=None), NULL_FEATURE, {"id": "a"}),
    "nan before no time": (as_json(x0=NAN, t=None), NAN_FEATURE, {"x1": "2"}),
    "no time before label": (as_json(t=None, y=7), NULL_TIME, {"y": "7"}),
}

ARRAY_CASES = {
    "good": ('{"f":[1.5,2],"y":0}', None, None),
    "good, as text": ('{"f":["1.5"," 2 "],"y":0}', None, None),
    "short": ('{"f":[1.5],"y":0}', WRONG_LENGTH, {"f": ["1.5"], "y": "0"}),
    "long": ('{"f":[1.5,2,3],"y":0}', WRONG_LENGTH, {"f": ["1.5", "2", "3"]}),
    "empty": ('{"f":[],"y":0}', WRONG_LENGTH, {"f": []}),
    "null element": ('{"f":[1.5,null],"y":0}', NULL_FEATURE, {"f": ["1.5", None]}),
    "null array": ('{"f":null,"y":0}', NULL_FEATURE, {"y": "0"}),
    "no array": ('{"y":0}', NULL_FEATURE, {"y": "0"}),
    "number for an array": ('{"f":5,"y":0}', UNPARSABLE, None),
    "object for an array": ('{"f":{"a":1},"y":0}', UNPARSABLE, None),
    "text element": ('{"f":[1.5,"abc"],"y":0}', UNPARSABLE, {"f": ["1.5", "abc"]}),
    "array element": ('{"f":[[1.5],2],"y":0}', UNPARSABLE, {"f": ["[1.5]", "2"]}),
    "NaN token": ('{"f":[1.5,NaN],"y":0}', NAN_FEATURE, {"y": "0"}),
    "Infinity token": ('{"f":[-Infinity,2],"y":0}', INFINITE_FEATURE, {"y": "0"}),
    "1e39": ('{"f":[1e39,2],"y":0}', INFINITE_FEATURE, {"y": "0"}),
    "length before null": ('{"f":[null],"y":7}', WRONG_LENGTH, {"f": [None]}),
    "null before text": ('{"f":["abc",null],"y":7}', NULL_FEATURE, {"f": ["abc", None]}),
}

TEXT_CASES = {
    "csv": (KEYED, "csv", CSV_CASES),
    "json": (KEYED, "json", JSON_CASES),
    "arrays": (ARRAYS, "json", ARRAY_CASES),
}
EVERY_CASE = [(kind, case) for kind, (_, _, cases) in TEXT_CASES.items() for case in cases]


@pytest.fixture(scope="module")
def results(spark):
    return {
        kind: named(spark, contract, file_format, cases)
        for kind, (contract, file_format, cases) in TEXT_CASES.items()
    }


@pytest.mark.parametrize(("kind", "case"), EVERY_CASE, ids=map("-".join, EVERY_CASE))
class TestTextRows:
    @pytest.fixture
    def expected(self, kind, case):
        return TEXT_CASES[kind][2][case]

    @pytest.fixture
    def found(self, results, kind, case):
        return results[kind][case]

    def test_the_reason_is_the_first_fault(self, expected, found):
        assert found["reason"] == expected[1]

    def test_only_a_good_row_has_features(self, expected, found):
        assert found["features"] == (None if expected[1] else [1.5, 2.0])

    def test_only_a_bad_row_is_kept_and_with_what_it_held(self, expected, found, kind):
        line, reason, original = expected
        if reason is None:
            assert found["row"] is None
            return
        row = json.loads(found["row"])
        if original is None:
            assert row == {"_corrupt_line": line}
        else:
            assert tuple(row) == TEXT_CASES[kind][0].columns
            assert {name: row[name] for name in original} == original

    def test_only_a_known_label_has_an_index(self, expected, found, case):
        if expected[1] is None:
            assert found["label_index"] == (None if "label" in case else 0)


def test_every_reason_has_a_case_or_comes_later():
    told = {case[1] for _, _, cases in TEXT_CASES.values() for case in cases.values()}
    assert told - {None} == REASONS - {DUPLICATE_ID, DIVERGED}


@pytest.mark.parametrize("kind", TEXT_CASES)
def test_a_missing_value_is_kept_as_null(results, kind):
    case = {"csv": "no feature", "json": "no feature", "arrays": "no array"}[kind]
    name = {"csv": "x0", "json": "x1", "arrays": "f"}[kind]
    assert json.loads(results[kind][case]["row"])[name] is None


def test_special_numbers_of_json_are_kept_readable(results):
    token = json.loads(results["json"]["NaN token"]["row"])["x0"]
    assert np.isnan(float(token.strip('"')))
    assert float(json.loads(results["json"]["1e39"]["row"])["x0"]) == 1e39


def frame_of(spark, texts: list[str], contract=KEYED, file_format="csv"):
    """Return lines of text as validated rows."""
    array = contract.features[0] if contract.is_array else None
    df = spark.createDataFrame(list(enumerate(texts)), "sequence long, text string")
    return validate(parse(df, file_format, contract.columns, array), contract, file_format)


@pytest.fixture(scope="module")
def marked(spark):
    """Return four validated rows, the last of them marked as a duplicate."""
    texts = ["a,1,1.5,2,0", "b,1,1.5,2,0", "b,1,nan,2,0", "b,1,1.5,2,1"]
    return mark_duplicates(frame_of(spark, texts), [3]).orderBy("sequence").collect()


class TestDuplicates:
    def test_only_the_rows_named_become_dead_letters(self, marked):
        assert [row.reason for row in marked] == [None, None, NAN_FEATURE, DUPLICATE_ID]
        assert [row.features for row in marked] == [[1.5, 2.0], [1.5, 2.0], None, None]

    def test_a_duplicate_is_kept_as_it_came(self, marked):
        assert json.loads(marked[3].row or "null") == {
            "id": "b",
            "t": "1",
            "x0": "1.5",
            "x1": "2",
            "y": "1",
        }


class TestRaw:
    """The row as it came goes along until it is known to be no duplicate, and to be learned."""

    @pytest.mark.parametrize(
        ("contract", "file_format", "texts"),
        [
            (KEYED, "csv", ["a,1,1.5,2,", "a,1,nan,2,0", "a,1"]),
            (KEYED, "json", [as_json(y=None), as_json(x0="nan"), "[]"]),
            (ARRAYS, "json", ['{"f":[1.5,2],"y":null}', '{"f":[1],"y":0}', "5"]),
        ],
        ids=["csv", "json", "without an id"],
    )
    def test_every_row_has_it_with_all_columns_of_the_input(
        self, spark, contract, file_format, texts
    ):
        rows = frame_of(spark, texts, contract, file_format)
        good, bad, corrupt = rows.orderBy("sequence").collect()

        assert tuple(rows.schema[RAW_COLUMN].dataType.names) == contract.columns
        assert [row.reason is None for row in (good, bad, corrupt)] == [True, False, False]
        assert (good.raw.y, bad.raw.y) == (None, "0")
        assert good.raw[contract.features[0]] in ("1.5", ["1.5", "2"])
        assert corrupt.reason in (WRONG_LENGTH, UNPARSABLE) and corrupt.raw.y is None

    def test_typed_rows_have_it_with_their_types(self, spark):
        df = spark.createDataFrame(
            [(0, "a", 1, 0.5, None)], "sequence long, id string, t long, x double, y int"
        )
        (row,) = parse_and_validate(df, ONE_FEATURE, "parquet").collect()
        assert (row.reason, tuple(row.raw)) == (None, ("a", 1, 0.5, None))

    def test_a_good_row_may_still_be_kept_as_it_came(self, spark):
        rows = frame_of(spark, ['{"x1":2,"id":"a","t":1,"x0":" 1.50 "}'], KEYED, "json")
        (kept,) = rows.select("row", raw_as_json().alias("raw")).collect()
        assert kept.row is None
        assert json.loads(kept.raw) == {"id": "a", "t": "1", "x0": " 1.50 ", "x1": "2", "y": None}

    @pytest.mark.parametrize("sequences", [[], [0]], ids=["no duplicates", "duplicates"])
    def test_it_ends_where_duplicates_are_marked(self, spark, sequences):
        rows = frame_of(spark, ["a,1,1.5,2,0"])
        left = [name for name in rows.columns if name != RAW_COLUMN]
        assert mark_duplicates(rows, sequences).columns == left


def test_a_diverged_row_is_known_by_its_reason_to_the_batch_log():
    counted = BatchRecord("q", 0, 9, 0, {DIVERGED: 4, NULL_ID: 1}, 0, 0, 0, [1.0], "2024-01-01")
    assert counted.rows_in == 10
