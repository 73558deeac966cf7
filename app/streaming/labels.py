"""The labels of an input, counted without Spark: it takes less time than a job to start."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from app.streaming.files import START, TEXT_COLUMN, FileSequence
from app.streaming.inputs import InputTable
from app.streaming.text import csv_cells, json_object

_ROWS_PER_READ = 50_000
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")


def canonical_label(value: str) -> str:
    """Return a label as :func:`app.streaming.schema.canonical_label` does.

    Examples
    --------
    >>> canonical_label(" 1.0 "), canonical_label("up")
    ('1', 'up')
    """
    text = value.strip(" ")
    whole = _WHOLE.fullmatch(text)
    return whole.group(1) if whole else text


def count_labels(layout: InputTable, column: str) -> dict[str, int]:
    """Return how many rows of the input have each label, in canonical form.

    Lines that are no row, and rows without a label, are passed over.
    """
    columns = (column,) if layout.file_format == "parquet" else layout.columns
    sequence = FileSequence(layout.files, layout.file_format, columns)
    counts: Counter[str] = Counter()
    position = dict(START)
    while True:
        table, end = sequence.read(position, _ROWS_PER_READ)
        if end["row"] == position["row"]:
            break
        position = end
        counts.update(filter(None, map(canonical_label, _labels(table, layout, column))))
    sequence.close()
    return dict(counts)


def _labels(table: pa.Table, layout: InputTable, column: str) -> Iterable[str]:
    if layout.file_format == "parquet":
        labels = table[column].drop_null()
        if pa.types.is_floating(labels.type):
            labels = labels.filter(pc.invert(pc.is_nan(labels)))
        return labels.cast(pa.string()).to_pylist()
    lines = table[TEXT_COLUMN].to_pylist()
    if layout.file_format == "csv":
        place = layout.columns.index(column)
        return _csv_cells(lines, place, len(layout.columns))
    return _json_values(lines, column)


def _csv_cells(lines: list[str], place: int, width: int) -> Iterable[str]:
    for cells in map(csv_cells, lines):
        if len(cells) == width:
            yield cells[place]


def _json_values(lines: list[str], column: str) -> Iterable[str]:
    for line in lines:
        value = json_object(line).get(column)
        if value is not None:
            yield value if isinstance(value, str) else json.dumps(value)
