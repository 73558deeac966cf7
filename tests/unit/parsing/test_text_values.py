"""Labels, times and ids that are written as text, in whatever form."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from app.contract import FUTURE_TIME, NULL_ID, NULL_LABEL, UNKNOWN_LABEL, UNPARSABLE, Contract
from app.parsing.row_parser import DEFAULT_RULES, ParsingRules
from app.parsing.times import TimeRules
from tests.unit.rows import ARRAYS, KEYED, NAN, NEW_YEAR, as_json, validated


class TestTextLabels:
    LABELS = {"0": 0, "1": 1, "1.0": 1, " 1.000 ": 1, "up": 2, " up ": 2, "": None, "  ": None}

    @pytest.mark.parametrize("file_format", ["csv", "json"])
    def test_a_label_is_known_however_it_is_written(self, file_format):
        lines = [
            as_json(y=text) if file_format == "json" else f"a,1,1.5,2,{text}"
            for text in self.LABELS
        ]
        rows = validated(KEYED, file_format, lines)
        assert {row["reason"] for row in rows} == {None}
        assert [row["label_index"] for row in rows] == list(self.LABELS.values())

    def test_numbers_of_json_are_labels(self):
        rows = validated(KEYED, "json", [as_json(y=1), as_json(y=1.0), as_json(y=0)])
        assert [row["label_index"] for row in rows] == [1, 1, 0]

    def test_a_truth_is_one_label_whoever_wrote_it(self):
        contract = Contract(
            columns=("x", "y"), features=("x",), n_features=1, classes=("false", "true"), label="y"
        )
        lines = ["1,True", "1,true", "1,TRUE", "1, False "]
        lines_of_json = ['{"x":1,"y":true}', '{"x":1,"y":"True"}', '{"x":1,"y":false}']
        of_csv, of_json = (
            [row["label_index"] for row in validated(contract, file_format, rows)]
            for file_format, rows in (("csv", lines), ("json", lines_of_json))
        )
        assert (of_csv, of_json) == ([1, 1, 1, 0], [1, 1, 0])

    @pytest.mark.parametrize("text", ["NA", "n/a", "NaN", "null", "None", "?", " na "])
    def test_what_stands_for_a_missing_value_is_no_label(self, text):
        (row,) = validated(KEYED, "csv", [f"a,1,1.5,2,{text}"])
        assert (row["reason"], row["label_index"]) == (None, None)

    def test_a_class_may_have_the_name_of_what_else_stands_for_a_missing_value(self):
        contract = Contract(
            columns=("x", "y"), features=("x",), n_features=1, classes=("NA", "b"), label="y"
        )
        rows = validated(contract, "csv", ["1,NA", "1,na", "1,None", "1,"])
        assert [row["label_index"] for row in rows] == [0, None, None, None]
        assert [row["reason"] for row in rows] == [None, UNKNOWN_LABEL, None, None]

    def test_feedback_is_of_no_use_without_a_label(self):
        contract = Contract.of_feedback(("i", "t", "y"), ("0", "1"), id="i", time="t", label="y")
        rows = validated(contract, "csv", ["a,1,1", "a,1,", "a,1,NA", "a,1,7"])
        assert [row["reason"] for row in rows] == [None, NULL_LABEL, NULL_LABEL, UNKNOWN_LABEL]
        assert [row["label_index"] for row in rows] == [1, None, None, None]


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
    "true",
    "False",
]


@pytest.fixture(scope="module", params=["csv", "json"])
def of_times(request):
    """Return what becomes of a row with each of the texts as its time."""
    texts = [*TIMES, *NO_TIMES]
    lines = [as_json(t=text) if request.param == "json" else f"a,{text},1.5,2,0" for text in texts]
    return dict(zip(texts, validated(KEYED, request.param, lines), strict=True))


class TestTextTimes:
    @pytest.mark.parametrize("text", TIMES)
    def test_a_time_is_iso_text_or_seconds_since_1970(self, of_times, text):
        row = of_times[text]
        assert (row["reason"], row["event_time"]) == (None, TIMES[text])

    @pytest.mark.parametrize("text", NO_TIMES)
    def test_any_other_text_is_unparsable(self, of_times, text):
        row = of_times[text]
        assert (row["reason"], row["event_time"]) == (UNPARSABLE, None)

    def test_a_number_before_1973_is_no_time_unless_its_unit_is_told(self):
        lines = [f"a,{number},1.5,2,0" for number in ("2024", "20240102", "45293", "1704067200")]
        rows = validated(KEYED, "csv", lines, rules=DEFAULT_RULES)
        assert [row["reason"] for row in rows] == [UNPARSABLE] * 3 + [None]

    @pytest.mark.parametrize(
        ("unit", "number"),
        [("s", "1704067200"), ("ms", "1704067200000"), ("us", "1704067200000000")],
    )
    def test_a_number_counts_the_unit_that_is_told(self, unit, number):
        rules = ParsingRules(times=TimeRules(unit))
        lines = [as_json(t=int(number)), as_json(t=number), as_json(t=float(number))]
        rows = validated(KEYED, "json", lines, rules=rules)
        assert [row["event_time"] for row in rows] == [NEW_YEAR] * 3

    def test_a_time_without_a_zone_is_local_where_the_rules_say(self):
        rules = ParsingRules(times=TimeRules(zone="America/New_York"))
        lines = ["a,2023-12-31 19:00:00,1.5,2,0", "a,2024-01-01T00:00:00Z,1.5,2,0"]
        rows = validated(KEYED, "csv", lines, rules=rules)
        assert [row["event_time"] for row in rows] == [NEW_YEAR] * 2

    def test_a_time_far_ahead_is_refused_where_it_would_carry_a_watermark_along(self):
        now = datetime.now(UTC)
        lines = [as_json(t=(now + timedelta(hours=hours)).isoformat()) for hours in (23, 25)]
        refused = validated(KEYED, "json", lines, rules=ParsingRules(rejects_future=True))
        assert [row["reason"] for row in refused] == [None, FUTURE_TIME]
        assert [row["reason"] for row in validated(KEYED, "json", lines)] == [None, None]


class TestIds:
    def test_the_id_is_trimmed_text(self):
        lines = ["a,1,1.5,2,0", " b ,1,1.5,2,0", '"c, ""d"" e",1,1.5,2,0', "1.0,1,1.5,2,0"]
        rows = validated(KEYED, "csv", lines)
        assert [row["event_id"] for row in rows] == ["a", "b", 'c, "d" e', "1"]

    @pytest.mark.parametrize(
        ("event_id", "texts"),
        [
            ("17", ["17", "17.0", " 17.00"]),
            ("10000000", ["1e+07", "1e+7", "1.0E7"]),
            ("0.00000015", ["1.5e-07", "1.5e-7", "1.5E-7"]),
            ("0", ["0", "-0.0", "-0"]),
            ("true", ["True", "TRUE", "true"]),
        ],
    )
    def test_an_id_is_the_same_however_a_number_was_written(self, event_id, texts):
        rows = validated(KEYED, "csv", [f"{text},1,1.5,2,0" for text in texts])
        assert {row["event_id"] for row in rows} == {event_id}

    @pytest.mark.parametrize("text", ["007", "1.50", "10e2", "12e-05", "+1", "1.0.0", "v1.0", "NA"])
    def test_text_that_no_writer_makes_of_a_number_is_an_id_as_it_is(self, text):
        (row,) = validated(KEYED, "csv", [f"{text},1,1.5,2,0"])
        assert row["event_id"] == text

    def test_what_a_writer_makes_of_nan_is_no_id(self):
        lines = [as_json(id=NAN), as_json(id="nan"), as_json(id="NaN"), as_json(id="b")]
        rows = validated(KEYED, "json", lines)
        assert [row["reason"] for row in rows] == [NULL_ID] * 3 + [None]
        assert validated(KEYED, "json", lines[:1])[0]["reason"] == NULL_ID

    @pytest.mark.parametrize("digits", ["9223372036854775808", "1" * 30, "9" * 400])
    def test_an_integer_of_any_length_is_an_id_digit_by_digit(self, digits):
        nested = dataclasses.replace(KEYED, id="event.id")
        for number in (digits, f"-{digits}"):
            for others in ([], [as_json()]):
                row, *_ = validated(
                    KEYED, "json", [as_json()[:-1] + f', "id": {number}}}', *others]
                )
                assert row["event_id"] == number
                line = as_json()[:-1] + f', "event": {{"id": {number}}}}}'
                row, *_ = validated(nested, "json", [line, *others])
                assert row["event_id"] == number

    def test_an_array_or_an_object_in_one_row_spoils_no_other(self):
        lines = [as_json(id=[1, "a"]), as_json(id={"b": 1}), as_json(id="c")]
        rows = validated(KEYED, "json", lines)
        assert [row["event_id"] for row in rows] == ['[1, "a"]', '{"b": 1}', "c"]

    def test_without_an_id_column_the_row_number_is_the_id(self):
        rows = validated(ARRAYS, "json", ['{"f":[1,2],"y":0}', '{"f":[1],"y":0}'])
        assert [row["event_id"] for row in rows] == ["0", "1"]
        assert [row["event_time"] for row in rows] == [None, None]

    def test_without_a_label_column_no_row_has_a_label(self):
        contract = Contract(columns=("x",), features=("x",), n_features=1, classes=("0", "1"))
        (row,) = validated(contract, "csv", ["0.5"])
        assert (row["reason"], row["features"], row["label_index"]) == (None, [0.5], None)
