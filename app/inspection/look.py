"""One look over the beginning of an input: its columns, and what of it should be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from app.config.features import MAX_CATEGORIES, REJECT, FeatureSettings
from app.contract import Category, Contract, Encoding
from app.errors import UserError
from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.files.sequence import START, FileSequence
from app.inspection.columns import CATEGORY, COMMAS, NOTHING, NUMBER, TEXT, TIME, ColumnLook
from app.parsing.explain import explain
from app.parsing.json_rows import JsonBatch
from app.parsing.row_parser import ParsingRules, raw_batch_of

MOST_ROWS = 100_000
"""Rows that are looked at."""

HASHED_SLOTS = 8
"""Inputs that the categories of a column share which have none of their own."""

_ROWS_PER_READ = 20_000
_NO_CONTRACT = Contract((), (), 0, ())
_SHOWN = 40


@dataclass
class InputLook:
    """What the beginning of an input holds.

    Attributes
    ----------
    n_rows
        Rows that were looked at.
    is_whole
        Whether those are all.
    columns
        By name, in order.
    others
        Names in JSON objects that are no column: the number of the first row that has each.
    n_malformed
        Rows that are none.
    malformed
        What is wrong with the first of those.
    """

    n_rows: int = 0
    is_whole: bool = False
    columns: dict[str, ColumnLook] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    n_malformed: int = 0
    malformed: str = ""


def look_at(
    files: Sequence[str],
    row_format: str,
    columns: Sequence[str],
    rules: ParsingRules,
    text: TextFormat = AS_USUAL,
    known: Sequence[str] = (),
) -> InputLook:
    """Look at the first rows of files.

    Parameters
    ----------
    files
    row_format
    columns
        Those to look at.
    rules
    text
    known
        Every column that is known of.
    """
    look = InputLook(columns={name: ColumnLook(name, rules.missing) for name in columns})
    sequence = FileSequence(files, row_format, tuple(columns), text=text)
    position = dict(START)
    while look.n_rows < MOST_ROWS:
        batches, end = sequence.read(position, _ROWS_PER_READ)
        look.is_whole = end["row"] - position["row"] < _ROWS_PER_READ
        position = end
        for batch in batches:
            _add(look, batch, columns, rules, {*known})
        if look.is_whole:
            break
    sequence.close()
    return look


def _add(
    look: InputLook,
    batch: pa.RecordBatch,
    columns: Sequence[str],
    rules: ParsingRules,
    known: set[str],
) -> None:
    raw = raw_batch_of(batch, columns, columns, rules.missing)
    n = len(batch) if raw.kept is None else len(raw.kept)
    for name in columns:
        values = raw.column(name)
        look.columns[name].add(pa.nulls(n, pa.string()) if values is None else values)
    if isinstance(raw, JsonBatch):
        for name, place in raw.first_places(known | look.others.keys()).items():
            look.others[name] = look.n_rows + place + 1
    look.n_rows += len(batch)
    look.n_malformed += len(batch) - n
    if n < len(batch) and not look.malformed:
        kept = set() if raw.kept is None else {*raw.kept.tolist()}
        first = next(place for place in range(len(batch)) if place not in kept)
        look.malformed = explain(raw.malformed, raw.as_json(first), _NO_CONTRACT, rules)


def encoding_of(look: InputLook, features: Sequence[str], settings: FeatureSettings) -> Encoding:
    """Return how features become numbers, by what was seen of them.

    Raises
    ------
    UserError
        When a feature is of no use as it is.
    """
    most = MAX_CATEGORIES if settings.max_categories is None else settings.max_categories
    named = settings.categorical or ()
    categories, indicators = {}, []
    for name in features:
        column = look.columns[name]
        kind = CATEGORY if name in named else column.kind(most)
        _refuse(column, kind)
        if kind == CATEGORY:
            categories[name] = _category(column.counts, most)
        elif kind in (NUMBER, NOTHING) and column.n_missing:
            indicators.append(name)
    imputes = settings.missing != REJECT
    return Encoding(categories, tuple(indicators) if imputes else (), imputes)


def _category(counts: Mapping[str, int], most: int) -> Category:
    # Of equally common ones, in the order of their names: another order would be another model.
    common = sorted(counts, key=lambda name: (-counts[name], name))[:most]
    return Category(tuple(sorted(common)), HASHED_SLOTS)


def _refuse(column: ColumnLook, kind: str) -> None:
    instead = "name the features with --features"
    held = f"--features: column '{column.name}' holds {example_of(column)}, "
    if kind == TIME:
        raise UserError(
            f"{held}a time and no number; name it as --time, or {instead}, or it in --categorical"
        )
    if kind == COMMAS:
        raise UserError(
            f"{held}which is not a number; if it is one, give --decimal , or --thousands , and "
            "otherwise name it in --categorical"
        )
    if kind == TEXT and isinstance(column.odd, dict | list):
        raise UserError(f"{held}which is nested and no number; {instead}")
    if kind == TEXT:
        n = f"more than {len(column.counts):,}" if column.has_more else f"{len(column.counts):,}"
        raise UserError(
            f"{held}which is not a number, and {n} different texts on {column.n_known:,} rows, "
            f"which are too many for categories; {instead}, or it in --categorical"
        )


def example_of(column: ColumnLook) -> str:
    """Return a value of a column, of one that is not all numbers the first that is none."""
    example = column.example if column.odd is None else column.odd
    # What stands for a point in text with decimal commas, see app.parsing.csv_rows.
    text = repr(example.replace("\0", ".") if isinstance(example, str) else example)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + " …"


def notes_on(look: InputLook, encoding: Encoding) -> list[str]:
    """Return what of an input's columns may not be as it was meant."""
    notes = []
    if look.n_malformed:
        notes.append(
            f"{look.n_malformed:,} of {look.n_rows:,} rows are none and will be dead letters, "
            f"first: {look.malformed}"
        )
    for name, row in look.others.items():
        notes.append(
            f"column '{name}' is first seen in row {row:,} and is no feature; name the features "
            "with --features if it is to be one"
        )
    for name, column in look.columns.items():
        if name in encoding.categories:
            continue
        if not column.n_known:
            notes.append(f"column '{name}' holds nothing on the first {column.n_rows:,} rows")
        elif column.low == column.high and not column.n_odd:
            notes.append(f"column '{name}' is {column.low:g} on all of {column.n_known:,} rows")
        if column.n_odd:
            notes.append(
                f"column '{name}' holds {example_of(column)}, which is not a number: "
                f"{column.n_odd:,} of {column.n_rows:,} rows will be dead letters for that"
            )
    return notes
