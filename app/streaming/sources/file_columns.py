"""The columns of files, as their beginnings show them."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import UserError
from app.files.lines import csv_cells
from app.files.readers import TEXT_COLUMN
from app.files.sequence import START, FileSequence
from app.parsing.json_rows import json_value
from app.parsing.row_parser import raw_batch_of

_SAMPLE_ROWS = 1000


def csv_header(path: str) -> tuple[str, ...]:
    line = _first_bytes(path).split(b"\n", 1)[0]
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"--input: {path} is not CSV text in UTF-8")
    names = tuple(name.strip() for name in csv_cells(text))
    if not any(names):
        raise UserError(f"--input: {path} has no header line of column names")
    doubled = [name for name, count in Counter(names).items() if count > 1 or not name]
    if doubled:
        raise UserError(f"--input: {path} has a header with '{doubled[0]}' more than once or empty")
    return names


def json_columns(files: list[str]) -> tuple[str, ...]:
    batches, _ = FileSequence(files[:1], "json", ()).read(START, _SAMPLE_ROWS)
    lines = [line for batch in batches for line in batch[TEXT_COLUMN].to_pylist()]
    rows = [value for value in map(json_value, lines) if isinstance(value, dict)]
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        raise UserError(f"--input: {files[0]} holds no JSON object on its first lines, one a line")
    return columns


def parquet_schema(path: str) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"--input: {path} is not Parquet: {error}") from error


def sample_columns(
    files: list[str], file_format: str, columns: tuple[str, ...]
) -> dict[str, pa.Array]:
    """Return the first rows of each column.

    Raises
    ------
    UserError
        When there are no rows.
    """
    batches, _ = FileSequence(files, file_format, columns).read(START, _SAMPLE_ROWS)
    if not batches:
        raise UserError(f"--input: {files[0]} holds no rows")
    found = raw_batch_of(batches[0], columns)
    return {name: _or_nulls(found.column(name)) for name in columns}


def _or_nulls(column: pa.Array | None) -> pa.Array:
    return pa.nulls(0, pa.string()) if column is None else column


def _first_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline(1 << 20)
    except OSError as error:
        raise UserError(f"--input: {path} cannot be read: {error}") from error
