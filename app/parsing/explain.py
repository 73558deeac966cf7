"""What is wrong with a dead letter, in words, and what to do about it."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa

from app.contract import (
    ALL_MISSING,
    DUPLICATE_ID,
    FUTURE_TIME,
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_LABEL,
    NULL_TIME,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WRONG_LENGTH,
    Contract,
)
from app.files.reading.lines import COMMAS, CsvDialect
from app.parsing.cells import SOUND, numbers, of_objects
from app.parsing.csv_rows import with_points
from app.parsing.json_rows import value_at
from app.parsing.raw_batch import CORRUPT_COLUMN
from app.parsing.row_parser import FAULTS, ParsingRules
from app.parsing.times import TimeRules, times

_SHOWN = 80
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
_OF_FEATURES = {
    NULL_FEATURE: "holds no value",
    NAN_FEATURE: "is NaN",
    INFINITE_FEATURE: "is infinite, or beyond the largest float32",
    UNPARSABLE: "is not a number",
}


def explain(
    reason: str,
    row: str,
    contract: Contract,
    rules: ParsingRules,
    dialect: CsvDialect = COMMAS,
) -> str:
    """Return what is wrong with a row.

    Parameters
    ----------
    reason
    row
        The dead letter's row, as JSON.
    contract, rules
        What the row was parsed by.
    dialect
        How numbers are written, if the row is CSV.

    Examples
    --------
    >>> contract = Contract(("x", "flag"), ("x", "flag"), 2, ("0", "1"))
    >>> explain("unparsable", '{"x": "1", "flag": "abc"}', contract, ParsingRules())
    "column flag = 'abc' is not a number"
    """
    try:
        cells = json.loads(row)
    except (ValueError, RecursionError):
        cells = None
    if not isinstance(cells, dict):
        return _as_it_is(reason, row)
    if CORRUPT_COLUMN in cells:
        return _corrupt(reason, str(cells[CORRUPT_COLUMN]))
    if reason in (*_OF_FEATURES, WRONG_LENGTH):
        if contract.is_array:
            said = _of_array(value_at(cells, contract.features[0]), contract, rules, reason)
        else:
            said = _of_features(cells, contract, rules, dialect, reason)
        if said is not None:
            return said
    if reason in (UNPARSABLE, FUTURE_TIME, NULL_TIME) and contract.time is not None:
        return f"column {_cell(cells, contract.time)} {_of_time(cells, contract, rules, reason)}"
    if reason == ALL_MISSING:
        return f"none of the columns {_short(', '.join(contract.features))} holds a value"
    if reason == NULL_ID and contract.id is not None:
        return f"column {_cell(cells, contract.id)} is no id"
    if reason == DUPLICATE_ID and contract.id is not None:
        return f"column {_cell(cells, contract.id)} is that of an earlier row"
    if reason in (NULL_LABEL, UNKNOWN_LABEL) and contract.label is not None:
        return (
            f"column {_cell(cells, contract.label)} is none of the classes "
            f"{_short(', '.join(contract.classes))}"
        )
    return _as_it_is(reason, row)


def _of_array(value: Any, contract: Contract, rules: ParsingRules, reason: str) -> str | None:
    items = value if isinstance(value, list) else []
    column = f"column {contract.features[0]}"
    if len(items) != contract.n_features:
        return f"{column} holds {len(items)} numbers, not {contract.n_features}"
    for item in items:
        _, (fault,) = numbers(_one(item), rules.missing)
        if FAULTS.get(fault) == reason:
            return f"{column} has an element {_short(repr(item))} that {_OF_FEATURES[reason]}"
    return None


def _of_features(
    cells: dict[str, Any],
    contract: Contract,
    rules: ParsingRules,
    dialect: CsvDialect,
    reason: str,
) -> str | None:
    for name in contract.features:
        if name in contract.encoding.categories:
            continue
        cell = with_points(_one(value_at(cells, name)), rules.missing, dialect)
        _, (fault,) = numbers(cell, rules.missing)
        if FAULTS.get(fault) == reason:
            text = value_at(cells, name)
            is_comma = isinstance(text, str) and _DECIMAL_COMMA.fullmatch(text.strip())
            hint = "; --decimal , reads it as one" if is_comma and dialect.decimal == "." else ""
            return f"column {_cell(cells, name)} {_OF_FEATURES[reason]}{hint}"
    return None


def _of_time(cells: dict[str, Any], contract: Contract, rules: ParsingRules, reason: str) -> str:
    assert contract.time is not None
    value = value_at(cells, contract.time)
    if reason == FUTURE_TIME:
        return "is more than a day ahead of the clock"
    if reason == NULL_TIME or value is None:
        return "holds no time"
    number, (fault,) = numbers(_one(value))
    if fault == SOUND:
        if rules.times.unit is None and abs(number[0]) < 1e8:
            return "is no time: a number before 1973; if it counts from 1970, give --time-unit"
        for unit in ("ms", "us"):
            found = times(_one(value), TimeRules(unit)).to_pylist()[0]
            if found is not None and 1973 <= found.year < 2200:
                return f"is no time in seconds; --time-unit {unit} makes it {found:%Y-%m-%d %H:%M}"
    return "is no time: ISO 8601 with a date, or a number"


def _corrupt(reason: str, text: str) -> str:
    # A record may go over several lines.
    text = " ".join(text.split())
    if "\\x" in text and reason == WRONG_LENGTH:
        return f"{_short(text)} is not UTF-8; give its --encoding"
    if reason == WRONG_LENGTH:
        hint = '; if \\" stands for a quote in it, give --escapes' if '\\"' in text else ""
        return f"{_short(text)} has not as many fields as the header, or not its columns{hint}"
    return f"{_short(text)} cannot be read as a row"


def _as_it_is(reason: str, row: str) -> str:
    return f"{reason}: {_short(row)}"


def _one(value: Any) -> pa.Array:
    column = of_objects([value])
    return pa.array([str(value)]) if pa.types.is_nested(column.type) else column


def _cell(cells: dict[str, Any], name: str) -> str:
    return f"{name} = {_short(repr(value_at(cells, name)))}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + " …"
