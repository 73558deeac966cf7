"""Rows of typed columns, and columns of any name."""

from __future__ import annotations

import json
import uuid
from datetime import date, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from app.contract import (
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_TIME,
    UNKNOWN_LABEL,
    UNPARSABLE,
    Contract,
)
from app.parsing.row_parser import ParsingRules
from app.parsing.times import TimeRules
from tests.unit.rows import (
    INFINITY,
    NAN,
    NEW_YEAR,
    NUMBER_TYPES,
    ONE_FEATURE,
    as_item,
    event,
    event_columns,
    parsed,
    text_batch,
    validated,
)

UNITS = ["s", "ms", "us", "ns"]
CATEGORIES = pa.dictionary(pa.int32(), pa.string())


class TestParquet:
    def rows(self, rows, schema, contract=ONE_FEATURE):
        return validated(contract, "parquet", rows, schema)

    def test_typed_rows_have_every_reason(self):
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
        schema = {
            "id": pa.string(),
            "t": pa.timestamp("us"),
            "x": pa.float64(),
            "y": pa.float64(),
        }
        found = self.rows([row for row, _ in cases], schema)
        assert [row["reason"] for row in found] == [reason for _, reason in cases]
        assert [row["features"] for row in found] == [
            None if reason else [0.5] for _, reason in cases
        ]
        assert [row["label_index"] for row in found[:2]] == [0, None]
        kept = [json.loads(row["row"]) for row in found[2:]]
        assert all(tuple(row) == ONE_FEATURE.columns for row in kept)
        assert kept[0] == {"id": None, "t": "2024-01-01T00:00:00", "x": 0.5, "y": 0.0}
        assert (kept[4]["x"], kept[5]["x"], kept[-1]["y"]) == ("nan", "inf", 7.0)

    @pytest.mark.parametrize("kind", [*NUMBER_TYPES, pa.string(), pa.bool_()], ids=str)
    def test_features_of_any_type_that_holds_a_number(self, kind):
        one = " 1.0 " if pa.types.is_string(kind) else as_item(1, kind)
        found = self.rows([("a", 1, one, 0), ("a", 1, None, 0)], event(x=kind))
        assert [row["features"] for row in found] == [[1.0], None]
        assert [row["reason"] for row in found] == [None, NULL_FEATURE]

    @pytest.mark.parametrize(
        "values",
        [
            pa.array([NEW_YEAR]),
            pa.array([date(2024, 1, 1)]),
            pa.array([time(12, 0)]),
            pa.array([timedelta(1)]),
            pa.array([[1.0]]),
            pa.array([{"a": 1.0}]),
        ],
        ids=lambda values: str(values.type),
    )
    def test_a_column_that_holds_no_numbers_has_none(self, values):
        (row,) = parsed(ONE_FEATURE, event_columns(x=values))
        assert row["reason"] == UNPARSABLE

    def test_text_among_numbers_has_its_reasons(self):
        contract = Contract(
            columns=("x", "z", "y"),
            features=("x", "z"),
            n_features=2,
            classes=("0", "1"),
            label="y",
        )
        rows = [(1.0, "2"), (NAN, "2"), (1.0, "abc"), (1.0, ""), (1e300, "2"), (None, "abc")]
        found = self.rows(
            [(*row, 1) for row in rows],
            {"x": pa.float64(), "z": pa.string(), "y": pa.int32()},
            contract,
        )
        assert found[0]["features"] == [1.0, 2.0]
        assert [row["reason"] for row in found] == [
            None,
            NAN_FEATURE,
            UNPARSABLE,
            NULL_FEATURE,
            INFINITE_FEATURE,
            NULL_FEATURE,
        ]

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            *((pa.timestamp(unit), NEW_YEAR.replace(tzinfo=None)) for unit in UNITS),
            *((pa.timestamp(unit, "Asia/Tokyo"), NEW_YEAR) for unit in UNITS),
            (pa.date32(), date(2024, 1, 1)),
            (pa.date64(), date(2024, 1, 1)),
            (pa.int64(), 1_704_067_200),
            (pa.int32(), 1_704_067_200),
            (pa.uint64(), 1_704_067_200),
            (pa.float64(), 1_704_067_200.0),
            (pa.decimal128(12, 0), Decimal(1_704_067_200)),
            (pa.string(), "2024-01-01T00:00:00Z"),
            (pa.string(), "1704067200"),
            (pa.large_string(), "2024-01-01"),
            (pa.dictionary(pa.int32(), pa.string()), "2024-01-01"),
        ],
        ids=str,
    )
    def test_times_of_any_type_that_tells_one(self, kind, value):
        found = self.rows([("a", value, 0.5, 0), ("a", None, 0.5, 0)], event(t=kind))
        assert [row["event_time"] for row in found] == [NEW_YEAR, None]
        assert [row["reason"] for row in found] == [None, NULL_TIME]

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (pa.string(), "soon"),
            (pa.string(), "12:00"),
            (pa.string(), "2024-13-01"),
            (pa.float64(), NAN),
            (pa.float64(), INFINITY),
            (pa.float64(), 1e30),
            (pa.int64(), 2**63 - 1),
            (pa.int64(), -(2**63)),
            (pa.uint64(), 2**64 - 1),
            (pa.bool_(), True),
            (pa.time64("us"), time(12, 0)),
            (pa.duration("us"), timedelta(1)),
            (pa.list_(pa.int64()), [1]),
        ],
        ids=str,
    )
    def test_a_value_that_is_no_time_is_unparsable(self, kind, value):
        found = self.rows([("a", value, 0.5, 0), ("b", None, 0.5, 0)], event(t=kind))
        assert [row["reason"] for row in found] == [UNPARSABLE, NULL_TIME]

    @pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.binary(), CATEGORIES])
    def test_empty_text_is_missing(self, text):
        empty = pa.array([" ", "2024-01-01", None]).cast(pa.string()).cast(text)
        (reason, *_), (time_reason, good, null_time), (feature_reason, *_) = (
            [row["reason"] for row in parsed(ONE_FEATURE, event_columns(**{name: empty}))]
            for name in ("id", "t", "x")
        )
        assert (reason, time_reason, feature_reason) == (NULL_ID, NULL_TIME, NULL_FEATURE)
        assert (good, null_time) == (None, NULL_TIME)

    @pytest.mark.parametrize("unit", UNITS)
    @pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
    def test_a_time_beyond_the_calendar_stops_nothing(self, unit, zone):
        counts = pa.array([2**63 - 1, 2**60, 1, -(2**62), -(2**63) + 1])
        rows = parsed(ONE_FEATURE, event_columns(t=counts.cast(pa.timestamp(unit, zone))))
        assert rows[2]["reason"] is None
        for row in rows:
            assert (row["event_time"] is None) == (row["reason"] == UNPARSABLE)
            assert (row["row"] is None) == (row["reason"] is None)

    @pytest.mark.parametrize(("kind", "days"), [(pa.date32(), 1), (pa.date64(), 86_400_000)])
    def test_a_date_beyond_the_calendar_stops_nothing(self, kind, days):
        width = pa.int32() if pa.types.is_date32(kind) else pa.int64()
        counts = pa.array([2**31 - 1, 1, -(2**31) + 1], pa.int64())
        dates = pc.multiply(counts, days).cast(width).cast(kind)
        found = parsed(ONE_FEATURE, event_columns(t=dates))
        assert [row["reason"] for row in found] == [UNPARSABLE, None, UNPARSABLE]
        assert [row["row"] is None for row in found] == [False, True, False]

    @pytest.mark.parametrize(
        ("kind", "values"),
        [
            (pa.int32(), [1, 0, None]),
            (pa.float64(), [1.0, 0.0, None]),
            (pa.float64(), [1.0, -0.0, NAN]),
            (pa.float16(), [1.0, 0.0, None]),
            (pa.string(), [" 1.0 ", "0", ""]),
            (pa.large_string(), ["1", "0.00", "NA"]),
            (pa.binary(), [b"1", b"0", b""]),
            (pa.decimal128(3, 1), [Decimal("1.0"), Decimal(0), None]),
            (pa.dictionary(pa.int8(), pa.string()), ["1", "0", None]),
            (pa.dictionary(pa.int8(), pa.int64()), [1, 0, None]),
        ],
        ids=str,
    )
    def test_labels_of_any_type(self, kind, values):
        found = self.rows([("a", 1, 0.5, value) for value in values], event(y=kind))
        assert [row["label_index"] for row in found] == [1, 0, None]

    def test_a_nan_is_no_label_whatever_stands_for_a_missing_value(self):
        rules = ParsingRules(missing=("",), times=TimeRules("s"))
        (row,) = parsed(ONE_FEATURE, event_columns(y=pa.array([NAN])), rules)
        assert (row["reason"], row["label_index"]) == (None, None)


class TestWrappedColumns:
    """What an Arrow stream or a Parquet file may hold beside plain columns."""

    def test_an_id_may_be_a_uuid(self):
        ids = [uuid.UUID(int=7), None]
        column = pa.array([each and each.bytes for each in ids], pa.uuid())
        found = parsed(ONE_FEATURE, event_columns(id=column))
        assert [row["event_id"] for row in found] == [str(ids[0]), None]
        assert [row["reason"] for row in found] == [None, NULL_ID]
        assert json.loads(found[1]["row"] or "")["id"] is None

    @pytest.mark.parametrize("name", ["id", "t", "x", "y"])
    @pytest.mark.parametrize("values", [pa.array([1, 1, 0]), pa.array(["1", "1", "0"])], ids=str)
    def test_values_may_be_kept_once_for_many_rows(self, name, values):
        expected = parsed(ONE_FEATURE, event_columns(**{name: values}))
        assert [row["reason"] for row in expected] == [None] * 3
        for wrapped in (values.dictionary_encode(), pc.run_end_encode(values)):
            assert parsed(ONE_FEATURE, event_columns(**{name: wrapped})) == expected

    @pytest.mark.parametrize(
        ("name", "reason"), [("id", NULL_ID), ("t", NULL_TIME), ("x", NULL_FEATURE), ("y", None)]
    )
    def test_text_that_is_no_utf8_spoils_no_other_row(self, name, reason):
        # Parquet's readers do not look.
        offsets, data = np.array([0, 1, 2], np.int32), b"1\xff"
        text = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(data))
        good, bad = parsed(ONE_FEATURE, event_columns(**{name: text}), with_rows=True)
        assert (good["reason"], bad["reason"]) == (None, reason)
        assert json.loads(bad["row"])[name] == r"\xff"

    @pytest.mark.parametrize("name", ["id", "t", "x", "y"])
    @pytest.mark.parametrize(
        "values",
        [
            pa.array([[1]]),
            pa.array([{"a": 1}]),
            pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
            pa.array([timedelta(1)]),
            pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
            pa.array([time(12, 0)]),
            pa.nulls(1),
            pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()),
                                     [pa.array([1])]),
        ],
        ids=lambda values: str(values.type),
    )  # fmt: skip
    def test_a_column_of_any_type_stops_nothing(self, name, values):
        (row,) = parsed(ONE_FEATURE, event_columns(**{name: values}), with_rows=True)
        assert name in json.loads(row["row"])


class TestColumnNames:
    NAMES = {
        "dots, spaces, backticks": ("a.b", "c d", "e`f", "`", "g``h.i", "größe", "温度", "j`"),
        "names used inside": (
            "text",
            "values",
            "features",
            "label",
            "format",
            "reason",
            "event_id",
            "event_time",
            "row",
            "0",
            "label_index",
            "y",
        ),
        "case alone": ("x", "X", "y"),
        "the corrupt line's": ("_corrupt_line", "x", "y"),
    }

    @pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
    @pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
    def test_any_names_work(self, names, file_format):
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
        schema = None
        if file_format == "csv":
            rows = [",".join("" if v is None else str(v) for v in line) for line in lines]
        elif file_format == "json":
            rows = [json.dumps(dict(zip(names, line, strict=True))) for line in lines]
        else:
            rows, schema = lines, dict.fromkeys(names, pa.float64())
        good, bad = validated(contract, file_format, rows, schema)
        assert (good["reason"], good["features"], good["label_index"]) == (None, values, 0)
        assert (good["event_id"], bad["reason"]) == ("0", NULL_FEATURE)
        assert tuple(json.loads(bad["row"])) == names

    def test_a_column_may_have_the_name_of_the_row_number(self):
        contract = Contract(("sequence",), ("sequence",), 1, ("0", "1"))
        batch = text_batch("csv", ["0.5"], ["sequence"], first=7)
        (of_csv,) = parsed(contract, batch)
        schema = pa.schema(
            [("sequence", pa.int64()), ("sequence", pa.float64())], {"format": "parquet"}
        )
        typed = pa.RecordBatch.from_arrays([pa.array([7]), pa.array([0.5])], schema=schema)
        assert parsed(contract, typed) == [of_csv]
        assert (of_csv["sequence"], of_csv["features"]) == (7, [0.5])
