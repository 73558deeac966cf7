"""Marks of delimited text are single characters that do not stand for one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.run import ReplaySettings, settings_from
from app.errors import InvalidParameterError

NAMED = {"input": "in", "format": "csv", "label": "y", "workdir": "w"}


def settings(**options) -> ReplaySettings:
    return settings_from(ReplaySettings, NAMED | options)


def test_what_is_usual_need_not_be_given():
    usual = settings()
    assert usual.input == Path("in")
    assert (usual.header, usual.delimiter, usual.quote, usual.comment) == (True, None, None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"header": False},
        {"delimiter": ";"},
        {"delimiter": "\x01"},
        {"delimiter": "'"},
        {"delimiter": '"', "quote": ""},
        {"quote": "'"},
        {"quote": "|", "thousands": " "},
        {"thousands": "\u202f"},
        {"comment": "#"},
        {"comment": "-- "},
    ],
    ids=str,
)
def test_marks_in_range_are_taken(options):
    found = settings(**options)
    assert {name: getattr(found, name) for name in options} == options


def test_a_tab_may_be_written_in_two_characters():
    assert settings(delimiter=r"\t").delimiter == "\t"


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("delimiter", "", {}),
        ("delimiter", "ab", {}),
        ("delimiter", "\n", {}),
        ("delimiter", "§", {}),
        ("delimiter", '"', {}),
        ("delimiter", "'", {"quote": "'"}),
        ("quote", "''", {}),
        ("quote", "\n", {}),
        ("quote", "\\", {}),
        ("quote", "“", {}),
        ("thousands", '"', {}),
        ("thousands", "'", {"quote": "'"}),
        ("comment", "", {}),
        ("comment", " #", {}),
        ("comment", "#\n", {}),
    ],
)
def test_other_marks_are_refused_by_name(name, value, options):
    with pytest.raises(InvalidParameterError) as caught:
        settings(**{name: value}, **options)
    assert caught.value.name == name
    assert str(caught.value).endswith(f", not {value!r}")
