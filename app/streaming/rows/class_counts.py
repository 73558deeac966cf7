"""The labels of an input, counted without Spark: it takes less time than a job to start."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from app.contract import canonical_label
from app.files.lines import csv_cells, json_object
from app.files.sequence import START, TEXT_COLUMN, FileSequence
from app.streaming.rows.layout import TYPED, RowLayout

_ROWS_PER_READ = 50_000


def count_labels(files: Sequence[str], layout: RowLayout, column: str) -> dict[str, int]:
    """Return how many rows of files have each label, in canonical form.

    Lines that are no row, and rows without a label, are passed over.
    """
    columns = (column,) if layout.row_format == TYPED else layout.columns
    sequence = FileSequence(files, layout.row_format, columns)
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


def _labels(table: pa.Table, layout: RowLayout, column: str) -> Iterable[str]:
    if layout.row_format == TYPED:
        labels = table[column].drop_null()
        if pa.types.is_floating(labels.type):
            labels = labels.filter(pc.invert(pc.is_nan(labels)))
        return list(labels.cast(pa.string()).to_pylist())
    lines = table[TEXT_COLUMN].to_pylist()
    if layout.row_format == "csv":
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
