"""What a replay reads: which files, in which order, with which columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.config.features import InputSettings
from app.contract import FixedContract
from app.errors import UserError
from app.files.delta_log import open_table, snapshot_files
from app.files.reading.text_stream import TextFormat
from app.inspection.design import Design, InputFiles, design_of
from app.parsing.cells import SOUND, numbers
from app.streaming.rows.layout import TYPED, FeatureColumns, RowLayout
from app.streaming.rows.rules import parsing_rules, text_format
from app.streaming.sources.file_columns import (
    csv_header,
    json_columns,
    parquet_schema,
    sample_columns,
)


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
    """

    files: tuple[str, ...]
    layout: RowLayout
    features: FeatureColumns


def read_input(settings: InputSettings) -> ReplayInput:
    """Find the input's files and columns, looking at their beginnings only.

    Raises
    ------
    UserError
        When an option names a file or a column that is not there or is of no use.
    """
    is_delta = settings.format == "delta"
    files = _delta_files(settings.input) if is_delta else _files(settings.input)
    row_format = TYPED if is_delta else settings.format
    text = text_format(settings)
    found = _columns(files, row_format, text)
    columns = found[files[0]]
    layout = RowLayout(row_format, columns)
    _check_named_columns(settings, columns)
    rest = (settings.label, settings.id, settings.time)
    # All of a file's columns are features where none are named.
    needed = {*settings.features, *filter(None, rest)} if settings.features else {*columns}
    for path, others in found.items():
        if missing := sorted(needed - {*others}) or sorted(
            {*others} - needed if not settings.features else ()
        ):
            raise UserError(
                f"--input: {path} has columns {', '.join(others)}, but {files[0]} has "
                f"{', '.join(columns)}: {missing[0]} is not in both"
            )
    # A table's own numbering, written without a name.
    names = settings.features or tuple(name for name in columns if name and name not in rest)
    if not names:
        raise UserError(f"--features: {settings.input} has no column left for the features")
    features = FeatureColumns.of_sample(
        names, sample_columns(files, layout.row_format, names, text)
    )
    return ReplayInput(tuple(files), layout, features)


def design_of_input(
    settings: InputSettings, found: ReplayInput, given: FixedContract | None = None
) -> Design:
    """Return what a new model of an input is made for.

    Parameters and errors are those of :func:`app.inspection.design.design_of`.
    """
    layout, rules, text = found.layout, parsing_rules(settings), text_format(settings)
    files = InputFiles(found.files, layout.row_format, layout.columns, rules, text)
    return design_of(settings, files, found.features.names, found.features.is_array, given)


def count_rows(files: Sequence[str], layout: RowLayout) -> int:
    """Return about how many rows the files have: exact but for blank lines in text.

    A file that was read by an earlier run may be gone since; it counts for nothing.
    """
    files = [path for path in files if Path(path).exists()]
    if layout.row_format == TYPED:
        return sum(pq.read_metadata(path).num_rows for path in files)
    rows = 0
    for path in files:
        with open(path, "rb") as file:
            rows += sum(1 for _ in file) - (layout.row_format == "csv")
    return rows


def _columns(files: list[str], row_format: str, text: TextFormat) -> dict[str, tuple[str, ...]]:
    """Return the columns of each file; of JSON, of the first, since an object names its own."""
    if row_format == "csv":
        return {path: csv_header(path, text) for path in files}
    if row_format == TYPED:
        return {path: tuple(parquet_schema(path).names) for path in files}
    return {files[0]: json_columns(files, text)}


def _files(path: Path) -> list[str]:
    if not path.exists():
        raise UserError(f"--input: {path} does not exist")
    if path.is_file():
        return [str(path.resolve())]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(p[0] in "._" for p in file.relative_to(path).parts)
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
                f"there are: {', '.join(columns)}{_without_header(settings, columns)}"
            )
        if option == "features" and role_of.get(name) == "label":
            raise UserError(f"--features: column '{name}' is the label")
        role_of[name] = option


def _without_header(settings: InputSettings, columns: tuple[str, ...]) -> str:
    """Return a hint for a file whose first line is a row."""
    _, faults = numbers(pa.array(columns, pa.string()))
    if settings.format == "csv" and (faults == SOUND).any():
        return ". That looks like a row: put a header line of column names in front"
    return ""
