"""A time is the same moment in whatever type or text it comes."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.parsing.times import TimeRules, _one_by_one, times

UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = dt.timedelta(microseconds=1)

ZONES = [
    "UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata",
    "Pacific/Apia", "Africa/Casablanca",
]  # fmt: skip
PER_SECOND = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}

# Where clocks are put forward and back, half of them in a year without a day.
TURNS = [
    dt.datetime(2024, 3, 10, 2), dt.datetime(2024, 11, 3, 1), dt.datetime(2024, 3, 31, 2),
    dt.datetime(2024, 10, 27, 2), dt.datetime(2024, 10, 6, 2), dt.datetime(2024, 4, 7, 1, 30),
    dt.datetime(2011, 12, 30), dt.datetime(2024, 3, 10, 2), dt.datetime(1969, 12, 31, 23, 59),
]  # fmt: skip
NEAR_A_TURN = st.builds(
    lambda turn, minutes, micros: turn + dt.timedelta(minutes=minutes, microseconds=micros),
    st.sampled_from(TURNS),
    st.integers(-90, 150),
    st.sampled_from([0, 1, 999_999, 250_000]),
)
# Not so early that Arrow and Python know other histories of the zones.
NAIVE = NEAR_A_TURN | st.datetimes(dt.datetime(1971, 1, 2), dt.datetime(2037, 1, 1))
ANY_NAIVE = NAIVE | st.datetimes()
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))


def moment(micros: int) -> dt.datetime | None:
    """Return a time in microseconds since 1970, None when it is not of the years 1 to 9999."""
    try:
        return EPOCH + micros * MICROSECOND
    except OverflowError:
        return None


def local(naive: dt.datetime, zone: str) -> dt.datetime | None:
    """Return a local time, the first of two; one that is left out counts from before it."""
    try:
        return naive.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    except OverflowError:
        return None


def found(values: pa.Array, rules: TimeRules) -> list[dt.datetime | None]:
    result = times(values, rules)
    result.validate(full=True)
    assert result.type == pa.timestamp("us", "UTC")
    return [
        None if value is None else moment(value) for value in result.cast(pa.int64()).to_pylist()
    ]


FORMS = {
    "T": lambda t: t.isoformat(),
    "space": lambda t: t.isoformat(" "),
    "seconds": lambda t: t.replace(microsecond=0).isoformat(),
    "minutes": lambda t: t.isoformat(timespec="minutes"),
    "milliseconds": lambda t: t.isoformat(timespec="milliseconds"),
    "microseconds": lambda t: t.isoformat(timespec="microseconds"),
    "nanoseconds": lambda t: t.isoformat(timespec="microseconds") + "999",
    "one digit": lambda t: t.isoformat(timespec="milliseconds")[:-2],
    "hours": lambda t: t.isoformat(timespec="hours"),
    "comma": lambda t: t.isoformat(timespec="milliseconds").replace(".", ","),
    "date": lambda t: t.date().isoformat(),
    "basic": lambda t: t.strftime("%Y%m%dT%H%M%S"),
    "week": lambda t: "{}-W{:02}-{}".format(*t.isocalendar()),
}
SUFFIXES = ["", "", "Z", "z", "+00:00", "+0530", "-05:00", "+02", "-0000", "+14:00", " Z", "+5:30"]
PADDINGS = ["", "", "", " ", "\t", "\u00a0"]
OTHERS = [
    "", " ", "nan", "inf", "soon", "12:00", "true", "1704067200", "1704067200.5", "+1704067200",
    "-1", "1e9", "20240101", "2024", "0000-01-01", "10000-01-01", "2024-02-30", "2024-01-01T24:00",
    "2024-01-01T23:59:60", "2024-01-01T00:00:00+25:00", "2024-01-01 00:00:00 UTC", "-2024-01-01",
    "253402300799999999", "9223372036854775807", "9223372036854775808",
]  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> list[str | None]:
    """Return times in text, mostly all in one form, as the fast way takes them."""
    forms = draw(st.lists(st.sampled_from(list(FORMS.values())), min_size=1, max_size=2))
    suffixes = draw(st.lists(st.sampled_from(SUFFIXES), min_size=1, max_size=2))
    one = st.builds(
        lambda t, form, suffix, padding: f"{padding}{form(t)}{suffix}{padding}",
        ANY_NAIVE,
        st.sampled_from(forms),
        st.sampled_from(suffixes),
        st.sampled_from(PADDINGS) if draw(st.booleans()) else st.just(""),
    )
    if draw(st.booleans()):
        one |= st.none() | st.sampled_from(OTHERS)
    return draw(st.lists(one, min_size=1, max_size=12))


RULES = st.builds(TimeRules, st.sampled_from([None, "s", "ms", "us"]), st.sampled_from(ZONES))


@given(values=texts(), rules=RULES)
@settings(max_examples=500, deadline=None, derandomize=True)
def test_text_is_read_alike_together_and_one_by_one(values, rules):
    column = pa.array(values, pa.string())
    together = found(column, rules)
    one_by_one = _one_by_one(pc.utf8_trim_whitespace(column), rules)
    assert [None if v is None else moment(v) for v in one_by_one.cast(pa.int64()).to_pylist()] == (
        together
    )
    assert [found(column.slice(i, 1), rules)[0] for i in range(len(column))] == together


@given(values=st.lists(NAIVE, min_size=1, max_size=12), rules=RULES)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_time_without_a_zone_is_the_same_in_any_type(values, rules):
    expected = [local(value, rules.zone) for value in values]
    for unit in ("us", "ns"):
        assert found(pa.array(values, pa.timestamp(unit)), rules) == expected
    for form in ("T", "space", "microseconds", "nanoseconds"):
        assert found(pa.array([FORMS[form](value) for value in values]), rules) == expected
    whole = [value.replace(microsecond=0) for value in values]
    for unit in PER_SECOND:
        column = pa.array(whole, pa.timestamp(unit))
        assert found(column, rules) == [local(value, rules.zone) for value in whole]
    midnights = [dt.datetime.combine(value.date(), dt.time()) for value in values]
    for kind in (pa.date32(), pa.date64()):
        column = pa.array([value.date() for value in values], kind)
        assert found(column, rules) == [local(value, rules.zone) for value in midnights]


@given(
    counts=st.lists(st.none() | st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=12),
    unit=st.sampled_from(list(PER_SECOND)),
    zone=st.sampled_from(ZONES),
    rules=RULES,
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_typed_time_of_a_zone_is_its_moment_or_none(counts, unit, zone, rules):
    column = pa.array(counts, pa.int64()).cast(pa.timestamp(unit, zone))
    micros = [None if count is None else count * 1_000_000 // PER_SECOND[unit] for count in counts]
    expected = [None if each is None else moment(each) for each in micros]
    assert found(column, rules) == expected
    of_utc = TimeRules(rules.unit)
    assert found(column.cast(pa.timestamp(unit)), of_utc) == expected


@given(moments=st.lists(st.datetimes(timezones=OFFSETS), min_size=1, max_size=12), rules=RULES)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_text_with_an_offset_is_its_moment(moments, rules):
    expected = []
    for each in moments:
        try:
            expected.append(each.astimezone(UTC))
        except OverflowError:
            expected.append(None)
    assert found(pa.array([each.isoformat() for each in moments]), rules) == expected
    assert found(pa.array([each.isoformat(" ") for each in moments]), rules) == expected


@given(
    numbers=st.lists(
        st.integers(-(10**18), 10**18) | st.integers(-(10**10), 10**10)
        | st.integers(2**62, 2**63 - 1),
        min_size=1, max_size=12,
    ),
    unit=st.sampled_from([None, "s", "ms", "us"]),
)  # fmt: skip
@example(numbers=[2**53 + 1, 99_999_999_999_999_999], unit="us")
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_whole_number_is_the_same_time_in_any_type(numbers, unit):
    rules = TimeRules(unit)
    micros = [number * 1_000_000 // PER_SECOND[unit or "s"] for number in numbers]
    is_told = [unit is not None or number >= 100_000_000 for number in numbers]
    expected = [moment(each) if told else None for each, told in zip(micros, is_told, strict=True)]
    columns = {
        "int64": pa.array(numbers, pa.int64()),
        "text": pa.array([str(number) for number in numbers]),
        "text beside a date": pa.array([*map(str, numbers), "2024-01-01"]),
    }
    if min(numbers) >= 0:
        columns["uint64"] = pa.array(numbers, pa.uint64())
    if all(abs(number) <= 2**53 for number in numbers):
        columns["float64"] = pa.array([float(number) for number in numbers])
        columns["text of a float"] = pa.array([repr(float(number)) for number in numbers])
        columns["decimal"] = pa.array(numbers, pa.decimal128(19, 0))
    for name, column in columns.items():
        assert found(column, rules)[: len(numbers)] == expected, name


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@given(fractions=st.lists(st.floats() | st.floats(-1e12, 1e12), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_fraction_is_the_same_time_as_a_number_and_as_text(unit, fractions):
    rules = TimeRules(unit)
    numbers = pa.array(fractions, pa.float64())
    text = pa.array([repr(each) for each in fractions])
    together = found(numbers, rules)
    assert found(text, rules) == together
    assert [found(numbers.slice(i, 1), rules)[0] for i in range(len(fractions))] == together


@pytest.mark.parametrize(
    ("zone", "naive", "expected"),
    [
        ("America/New_York", "2024-03-10 01:59:59", "2024-03-10 06:59:59"),
        ("America/New_York", "2024-03-10 02:30:00", "2024-03-10 07:30:00"),
        ("America/New_York", "2024-03-10 03:00:00", "2024-03-10 07:00:00"),
        ("America/New_York", "2024-11-03 01:30:00", "2024-11-03 05:30:00"),
        ("Pacific/Apia", "2011-12-30 12:00:00", "2011-12-30 22:00:00"),
    ],
)
def test_an_hour_that_comes_twice_or_never(zone, naive, expected):
    assert found(pa.array([naive]), TimeRules(zone=zone)) == [
        dt.datetime.fromisoformat(expected).replace(tzinfo=UTC)
    ]
