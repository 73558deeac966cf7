"""Rows of typed columns, and columns of any name."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from decimal import Decimal

import pytest

from app.contract import (
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
from tests.unit.rows import (
    ARRAYS,
    INFINITY,
    NAN,
    NEW_YEAR,
    ONE_FEATURE,
    validated,
)


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
