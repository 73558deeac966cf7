"""The columns of files, as their beginnings show them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import UserError
from app.files.lines import csv_cells, json_object
from app.files.sequence import START, TEXT_COLUMN, FileSequence

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
    rows, _ = FileSequence(files[:1], "json", ()).read(START, _SAMPLE_ROWS)
    objects = [json_object(line) for line in rows.to_pydict().get(TEXT_COLUMN, [])]
    columns = tuple(dict.fromkeys(name for row in objects for name in row))
    if not columns:
        raise UserError(f"--input: {files[0]} holds no JSON object on its first lines, one a line")
    return columns


def parquet_schema(files: list[str]) -> pa.Schema:
    schemas = []
    for path in files:
        try:
            schemas.append(pq.read_schema(path).remove_metadata())
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"--input: {path} is not Parquet: {error}") from error
        if not schemas[-1].equals(schemas[0]):
            raise UserError(f"--input: {path} has another schema than {files[0]}")
    return schemas[0]


def sample_columns(
    files: list[str], file_format: str, columns: tuple[str, ...]
) -> dict[str, list[Any]]:
    """Return the values of each column in the first rows.

    Raises
    ------
    UserError
        When there are no rows.
    """
    table, _ = FileSequence(files, file_format, columns).read(START, _SAMPLE_ROWS)
    if not len(table):
        raise UserError(f"--input: {files[0]} holds no rows")
    if file_format == "parquet":
        return dict(table.to_pydict())
    lines = table[TEXT_COLUMN].to_pylist()
    if file_format == "json":
        rows = [json_object(line) for line in lines]
        return {name: [row.get(name) for row in rows] for name in columns}
    cells = [row for row in map(csv_cells, lines) if len(row) == len(columns)]
    return {name: [row[i] for row in cells] for i, name in enumerate(columns)}


def _first_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline(1 << 20)
    except OSError as error:
        raise UserError(f"--input: {path} cannot be read: {error}") from error
