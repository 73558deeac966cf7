"""A design as a JSON file: written by ``inspect``, edited by people, read by what learns.

::

    {"format": 1,
     "features": [{"name": "age", "kind": "number", "missing": true},
                  {"name": "job", "kind": "category", "categories": ["clerk", ...], "hashed": 8}],
     "missing": "impute",
     "classes": ["no", "yes"],
     "label": "y", "id": null, "time": null,
     "rows": {"delimiter": ";"}}

An array of numbers is ``{"name": "v", "kind": "array", "length": 50}``, alone. What was ``seen`` of
a column is for people. ``rows`` holds the options of :class:`app.config.rows.RowSettings` that are
not as by default.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar

from app.config.features import IMPUTE, MISSING_POLICIES, REJECT, FeatureSettings, InputSettings
from app.config.rows import RowSettings
from app.contract import Category, Encoding, FixedContract
from app.errors import DamagedFileError, UserError
from app.files.documents import read_json
from app.inspection.columns import ColumnLook
from app.inspection.design import Design

FORMAT = 1
_ROLES = ("label", "id", "time")

SettingsT = TypeVar("SettingsT", bound=FeatureSettings)


def document_of(design: Design, settings: InputSettings, length: int | None) -> dict[str, Any]:
    """Return a design as the content of a file.

    Parameters
    ----------
    design
    settings
        What the input was read with.
    length
        Of the one array that is the features, None where they are columns.
    """
    fixed = design.fixed
    return {
        "format": FORMAT,
        "features": [
            {"name": name, "kind": "array", "length": length}
            if length is not None
            else _feature(name, fixed.encoding) | _seen(design.look.columns.get(name))
            for name in fixed.features
        ],
        "missing": IMPUTE if fixed.encoding.imputes else REJECT,
        "classes": fixed.classes,
        **{role: getattr(settings, role) for role in _ROLES},
        "rows": {
            each.name: getattr(settings, each.name)
            for each in dataclasses.fields(RowSettings)
            if getattr(settings, each.name) != each.default
        },
    }


def _feature(name: str, encoding: Encoding) -> dict[str, Any]:
    category = encoding.categories.get(name)
    if category is None:
        return {"name": name, "kind": "number", "missing": name in encoding.indicators}
    return {
        "name": name,
        "kind": "category",
        "categories": category.vocabulary,
        "hashed": category.n_hashed,
    }


def _seen(column: ColumnLook | None) -> dict[str, Any]:
    if column is None:
        return {}
    seen: dict[str, Any] = {"rows": column.n_rows, "missing": column.n_missing}
    if column.n_numbers:
        seen |= {"from": float(column.low), "to": float(column.high)}
    if column.example is not None:
        seen["example"] = str(column.example)
    return {"seen": seen}


def with_contract(settings: SettingsT) -> tuple[SettingsT, FixedContract | None]:
    """Return settings with what ``--contract`` says, and the contract; None where none is named.

    Raises
    ------
    UserError
        When the file is not there, is none, or the settings say otherwise.
    """
    path = settings.contract
    if path is None:
        return settings, None
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"--contract: {path} does not exist; inspect writes one") from None
    except DamagedFileError as error:
        raise UserError(f"--contract: {error}") from error
    try:
        fixed, length = _parsed(content)
        changes = _changes(settings, content, fixed)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"--contract: {path} is not as inspect writes it: {said}; write it anew with inspect, "
            "or mend that"
        ) from error
    fields = {each.name for each in dataclasses.fields(settings)}
    if length is not None and "feature_count" in fields:
        changes["feature_count"] = length
    return dataclasses.replace(settings, **changes), fixed


def _parsed(content: dict[str, Any]) -> tuple[FixedContract, int | None]:
    """Return the contract, and the length of the one array that is the features."""
    _require(content["format"] == FORMAT, f"format must be {FORMAT}, not {content['format']!r}")
    policy = content["missing"]
    _require(policy in MISSING_POLICIES, f"missing must be {' or '.join(MISSING_POLICIES)}")
    names: list[str] = []
    categories: dict[str, Category] = {}
    indicators: list[str] = []
    length = None
    for each in content["features"]:
        name, kind = str(each["name"]), each["kind"]
        names.append(name)
        if kind == "category":
            categories[name] = _category(name, each)
        elif kind == "array":
            length = int(each["length"])
        elif kind == "number":
            if each.get("missing"):
                indicators.append(name)
        else:
            raise ValueError(f"feature {name!r} has kind {kind!r}: number, category or array")
    _require(bool(names), "features is empty")
    _require(len({*names}) == len(names), "a feature is there twice")
    _require(length is None or len(names) == 1, "an array must be the only feature")
    classes = tuple(map(str, content["classes"]))
    _require(len({*classes}) == len(classes) >= 2, "classes must be at least two, all different")
    imputes = policy == IMPUTE
    encoding = Encoding(categories, tuple(indicators) if imputes else (), imputes)
    return FixedContract(tuple(names), classes, encoding), length


def _category(name: str, each: dict[str, Any]) -> Category:
    vocabulary, hashed = tuple(map(str, each["categories"])), int(each["hashed"])
    _require(hashed >= 1, f"feature {name!r} must have hashed of at least 1")
    _require(len({*vocabulary}) == len(vocabulary), f"feature {name!r} has a category twice")
    return Category(vocabulary, hashed)


def _changes(
    settings: FeatureSettings, content: dict[str, Any], fixed: FixedContract
) -> dict[str, Any]:
    changes: dict[str, Any] = {"features": fixed.features}
    if settings.features not in (None, fixed.features):
        raise UserError(f"--features are others than in --contract {settings.contract}")
    if settings.classes is None:
        changes["classes"] = fixed.classes
    defaults = {each.name: each.default for each in dataclasses.fields(settings)}
    for role in _ROLES:
        named, given = content[role], getattr(settings, role, None)
        if named is None or named == given or role not in defaults:
            continue
        if given is not None and given != defaults[role]:
            raise UserError(f"--{role} is {given}, but --contract {settings.contract} has {named}")
        changes[role] = str(named)
    rows = {each.name for each in dataclasses.fields(RowSettings)}
    for name, value in content.get("rows", {}).items():
        _require(name in rows, f"rows has {name!r}, which is no option")
        if getattr(settings, name) == defaults[name]:
            changes[name] = tuple(value) if isinstance(value, list) else value
    return changes


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def write_document(content: dict[str, Any], path: Path) -> None:
    """Write a file of one's own choice.

    Raises
    ------
    UserError
        When it cannot be written.
    """
    try:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"--output: {path} cannot be written: {reason}") from error
