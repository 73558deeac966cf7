"""A row is fit for the model, or it has a reason and is kept as it came."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from pyspark.sql import functions as F
from pyspark.sql import types as T

from app.streaming import labels
from app.streaming.schema import (
    DUPLICATE_ID,
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_TIME,
    REASONS,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WRONG_LENGTH,
    Contract,
    canonical_label,
    contract_from_metadata,
    mark_duplicates,
    parse,
    parse_and_validate,
    validate,
)
from app.streaming.session import spark_session

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
NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
GOOD = {"id": "a", "t": 1, "x0": 1.5, "x1": 2, "y": 0}
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module")
def spark():
    session = spark_session("test_schema")
    yield session
    session.stop()


def validated(spark, contract, file_format, rows, schema=None) -> list[dict]:
    """Return what becomes of lines of text, or of tuples in the columns of ``schema``."""
    if schema is None:
        rows, schema = [(line,) for line in rows], "text string"
    numbered = [(number, *row) for number, row in enumerate(rows)]
    df = spark.createDataFrame(numbered, f"sequence long, {schema}")
    columns = parse_and_validate(df, contract, file_format)
    return columns.toArrow().sort_by("sequence").to_pylist()


def named(spark, contract, file_format, cases) -> dict[str, dict]:
    """Return what becomes of each case's row, all in one job."""
    rows = validated(spark, contract, file_format, [case[0] for case in cases.values()])
    return dict(zip(cases, rows, strict=True))


def as_json(**changes) -> str:
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v != "absent"})


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
    assert told - {None} == set(REASONS) - {DUPLICATE_ID}


@pytest.mark.parametrize("kind", TEXT_CASES)
def test_a_missing_value_is_kept_as_null(results, kind):
    case = {"csv": "no feature", "json": "no feature", "arrays": "no array"}[kind]
    name = {"csv": "x0", "json": "x1", "arrays": "f"}[kind]
    assert json.loads(results[kind][case]["row"])[name] is None


def test_special_numbers_of_json_are_kept_readable(results):
    token = json.loads(results["json"]["NaN token"]["row"])["x0"]
    assert np.isnan(float(token.strip('"')))
    assert float(json.loads(results["json"]["1e39"]["row"])["x0"]) == 1e39


class TestTextLabels:
    LABELS = {"0": 0, "1": 1, "1.0": 1, " 1.000 ": 1, "up": 2, " up ": 2, "": None, "  ": None}

    @pytest.mark.parametrize("file_format", ["csv", "json"])
    def test_a_label_is_known_however_it_is_written(self, spark, file_format):
        lines = [
            as_json(y=text) if file_format == "json" else f"a,1,1.5,2,{text}"
            for text in self.LABELS
        ]
        rows = validated(spark, KEYED, file_format, lines)
        assert {row["reason"] for row in rows} == {None}
        assert [row["label_index"] for row in rows] == list(self.LABELS.values())

    def test_numbers_of_json_are_labels(self, spark):
        rows = validated(spark, KEYED, "json", [as_json(y=1), as_json(y=1.0), as_json(y=0)])
        assert [row["label_index"] for row in rows] == [1, 1, 0]


TIMES = {
    "2024-01-01": NEW_YEAR,
    "2024-01-01 00:00:00": NEW_YEAR,
    "2024-01-01T00:00:00": NEW_YEAR,
    "2024-01-01T00:00:00Z": NEW_YEAR,
    "2024-01-01T02:00:00+02:00": NEW_YEAR,
    " 2024-01-01T00:00:00.250 ": NEW_YEAR + timedelta(milliseconds=250),
    "1704067200": NEW_YEAR,
    "1704067200.25": NEW_YEAR + timedelta(milliseconds=250),
    "1.7040672e9": NEW_YEAR,
    "0": datetime(1970, 1, 1, tzinfo=UTC),
    "-1": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
}
NO_TIMES = [
    "12:00",
    "12:00:00",
    "T12:00",
    "soon",
    "2024-13-01",
    "2024-01-32",
    "2024-01-01T25:00",
    "2024-01-01 soon",
    "01/02/2024",
    "nan",
    "inf",
    "2024-1-1x",
]


@pytest.fixture(scope="module", params=["csv", "json"])
def of_times(spark, request):
    """Return what becomes of a row with each of the texts as its time."""
    texts = [*TIMES, *NO_TIMES]
    lines = [as_json(t=text) if request.param == "json" else f"a,{text},1.5,2,0" for text in texts]
    return dict(zip(texts, validated(spark, KEYED, request.param, lines), strict=True))


class TestTextTimes:
    @pytest.mark.parametrize("text", TIMES)
    def test_a_time_is_iso_text_or_seconds_since_1970(self, of_times, text):
        row = of_times[text]
        assert (row["reason"], row["event_time"]) == (None, TIMES[text])

    @pytest.mark.parametrize("text", NO_TIMES)
    def test_any_other_text_is_unparsable(self, of_times, text):
        row = of_times[text]
        assert (row["reason"], row["event_time"]) == (UNPARSABLE, None)


class TestIds:
    def test_the_id_is_trimmed_text(self, spark):
        lines = ["a,1,1.5,2,0", " b ,1,1.5,2,0", '"c, ""d"" e",1,1.5,2,0', "1.0,1,1.5,2,0"]
        rows = validated(spark, KEYED, "csv", lines)
        assert [row["event_id"] for row in rows] == ["a", "b", 'c, "d" e', "1.0"]

    def test_without_an_id_column_the_row_number_is_the_id(self, spark):
        rows = validated(spark, ARRAYS, "json", ['{"f":[1,2],"y":0}', '{"f":[1],"y":0}'])
        assert [row["event_id"] for row in rows] == ["0", "1"]
        assert [row["event_time"] for row in rows] == [None, None]

    def test_without_a_label_column_no_row_has_a_label(self, spark):
        contract = Contract(columns=("x",), features=("x",), n_features=1, classes=("0", "1"))
        (row,) = validated(spark, contract, "csv", ["0.5"])
        assert (row["reason"], row["features"], row["label_index"]) == (None, [0.5], None)


class TestParquet:
    def rows(self, spark, rows, schema, contract=ONE_FEATURE):
        return validated(spark, contract, "parquet", rows, schema)

    def test_typed_rows_have_every_reason(self, spark):
        moment = NEW_YEAR.replace(tzinfo=None)
        cases = [
            (("a", moment, 0.5, 0.0), None),
            (("a", moment, 0.5, None), None),
            ((None, moment, 0.5, 0.0), NULL_ID),
            (("", moment, 0.5, 0.0), NULL_ID),
            (("a", None, 0.5, 0.0), NULL_TIME),
            (("a", moment, None, 0.0), NULL_FEATURE),
            (("a", moment, NAN, 0.0), NAN_FEATURE),
            (("a", moment, INFINITY, 0.0), INFINITE_FEATURE),
            (("a", moment, -1e39, 0.0), INFINITE_FEATURE),
            (("a", moment, 0.5, 7.0), UNKNOWN_LABEL),
            ((None, None, NAN, 7.0), NULL_ID),
            (("a", None, NAN, 7.0), NAN_FEATURE),
            (("a", None, 0.5, 7.0), NULL_TIME),
        ]
        schema = "id string, t timestamp, x double, y double"
        found = self.rows(spark, [row for row, _ in cases], schema)
        assert [row["reason"] for row in found] == [reason for _, reason in cases]
        assert [row["features"] for row in found] == [
            None if reason else [0.5] for _, reason in cases
        ]
        assert [row["label_index"] for row in found[:2]] == [0, None]
        kept = [json.loads(row["row"]) for row in found[2:]]
        assert all(tuple(row) == ONE_FEATURE.columns for row in kept)
        assert kept[0] == {"id": None, "t": "2024-01-01T00:00:00.000Z", "x": 0.5, "y": 0.0}
        assert (kept[4]["x"], kept[-1]["y"]) == ("NaN", 7.0)

    @pytest.mark.parametrize(
        "sql_type", ["float", "double", "int", "long", "decimal(5,2)", "boolean", "string"]
    )
    def test_features_of_any_type_that_holds_a_number(self, spark, sql_type):
        one = {"decimal(5,2)": Decimal(1), "boolean": True, "string": " 1.0 "}.get(sql_type, 1)
        one = 1.0 if sql_type in ("float", "double") else one
        schema = f"id string, t long, x {sql_type}, y int"
        found = self.rows(spark, [("a", 1, one, 0), ("a", 1, None, 0)], schema)
        assert [row["features"] for row in found] == [[1.0], None]
        assert [row["reason"] for row in found] == [None, NULL_FEATURE]

    def test_text_among_numbers_has_its_reasons(self, spark):
        contract = Contract(
            columns=("x", "z", "y"),
            features=("x", "z"),
            n_features=2,
            classes=("0", "1"),
            label="y",
        )
        rows = [(1.0, "2"), (NAN, "2"), (1.0, "abc"), (1.0, ""), (1e300, "2"), (None, "abc")]
        found = self.rows(spark, [(*row, 1) for row in rows], "x double, z string, y int", contract)
        assert found[0]["features"] == [1.0, 2.0]
        assert [row["reason"] for row in found] == [
            None,
            NAN_FEATURE,
            UNPARSABLE,
            NULL_FEATURE,
            INFINITE_FEATURE,
            NULL_FEATURE,
        ]

    @pytest.mark.parametrize("element", ["float", "double", "int", "string"])
    def test_arrays(self, spark, element):
        cast = {"float": float, "double": float, "int": int, "string": str}[element]
        arrays = [[1, 2], [1], [1, 2, 3], [], [1, None], None]
        typed = [
            (values and [None if v is None else cast(v) for v in values], 1) for values in arrays
        ]
        found = self.rows(spark, typed, f"f array<{element}>, y int", ARRAYS)
        assert [row["reason"] for row in found] == [
            None,
            WRONG_LENGTH,
            WRONG_LENGTH,
            WRONG_LENGTH,
            NULL_FEATURE,
            NULL_FEATURE,
        ]
        assert [row["features"] for row in found] == [[1.0, 2.0]] + [None] * 5

    def test_an_id_is_missed_before_an_array(self, spark):
        contract = dataclasses.replace(ARRAYS, columns=("id", "f", "y"), id="id")
        schema = "id string, f array<double>, y int"
        (row,) = self.rows(spark, [(None, None, 0)], schema, contract)
        assert row["reason"] == NULL_ID

    def test_array_elements_that_are_no_finite_numbers(self, spark):
        arrays = [[1.0, NAN], [INFINITY, 1.0], [1.0, 1e39], [INFINITY, -INFINITY]]
        found = self.rows(spark, [(a, 1) for a in arrays], "f array<double>, y int", ARRAYS)
        assert [row["reason"] for row in found] == [NAN_FEATURE] + [INFINITE_FEATURE] * 3

    @pytest.mark.parametrize(
        ("sql_type", "value"),
        [
            ("timestamp", NEW_YEAR.replace(tzinfo=None)),
            ("timestamp_ntz", NEW_YEAR.replace(tzinfo=None)),
            ("date", date(2024, 1, 1)),
            ("long", 1_704_067_200),
            ("int", 1_704_067_200),
            ("double", 1_704_067_200.0),
            ("decimal(12,0)", Decimal(1_704_067_200)),
            ("string", "2024-01-01T00:00:00Z"),
            ("string", "1704067200"),
        ],
    )
    def test_times_of_any_type_that_tells_one(self, spark, sql_type, value):
        schema = f"id string, t {sql_type}, x double, y int"
        found = self.rows(spark, [("a", value, 0.5, 0), ("a", None, 0.5, 0)], schema)
        assert [row["event_time"] for row in found] == [NEW_YEAR, None]
        assert [row["reason"] for row in found] == [None, NULL_TIME]

    @pytest.mark.parametrize(
        ("sql_type", "value"),
        [
            ("string", "soon"),
            ("string", "12:00"),
            ("string", "2024-13-01"),
            ("double", NAN),
            ("double", INFINITY),
        ],
    )
    def test_a_value_that_is_no_time_is_unparsable(self, spark, sql_type, value):
        schema = f"id string, t {sql_type}, x double, y int"
        found = self.rows(spark, [("a", value, 0.5, 0), ("b", None, 0.5, 0)], schema)
        assert [row["reason"] for row in found] == [UNPARSABLE, NULL_TIME]

    def test_a_time_beyond_the_calendar_stops_nothing(self, spark):
        schema = "id string, t double, x double, y int"
        found = self.rows(spark, [("a", 1e30, 0.5, 0), ("b", 1.0, 0.5, 0)], schema)
        assert found[1]["reason"] is None

    @pytest.mark.parametrize(
        ("sql_type", "values"),
        [
            ("int", [1, 0, None]),
            ("double", [1.0, 0.0, None]),
            ("string", [" 1.0 ", "0", ""]),
            ("decimal(3,1)", [Decimal("1.0"), Decimal(0), None]),
        ],
    )
    def test_labels_of_any_type(self, spark, sql_type, values):
        schema = f"id string, t long, x double, y {sql_type}"
        found = self.rows(spark, [("a", 1, 0.5, value) for value in values], schema)
        assert [row["label_index"] for row in found] == [1, 0, None]


class TestColumnNames:
    NAMES = {
        "dots, spaces, backticks": ("a.b", "c d", "e`f", "`", "g``h.i", "größe", "温度", "j`"),
        "names used inside": (
            "values",
            "features",
            "label",
            "raw",
            "parsed",
            "reason",
            "event_id",
            "event_time",
            "row",
            "time_text",
            "label_index",
            "y",
        ),
        "case alone": ("x", "X", "y"),
        "the corrupt line's": ("_corrupt_line", "x", "y"),
    }

    @pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
    @pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
    def test_any_names_work(self, spark, names, file_format):
        *features, label = names
        contract = Contract(
            columns=names,
            features=tuple(features),
            n_features=len(features),
            classes=("0", "1"),
            label=label,
            id=names[0],
        )
        values = [float(number) for number in range(len(features))]
        lines = [(*values, 0.0), (*values[:-1], None, 0.0)]
        if file_format == "csv":
            rows = [",".join("" if v is None else str(v) for v in line) for line in lines]
        elif file_format == "json":
            rows = [json.dumps(dict(zip(names, line, strict=True))) for line in lines]
        else:
            rows = lines
        schema = ddl(names) if file_format == "parquet" else None
        good, bad = validated(spark, contract, file_format, rows, schema)
        assert (good["reason"], good["features"], good["label_index"]) == (None, values, 0)
        assert (good["event_id"], bad["reason"]) == ("0.0", NULL_FEATURE)
        assert tuple(json.loads(bad["row"])) == names


def ddl(names) -> str:
    return ", ".join(f"`{name.replace('`', '``')}` double" for name in names)


@pytest.fixture(scope="module")
def marked(spark):
    """Return four validated rows, the last of them marked as a duplicate."""
    texts = ["a,1,1.5,2,0", "b,1,1.5,2,0", "b,1,nan,2,0", "b,1,1.5,2,1"]
    df = spark.createDataFrame(list(enumerate(texts)), "sequence long, text string")
    rows = validate(parse(df, "csv", KEYED.columns, None), KEYED, "csv")
    return mark_duplicates(rows, [3]).orderBy("sequence").collect()


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


LABELS = [
    "0",
    "1",
    "1.0",
    " 1.00 ",
    "-1.0",
    "-0.0",
    "007.0",
    "1.5",
    "1.50",
    "1.",
    ".0",
    "1.0.0",
    "+1.0",
    "1e0",
    "up",
    " up ",
    "in between",
    "\t1\t",
    "\u00a01.0",
    "null",
    "NaN",
    "é",
    "12345678901234567890.0",
    "",
    " ",
    "１.0",
    "٣.0",
    "1.0\n",
    "1.0\r",
]


@pytest.fixture(scope="module")
def of_spark(spark):
    df = spark.createDataFrame(list(enumerate(LABELS)), "i long, v string")
    rows = df.orderBy("i").select(canonical_label(F.col("v")).alias("label")).collect()
    return dict(zip(LABELS, (row.label for row in rows), strict=True))


@pytest.mark.parametrize("value", LABELS, ids=ascii)
def test_spark_and_python_agree_on_the_form_of_a_label(of_spark, value):
    assert of_spark[value] == (labels.canonical_label(value) or None)


class TestContract:
    @pytest.mark.parametrize(
        ("classes", "expected"),
        [
            (("0", "1"), T.LongType()),
            (("-1", "1"), T.LongType()),
            (("0", "up"), T.StringType()),
            (("0.5", "1"), T.StringType()),
        ],
    )
    def test_integers_are_predicted_as_integers(self, classes, expected):
        contract = Contract(columns=("x",), features=("x",), n_features=1, classes=classes)
        assert contract.label_type == expected

    def test_features_and_classes_go_with_the_state_in_order(self):
        assert contract_from_metadata(KEYED.to_metadata()) == {
            "features": KEYED.features,
            "classes": KEYED.classes,
        }

    def test_a_state_without_a_contract_has_none(self):
        assert contract_from_metadata({}) == {}
