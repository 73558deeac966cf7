"""The time of a row is found in every format, or is not known, and never an error."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from app.parsing.row_parser import row_times
from app.parsing.times import TimeRules
from tests.unit.rows import SECONDS, text_batch, typed_batch

SECOND = 1_000_000
NOON = 1_767_268_800 * SECOND


def of_text(row_format: str, *lines: str | bytes, unit: str | None = "s") -> list[int | None]:
    header = ("id", "t") if row_format == "csv" else ()
    return row_times(text_batch(row_format, lines, header), "t", TimeRules(unit))


def of_column(values: pa.Array, rules: TimeRules = SECONDS.times) -> list[int | None]:
    return row_times(typed_batch({"t": values}), "t", rules)


@pytest.mark.parametrize(
    "text",
    [
        '"2026-01-01T12:00:00Z"',
        '"2026-01-01 12:00:00"',
        '"2026-01-01T13:00:00.000+01:00"',
        '" 2026-01-01T12:00:00 "',
        "1767268800",
        "1767268800.0",
        '"1767268800"',
    ],
)
def test_texts_and_numbers(text):
    assert of_text("json", f'{{"t": {text}}}') == [NOON]


def test_cells_of_csv():
    lines = ["a,2026-01-01T12:00:00Z", '"a, b",1767268800', '"a\nb","1767268800"']
    assert of_text("csv", *lines) == [NOON, NOON, NOON]


def test_each_time_is_that_of_its_own_row_whatever_is_between():
    lines = ["a,1", "2", "b,3", b"\xff,4", '"5', "c,6\r7", "d,,8", "e,9"]
    seconds = [1, None, 3, None, None, None, None, 9]
    assert of_text("csv", *lines) == [t and t * SECOND for t in seconds]
    assert of_text("json", '{"t": 1}', "?", "[2]", '{"t": 3}') == [SECOND, None, None, 3 * SECOND]


def test_without_its_column_no_row_has_a_time():
    rules = TimeRules("s")
    assert row_times(text_batch("csv", ["a,1", "b,2"], ("id", "u")), "t", rules) == [None, None]
    assert row_times(typed_batch({"u": pa.array([1, 2])}), "t", rules) == [None, None]
    damaged = typed_batch({"t": pa.array([1])}).replace_schema_metadata({"damage": "?"})
    assert row_times(damaged, "t", rules) == [None]


@pytest.mark.parametrize(
    ("unit", "times"),
    [
        (None, [NOON, None]),
        ("s", [NOON, 99_999_999 * SECOND]),
        ("ms", [NOON // 1000, 99_999_999_000]),
        ("us", [NOON // SECOND, 99_999_999]),
    ],
)
def test_numbers_count_the_unit_and_without_one_are_none_before_1973(unit, times):
    assert of_text("json", '{"t": 1767268800}', '{"t": "99999999"}', unit=unit) == times
    assert of_column(pa.array([1767268800, 99_999_999]), TimeRules(unit)) == times


def test_a_time_without_a_zone_is_of_the_zone_that_is_named():
    berlin = TimeRules(zone="Europe/Berlin")
    lines = ['{"t": "2026-01-01T13:00:00"}', '{"t": "2026-01-01T12:00:00Z"}']
    assert row_times(text_batch("json", lines), "t", berlin) == [NOON, NOON]
    assert of_column(pa.array([datetime(2026, 1, 1, 13)]), berlin) == [NOON]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no json",
        "[1]",
        "{}",
        '{"t": null}',
        '{"t": true, "t": []}',
        '{"t": {"t": 1}}',
        '{"t": "noon"}',
        '{"t": NaN}',
        '{"t": 1e400}',
        '{"t": -1e300}',
        '{"t": ' + "1" * 5000 + "}",
        "[" * 100_000,
        '{"t": "9999-12-31"}',
        b'{"t": "\xff"}',
    ],
)
def test_what_is_no_time_of_a_row_that_was_given_by_now(line):
    assert of_text("json", line) == [None]


def test_a_line_of_csv_that_is_cut_short():
    assert of_text("csv", "a", '"', 'a,"1') == [None, None, None]


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("us", "UTC"),
        pa.timestamp("us"),
        pa.timestamp("ns", "Europe/Berlin"),
        pa.timestamp("s"),
    ],
)
def test_timestamps(kind):
    values = pa.array([NOON, None], pa.int64()).cast(pa.timestamp("us")).cast(kind)
    assert of_column(values) == [NOON, None]


def test_other_types():
    midnight = NOON - 12 * 3600 * SECOND
    assert of_column(pa.array([date(2026, 1, 1)])) == [midnight]
    assert of_column(pa.array([1.5, None])) == [1_500_000, None]
    assert of_column(pa.array(["1.5"])) == [1_500_000]
    assert of_column(pa.array([b"x"])) == [None]
    assert of_column(pa.array([datetime(2026, 1, 1, 12, tzinfo=UTC).time()])) == [None]
    assert of_column(pa.array([True])) == [None]


def test_a_time_of_no_year_with_four_digits_is_none():
    extremes = pa.array([-(2**63), 2**63 - 1], pa.int64())
    assert of_column(extremes.cast(pa.timestamp("us"))) == [None, None]
    assert of_column(extremes) == [None, None]
    assert of_column(pa.array([-1e300, float("inf"), float("nan")])) == [None] * 3


def test_a_row_dated_far_ahead_says_nothing():
    now = time.time()
    assert of_text("json", f'{{"t": {now + 3600}}}') != [None]
    assert of_text("json", f'{{"t": {now + 2 * 86_400}}}') == [None]
