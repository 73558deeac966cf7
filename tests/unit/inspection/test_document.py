"""A contract is written, edited and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.config.features import InputSettings
from app.config.run import ReplaySettings, StreamSettings
from app.contract import Category, Encoding, FixedContract
from app.errors import UserError
from app.inspection.design import Design
from app.inspection.document import document_of, with_contract, write_document

ENCODING = Encoding({"job": Category(("clerk", "naïve"), 2)}, ("x",), imputes=True)
CATEGORY = {"name": "j", "kind": "category", "categories": ["a"], "hashed": 1}
FIXED = FixedContract(("x", "job", "z"), ("no", "yes"), ENCODING)


@pytest.fixture
def path(tmp_path) -> Path:
    settings = InputSettings(
        input=tmp_path, format="csv", label="y", id="key", delimiter=";", missing_values=("-999",)
    )
    path = tmp_path / "contract.json"
    write_document(document_of(Design(FIXED), settings, None), path)
    return path


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replay(path: Path, **changes: object) -> ReplaySettings:
    named = {"input": path, "format": "csv", "label": "y", "workdir": path.parent}
    return ReplaySettings(**named | {"contract": path} | changes)


def test_what_was_written_is_what_is_read(path):
    settings, given = with_contract(replay(path))
    assert given == FIXED
    assert (settings.features, settings.classes, settings.id) == (
        FIXED.features,
        FIXED.classes,
        "key",
    )
    assert (settings.delimiter, settings.missing_values) == (";", ("-999",))


def test_a_stream_takes_it_too(path):
    settings, given = with_contract(StreamSettings(workdir=path.parent, contract=path))
    assert (given, settings.features, settings.label, settings.id) == (
        FIXED, FIXED.features, "y", "key",
    )  # fmt: skip


def test_a_stream_is_told_the_length_of_an_array(tmp_path):
    fixed = FixedContract(("v",), ("no", "yes"), Encoding(imputes=True))
    settings = InputSettings(input=tmp_path, format="parquet", label="y")
    write_document(document_of(Design(fixed), settings, 50), tmp_path / "c.json")
    settings, given = with_contract(StreamSettings(workdir=tmp_path, contract=tmp_path / "c.json"))
    assert (given, settings.features, settings.feature_count) == (fixed, ("v",), 50)


def test_without_one_settings_are_as_they_were(path):
    settings = replay(path, contract=None)
    assert with_contract(settings) == (settings, None)


def test_an_edit_counts(path):
    edit(path, classes=["yes", "no"], missing="reject")
    _, given = with_contract(replay(path))
    assert given == FixedContract(FIXED.features, ("yes", "no"), Encoding(ENCODING.categories))


def test_options_win_where_they_say_more(path):
    settings, _ = with_contract(replay(path, classes=("b", "a"), delimiter="|"))
    assert (settings.classes, settings.delimiter) == (("b", "a"), "|")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": "other"}, "--label is other, but --contract .* has y"),
        ({"id": "other"}, "--id is other, but --contract .* has key"),
        ({"features": ("x",)}, "--features are others than in --contract"),
    ],
)
def test_options_that_say_otherwise_are_refused(path, changes, message):
    with pytest.raises(UserError, match=message):
        with_contract(replay(path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format must be 1, not 2"),
        ({"missing": "drop"}, "missing must be impute or reject"),
        ({"features": []}, "features is empty"),
        ({"features": [{"kind": "number"}]}, "it lacks 'name'"),
        ({"features": [{"name": "x", "kind": "text"}]}, "kind 'text': number, category"),
        ({"features": [{"name": "x", "kind": "number"}] * 2}, "a feature is there twice"),
        ({"features": [CATEGORY | {"categories": ["a", "a"]}]}, "feature 'j' has a category twice"),
        ({"features": 5}, "not iterable"),
        ({"classes": ["a"]}, "classes must be at least two, all different"),
        ({"rows": {"colour": 1}}, "rows has 'colour', which is no option"),
    ],
)
def test_what_inspect_does_not_write_is_named(path, changes, message):
    edit(path, **changes)
    with pytest.raises(UserError, match=f"--contract: {path} is not as inspect .*{message}"):
        with_contract(replay(path))


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_what_is_no_document_is_refused(path, content):
    path.write_text(content)
    with pytest.raises(UserError, match=f"--contract: .*{path}"):
        with_contract(replay(path))
    path.unlink()
    with pytest.raises(UserError, match=f"--contract: {path} does not exist"):
        with_contract(replay(path))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match="--output: .* cannot be written: No such file"):
        write_document({}, tmp_path / "no" / "c.json")
