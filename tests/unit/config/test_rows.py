"""How rows are written: what may be said of it."""

from __future__ import annotations

import math

import pytest

from app.config.rows import RowSettings
from app.errors import InvalidParameterError

OUT_OF_RANGE = {
    "encoding": ["", "utf8000", "hex", "undefined", "\0", None],
    "delimiter": ["", "::", '"', "\n", "\r", "\0", "x", "1", "\N{BROKEN BAR}"],
    "decimal": ["", ";", ".,", None],
    "thousands": ["", "..", ".", "1", "e", "-", '"', "\n"],
    "time_unit": ["", "ns", "seconds"],
    "time_zone": ["", "Berlin", "Europe", "/etc/localtime", "\0", None],
    "max_dead_letters": [-0.1, 1.1, 50, math.nan, True, "0.1", None],
}
IN_RANGE = {
    "encoding": ["cp1252", "UTF-16", "latin-1"],
    "delimiter": [None, ",", ";", "\t", "|", " "],
    "decimal": [".", ","],
    "thousands": [None, ",", "'", " ", "_", "\N{NARROW NO-BREAK SPACE}"],
    "missing_values": [None, (), ("-999", "x")],
    "time_unit": [None, "s", "ms", "us"],
    "time_zone": ["UTC", "Europe/Berlin", "Etc/GMT+5"],
    "max_dead_letters": [0, 0.01, 1],
}


def each(values: dict[str, list[object]]) -> list[object]:
    return [
        pytest.param(name, value, id=f"{name}={value!r}")
        for name, few in values.items()
        for value in few
    ]


@pytest.mark.parametrize(("name", "value"), each(OUT_OF_RANGE))
def test_what_no_rows_are_written_in_is_refused_by_name(name, value):
    with pytest.raises(InvalidParameterError) as caught:
        RowSettings(**{name: value})

    assert caught.value.name == name
    assert str(caught.value).endswith(f", not {value!r}")


@pytest.mark.parametrize(("name", "value"), each(IN_RANGE))
def test_how_rows_may_be_written_is_taken(name, value):
    assert getattr(RowSettings(**{name: value}), name) == value


def test_a_comma_is_for_thousands_or_for_fractions():
    assert RowSettings(decimal=",", thousands=".").thousands == "."
    with pytest.raises(InvalidParameterError):
        RowSettings(decimal=",", thousands=",")
