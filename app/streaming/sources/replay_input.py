"""What a replay reads: which files, in which order, with which columns."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from app.config.features import InputSettings
from app.contract import FixedContract
from app.errors import UserError
from app.files.delta_log import open_table, snapshot_files
from app.files.paths import natural_order
from app.files.reading import svmlight
from app.files.reading.beginnings import CSV, LIBSVM
from app.files.reading.readers import TextRecords
from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.inspection.design import Design, InputFiles, design_of
from app.streaming.rows.layout import TYPED, FeatureColumns, RowLayout
from app.streaming.rows.rules import parsing_rules, text_format
from app.streaming.sources.file_columns import (
    columns_of_file,
    has_number,
    listed,
    note_on_partitions,
    notes_on_text,
    sample_columns,
    with_partitions,
)

_PANDAS_INDEX = re.compile(r"Unnamed: [0-9.]+|__index_level_[0-9]+__")


@dataclass(frozen=True)
class ReplayInput:
    """Files of one layout.

    Attributes
    ----------
    files
        Absolute paths, in order.
    layout
        The columns of each: a Delta table is Parquet files.
    features
        What the model is to see of a row.
    notes
        What a user is to know who has not said which columns are meant.
    """

    files: tuple[str, ...]
    layout: RowLayout
    features: FeatureColumns
    notes: tuple[str, ...] = ()


def read_input(settings: InputSettings) -> ReplayInput:
    """Find the input's files and columns, looking at their beginnings only.

    Of LIBSVM without named features every line is looked at.

    Raises
    ------
    UserError
        When an option names a file or a column that is not there or is of no use.
    """
    is_delta = settings.format == "delta"
    files = _delta_files(settings.input) if is_delta else _files(settings.input)
    row_format = TYPED if is_delta else settings.format
    text = text_format(settings)
    found = _columns(files, row_format, text, settings.features)
    own = found[files[0]]
    # An object names its own columns, so files may differ; Delta has its own way to partition.
    partitioned = [] if is_delta else files if row_format == "json" else files[:1]
    columns = with_partitions(own, partitioned)
    layout = RowLayout(row_format, columns)
    _check_named_columns(settings, columns)
    rest = (settings.label, settings.id, settings.time)
    # All of a file's own columns are features where none are named.
    needed = {*(settings.features or own), *filter(None, rest)}
    for path, others in itertools.islice(found.items(), 1, None):
        there = with_partitions(others, () if is_delta else (path,))
        if missing := sorted(needed - {*there}) or sorted(
            {*others} - needed if not settings.features else ()
        ):
            raise UserError(
                f"--input: {path} has columns {', '.join(there)}, but {files[0]} has "
                f"{', '.join(columns)}: {missing[0]} is not in both"
            )
    # A table's own numbering, written without a name.
    names = settings.features or tuple(name for name in own if name and name not in rest)
    if not names:
        raise UserError(f"--features: {settings.input} has no column left for the features")
    features = FeatureColumns.of_sample(
        names, sample_columns(files, layout.row_format, names, text)
    )
    # What stands above the input is used when it is named, and is nothing to speak of else.
    below = [] if is_delta else [os.path.relpath(path, settings.input.resolve()) for path in files]
    notes = note_on_partitions(own, below)
    if row_format != TYPED:
        notes += notes_on_text(files, row_format, text)
    if not settings.features:
        unused = {*with_partitions((), below)} - {*own, *rest}
        notes += _notes_on_features(names, sorted(unused))
    return ReplayInput(tuple(files), layout, features, tuple(notes))


def design_of_input(
    settings: InputSettings, found: ReplayInput, given: FixedContract | None = None
) -> Design:
    """Return what a new model of an input is made for.

    Parameters and errors are those of :func:`app.inspection.design.design_of`.
    """
    layout, rules, text = found.layout, parsing_rules(settings), text_format(settings)
    files = InputFiles(found.files, layout.row_format, layout.columns, rules, text)
    return design_of(settings, files, found.features.names, found.features.is_array, given)


def count_rows(files: Sequence[str], layout: RowLayout, text: TextFormat = AS_USUAL) -> int | None:
    """Return how many rows the files have, None where that cannot be told soon.

    So it is when a file is gone that an earlier run has read, or would have to be decompressed.
    """
    if not all(map(os.path.exists, files)):
        return None
    rows = 0
    if layout.row_format == TYPED:
        for path in files:
            rows += pq.read_metadata(path).num_rows
        return rows
    for path in files:
        records = TextRecords(path, layout.row_format, text)
        count = records.count()
        records.close()
        if count is None:
            return None
        rows += count
    return rows


def _columns(
    files: list[str], row_format: str, text: TextFormat, features: tuple[str, ...] | None
) -> dict[str, tuple[str, ...]]:
    """Return the own columns of each file; of the first alone where rows name their values."""
    if row_format == LIBSVM:
        named = svmlight.names_among(features or ())
        return {files[0]: named if features else svmlight.columns_of(files, text)}
    looked_at = files[:1] if row_format == "json" else files
    return {path: columns_of_file(path, row_format, text) for path in looked_at}


def _notes_on_features(names: Sequence[str], partition: Sequence[str]) -> list[str]:
    notes = []
    if numbering := [name for name in names if _PANDAS_INDEX.fullmatch(name)]:
        notes.append(
            f"column '{numbering[0]}' looks like a row number that pandas wrote, and is a feature; "
            "name the others with --features to leave it out"
        )
    if partition:
        notes.append(
            f"directories name the columns {', '.join(partition)}; none is a feature unless "
            "--features names it"
        )
    return notes


def _files(path: Path) -> list[str]:
    if not path.exists():
        raise UserError(f"--input: {path} does not exist")
    if path.is_file():
        return [str(path.resolve())]
    found = sorted(
        (
            file
            for file in path.rglob("*")
            if file.is_file() and not any(p[0] in "._" for p in file.relative_to(path).parts)
        ),
        key=lambda file: natural_order(str(file)),
    )
    if not found:
        raise UserError(f"--input: directory {path} holds no files")
    return [str(file.resolve()) for file in found]


def _delta_files(path: Path) -> list[str]:
    files = snapshot_files(open_table(path, "--input"), path)
    if not files:
        raise UserError(f"--input: Delta table {path} holds no rows")
    return [str((path / name).resolve()) for name in files]


def _check_named_columns(settings: InputSettings, columns: tuple[str, ...]) -> None:
    named = [("label", settings.label), ("id", settings.id), ("time", settings.time)]
    named += [("features", name) for name in settings.features or ()]
    role_of: dict[str, str] = {}
    for option, name in named:
        if name is None:
            continue
        if name not in columns:
            raise UserError(
                f"--{option}: no column '{name}' in {settings.input}; "
                f"there are: {listed(columns)}{_without_header(settings, columns)}"
            )
        if option == "features" and role_of.get(name) == "label":
            raise UserError(f"--features: column '{name}' is the label")
        role_of[name] = option


def _without_header(settings: InputSettings, columns: tuple[str, ...]) -> str:
    """Return a hint for a file whose first line is a row."""
    if settings.format == CSV and settings.header and has_number(columns):
        return ". That looks like a row: if the file has no header line, give --no-header"
    return ""
