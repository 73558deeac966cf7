"""How a cell becomes a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.parsing.cells import SOUND, as_strings, is_numeric, is_text, numbers

TIME_UNITS = {"s": 1_000_000, "ms": 1000, "us": 1}
"""Microseconds in each unit that numbers may count since 1970."""

_DAY = 86_400_000_000

_TIME = pa.timestamp("us", "UTC")
_YEAR_1, _YEAR_10000 = -62_135_596_800_000_000, 253_402_300_800_000_000
_YEAR_1973 = 100_000_000_000_000

_PLAIN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)?"
_ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$"
_TOO_FINE = re.compile(r"(\.[0-9]{6})[0-9]+")
_WHOLE = r"^[+-]?[0-9]{1,18}$"
_TRUTH = r"(?i)^(?:true|false)$"


@dataclass(frozen=True)
class TimeRules:
    """What a time means that does not say it itself.

    Attributes
    ----------
    unit : {"s", "ms", "us"}, optional
        What numbers count since 1970. None takes seconds, and no number before 1973: 2024,
        20240102 and 45293 are written for a year, a day and a spreadsheet's day.
    zone
        Where times without a zone are local, a name of the tz database.
    """

    unit: str | None = None
    zone: str = "UTC"


DEFAULT_TIMES = TimeRules()


def times(values: pa.Array, rules: TimeRules = DEFAULT_TIMES) -> pa.Array:
    """Return times.

    Parameters
    ----------
    values : pa.Array, shape (n,)
        Timestamps, dates, numbers of ``rules.unit`` since 1970, or text: of numbers, or ISO 8601
        with a date. What is finer than a microsecond is cut.
    rules

    Returns
    -------
    pa.Array, shape (n,), timestamp[us, UTC]
        Null where there is none between the years 1 and 9999.
    """
    kind = values.type
    types = pa.types
    if types.is_timestamp(kind):
        micros = _micros_of(values.cast(pa.int64()), kind.unit)
        return _in_range(micros.cast(_TIME) if kind.tz else _local(micros, rules))
    if types.is_date32(kind):
        days = values.cast(pa.int32()).cast(pa.int64())
        return _in_range(_local(_multiplied(days, _DAY), rules))
    if types.is_date64(kind):
        return _in_range(_local(_micros_of(values.cast(pa.int64()), "ms"), rules))
    if is_numeric(kind) and not types.is_boolean(kind):
        return _of_numbers(values, rules)
    text = as_strings(values) if is_text(kind) else pa.nulls(len(values), pa.string())
    return _of_text(pc.utf8_trim_whitespace(text), rules)


def _micros_of(counts: pa.Array, unit: str) -> pa.Array:
    """Return microseconds, null where there are more than any time has."""
    if unit == "ns":
        # Cut as text is: before 1970 too, to what is earlier.
        cut = np.floor_divide(counts.fill_null(0).to_numpy(), 1000)
        return pa.array(cut, mask=np.asarray(counts.is_null()))
    return _multiplied(counts, TIME_UNITS[unit])


def _multiplied(counts: pa.Array, by: int) -> pa.Array:
    most = _YEAR_10000 // by
    is_near = pc.and_(pc.greater(counts, -most), pc.less(counts, most))
    return pc.multiply(pc.if_else(is_near, counts, pa.scalar(None, pa.int64())), by)


def _local(micros: pa.Array, rules: TimeRules) -> pa.Array:
    """Take times without a zone for those of the rules' zone.

    Of an hour that comes twice the first is taken; one that is left out counts from before it.
    """
    if rules.zone == "UTC":
        return micros.cast(_TIME)
    naive = micros.cast(pa.timestamp("us"))
    local = pc.assume_timezone(naive, rules.zone, ambiguous="earliest", nonexistent="latest")
    found = local.cast(pa.int64())
    ahead = pc.subtract(pc.local_timestamp(local).cast(pa.int64()), micros)
    if pc.any(pc.not_equal(ahead, 0)).as_py():
        # All of an hour that is left out is its end by now.
        before = pc.subtract(found, 1)
        zoned = before.cast(local.type)
        offset = pc.subtract(pc.local_timestamp(zoned).cast(pa.int64()), before)
        found = pc.if_else(pc.equal(ahead, 0), found, pc.subtract(micros, offset))
    return found.cast(_TIME)


def _of_numbers(values: pa.Array, rules: TimeRules) -> pa.Array:
    per_unit = TIME_UNITS[rules.unit or "s"]
    if pa.types.is_uint64(values.type):
        is_near = pc.less(values, pa.scalar(_YEAR_10000, values.type))
        values = pc.if_else(is_near, values, pa.scalar(None, values.type))
    if pa.types.is_integer(values.type):
        # Exactly, and not by way of a float.
        return _plausible(_multiplied(values.cast(pa.int64()), per_unit), rules)
    floats, _ = numbers(values)
    is_time = np.abs(floats) < _YEAR_10000 / per_unit
    floats = np.where(is_time, floats, 0)
    whole = np.floor(floats)
    # Apart, as a float has no digits for both.
    rest = np.floor((floats - whole) * per_unit + 0.5)
    micros = whole.astype(np.int64) * per_unit + rest.astype(np.int64)
    return _plausible(pa.array(micros, mask=~is_time), rules)


def _plausible(micros: pa.Array, rules: TimeRules) -> pa.Array:
    if rules.unit is None:
        none = pa.scalar(None, pa.int64())
        micros = pc.if_else(pc.less(micros, _YEAR_1973), none, micros)
    return _in_range(micros.cast(_TIME))


def _of_text(text: pa.Array, rules: TimeRules) -> pa.Array:
    is_plain = pc.fill_null(pc.match_substring_regex(text, _PLAIN), False)
    if not pc.any(is_plain).as_py():
        return _one_by_one(text, rules)
    try:
        # All written alike, with a zone or without.
        if pc.all(pc.match_substring_regex(text, _ZONE)).as_py():
            return _in_range(pc.cast(text, _TIME))
        return _in_range(_local(pc.cast(text, pa.timestamp("us")).cast(pa.int64()), rules))
    except pa.ArrowInvalid:
        return _one_by_one(text, rules)


def _one_by_one(text: pa.Array, rules: TimeRules) -> pa.Array:
    as_float, faults = numbers(text)
    is_truth = pc.fill_null(pc.match_substring_regex(text, _TRUTH), False)
    is_number = (faults == SOUND) & ~np.asarray(is_truth)
    moments = [
        None if number else _iso_moment(value)
        for value, number in zip(text.to_pylist(), is_number.tolist(), strict=True)
    ]
    local = [_micros(moment) if moment and moment.tzinfo is None else None for moment in moments]
    aware = [_micros(moment) if moment and moment.tzinfo else None for moment in moments]
    found = pc.coalesce(
        pa.array(aware, pa.int64()).cast(_TIME),
        _local(pa.array(local, pa.int64()), rules),
    )
    if is_number.any():
        is_whole = pc.match_substring_regex(text, _WHOLE)
        whole = pc.if_else(is_whole, pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
        is_fraction = pa.array(is_number & ~np.asarray(pc.fill_null(is_whole, False)))
        fraction = pc.if_else(is_fraction, pa.array(as_float), pa.scalar(None, pa.float64()))
        found = pc.coalesce(
            found,
            _of_numbers(whole.cast(pa.int64()), rules),
            _of_numbers(fraction, rules),
        )
    return _in_range(found)


def _iso_moment(value: str | None) -> datetime | None:
    """Return ISO 8601 with a date."""
    try:
        return None if value is None else datetime.fromisoformat(_TOO_FINE.sub(r"\1", value))
    except ValueError:
        return None


def _micros(moment: datetime) -> int:
    """Return the microseconds since 1970, of a time without a zone as if it were UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _in_range(found: pa.Array) -> pa.Array:
    micros = found.cast(pa.int64())
    inside = pc.and_(pc.greater_equal(micros, _YEAR_1), pc.less(micros, _YEAR_10000))
    return pc.if_else(inside, found, pa.scalar(None, _TIME))
