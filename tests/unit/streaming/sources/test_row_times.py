"""The time of a row is found in every format, or is not known, and never an error."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from app.streaming.sources.row_times import RowTimes

SECOND = 1_000_000
NOON = 1_767_268_800 * SECOND


def of_text(row_format: str, *lines: str) -> list[int | None]:
    times = RowTimes(row_format, ("id", "t"), "t")
    return list(times.of(pa.record_batch({"text": list(lines)})))


def of_column(values: pa.Array) -> list[int | None]:
    return list(RowTimes("parquet", (), "t").of(pa.record_batch({"t": values})))


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
    assert of_text("csv", "a,2026-01-01T12:00:00Z", '"a, b",1767268800') == [NOON, NOON]


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
    ],
)
def test_what_is_no_time_of_a_row_that_was_given_by_now(line):
    assert of_text("json", line) == [None]


def test_a_line_of_csv_that_is_cut_short():
    assert of_text("csv", "a", "", '"') == [None, None, None]


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
    assert of_column(pa.array([-(2**63)], pa.timestamp("us"))) == [-(2**63)]


def test_a_row_dated_far_ahead_says_nothing():
    now = time.time()
    assert of_text("json", f'{{"t": {now + 3600}}}') != [None]
    assert of_text("json", f'{{"t": {now + 2 * 86_400}}}') == [None]
