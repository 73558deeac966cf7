"""Labels, times and ids that are written as text, in whatever form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import functions as F

from app import contract
from app.contract import UNPARSABLE, Contract
from app.streaming.rows.validation import canonical_label
from tests.unit.rows import (
    ARRAYS,
    KEYED,
    NEW_YEAR,
    as_json,
    validated,
)


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
    "１.0",  # noqa: RUF001 - the wide digit is the case.
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
    assert of_spark[value] == (contract.canonical_label(value) or None)
