"""The columns of files, as their beginnings show them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import UserError
from app.files.reading.readers import TEXT_COLUMN, TextRecords
from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.files.sequence import START, FileSequence
from app.parsing.json_rows import json_value, paths_of
from app.parsing.raw_batch import RawBatch
from app.parsing.row_parser import raw_batch_of

_SAMPLE_ROWS = 1000


def csv_header(path: str, text: TextFormat = AS_USUAL) -> tuple[str, ...]:
    """Return the names in a CSV's header, which may be empty or there twice.

    Raises
    ------
    UserError
        When there is no header, or it is no text in the encoding.
    """
    try:
        names = TextRecords(path, "csv", text).names or ()
    except OSError as error:
        raise UserError(f"--input: {path} cannot be read: {error}") from error
    if any("\0" in name or "\ufffd" in name for name in names):
        raise UserError(
            f"--input: {path} is not CSV text in {text.encoding.upper()}; if it is text, give its "
            "--encoding"
        )
    if not any(names):
        raise UserError(f"--input: {path} has no header line of column names")
    return names


def json_columns(files: list[str], text: TextFormat = AS_USUAL) -> tuple[str, ...]:
    batches, _ = FileSequence(files[:1], "json", (), text=text).read(START, _SAMPLE_ROWS)
    lines = [line for batch in batches for line in batch[TEXT_COLUMN].to_pylist()]
    rows = [value for value in map(json_value, lines) if isinstance(value, dict)]
    columns = tuple(dict.fromkeys(name for row in rows for name in paths_of(row)))
    if not columns:
        raise UserError(f"--input: {files[0]} holds no JSON object on its first lines, one a line")
    return columns


def parquet_schema(path: str) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"--input: {path} is not Parquet: {error}") from error


def sample_columns(
    files: list[str],
    file_format: str,
    columns: tuple[str, ...],
    text: TextFormat = AS_USUAL,
) -> dict[str, pa.Array]:
    """Return the first rows of each column.

    Raises
    ------
    UserError
        When there are no rows.
    """
    batches, _ = FileSequence(files, file_format, columns, text=text).read(START, _SAMPLE_ROWS)
    if not batches:
        raise UserError(f"--input: {files[0]} holds no rows")
    found = raw_batch_of(batches[0], columns, columns)
    return {name: _values(found, name) for name in columns}


def _values(rows: RawBatch, name: str) -> pa.Array:
    for values in (rows.arrays(name), rows.column(name)):
        if values is not None:
            return values
    return pa.nulls(0, pa.string())
