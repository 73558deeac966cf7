"""The columns of files, as their beginnings show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import UserError
from app.files.paths import partition_of
from app.files.reading.beginnings import ARFF, CSV
from app.files.reading.readers import TEXT_COLUMN, TextRecords
from app.files.reading.text_stream import AS_USUAL, TextFormat, open_text
from app.files.sequence import START, FileSequence
from app.parsing.cells import SOUND, numbers
from app.parsing.json_rows import json_value, paths_of
from app.parsing.raw_batch import RawBatch
from app.parsing.row_parser import raw_batch_of

_SAMPLE_ROWS = 1000
_SHOWN = 60
_MOST_LISTED = 20

_ZIP_MARK = b"PK\x03\x04"
_TAR_MARK = 257, b"ustar"
"""Where, and what."""


def columns_of_file(path: str, file_format: str, text: TextFormat = AS_USUAL) -> tuple[str, ...]:
    """Return a file's own columns.

    Parameters
    ----------
    path
    file_format : {"csv", "json", "arff", "parquet"}
    text

    Raises
    ------
    UserError
        When it is not of the format, or does not say its columns.
    """
    if file_format == CSV:
        return csv_header(path, text)
    if file_format == ARFF:
        return arff_header(path, text)
    if file_format == "json":
        return json_columns([path], text)
    return tuple(parquet_schema(path).names)


def csv_header(path: str, text: TextFormat = AS_USUAL) -> tuple[str, ...]:
    """Return the names in a CSV's header, which may be empty or there twice.

    Without a header they are c0, c1 and so on.

    Raises
    ------
    UserError
        When there is no header, it looks like a row, or it is no text in the encoding.
    """
    records = _open(path, CSV, text)
    records.close()
    names = records.names or ()
    if any("\0" in name or "\ufffd" in name for name in names):
        _refuse_archive(path)
        raise UserError(
            f"--input: {path} is not CSV text in {text.encoding.upper()}; if it is text, give its "
            "--encoding"
        )
    if not any(names):
        missing = "header line of column names" if text.has_header else "rows"
        raise UserError(f"--input: {path} has no {missing}")
    if text.has_header and _is_row(names):
        raise UserError(
            f"--input: {path} begins with {_short(', '.join(names))}, which are numbers and no "
            "names of columns. If it has no header line, give --no-header: its columns are then "
            "c0, c1 and so on"
        )
    return names


def arff_header(path: str, text: TextFormat = AS_USUAL) -> tuple[str, ...]:
    """Return the names of an ARFF file's attributes.

    Raises
    ------
    UserError
        When there are none before a line ``@data``, or rows are sparse.
    """
    records = _open(path, ARFF, text)
    if not records.names:
        _refuse_archive(path)
        raise UserError(f"--input: {path} has no lines @attribute before a line @data")
    batches, _ = records.read(0, 1)
    records.close()
    first = batches[0][TEXT_COLUMN][0].as_py() if batches else b""
    if first.lstrip().startswith(b"{"):
        raise UserError(
            f"--input: {path} is sparse ARFF, with rows such as {_short(first.decode())!r}; write "
            "them with all values (in Weka, the filter SparseToNonSparse)"
        )
    return records.names


def json_columns(files: list[str], text: TextFormat = AS_USUAL) -> tuple[str, ...]:
    batches, _ = FileSequence(files[:1], "json", (), text=text).read(START, _SAMPLE_ROWS)
    lines = [line for batch in batches for line in batch[TEXT_COLUMN].to_pylist()]
    rows = [value for value in map(json_value, lines) if isinstance(value, dict)]
    columns = tuple(dict.fromkeys(name for row in rows for name in paths_of(row)))
    if not columns:
        _refuse_archive(files[0])
        raise UserError(f"--input: {files[0]} holds no JSON object on its first lines, one a line")
    return columns


def parquet_schema(path: str) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        _refuse_archive(path)
        raise UserError(f"--input: {path} is not Parquet: {error}") from error


def with_partitions(columns: Iterable[str], paths: Iterable[str]) -> tuple[str, ...]:
    """Return columns and those that the directories of files name beside them."""
    return tuple(
        dict.fromkeys([*columns, *(name for path in paths for name in partition_of(path))])
    )


def note_on_partitions(own: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Return what a user is told who might take the columns of files for those of directories."""
    hidden = sorted({*own} & {*with_partitions((), paths)})
    return [
        f"column '{name}' is in the files and in the names of their directories; what the files "
        "say counts"
        for name in hidden
    ]


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
        When there are no rows, or no line is one for want of ``escapes``.
    """
    batches, _ = FileSequence(files, file_format, columns, text=text).read(START, _SAMPLE_ROWS)
    if not batches:
        raise UserError(f"--input: {files[0]} holds no rows")
    found = raw_batch_of(batches[0], columns, columns)
    has_rows = found.kept is None or len(found.kept)
    if file_format == CSV and not has_rows and not text.escapes and _has_escapes(batches[0]):
        raise UserError(
            f'--input: no line of {files[0]} has as many fields as the first, and they hold \\" '
            "for a quote within quotes: give --escapes"
        )
    return {name: _values(found, name) for name in columns}


def notes_on_text(files: list[str], file_format: str, text: TextFormat) -> list[str]:
    """Return what a user is told of the first rows of text that is not in its encoding."""
    batches, _ = FileSequence(files, file_format, (), text=text).read(START, _SAMPLE_ROWS)
    lines = [line for batch in batches for line in batch[TEXT_COLUMN].to_pylist()]
    strange = [line for line in lines if not _is_utf_8(line)]
    if not strange:
        return []
    shown = _short(strange[0].decode(errors="backslashreplace"))
    return [
        f"{len(strange):,} of the first {len(lines):,} rows are not in {text.encoding.upper()}, "
        f"such as {shown}; they are dead letters unless --encoding says what they are in"
    ]


def has_number(names: Sequence[str]) -> bool:
    """Return whether one of some names is a number, as the cells of a row often are."""
    return bool((numbers(pa.array(names, pa.string()))[1] == SOUND).any())


def _is_row(names: Sequence[str]) -> bool:
    """Return whether all names are numbers, but for columns that were numbered from 0 on."""
    faults = numbers(pa.array(names, pa.string()))[1]
    return bool((faults == SOUND).all()) and list(names) != [str(i) for i in range(len(names))]


def _is_utf_8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_escapes(batch: pa.RecordBatch) -> bool:
    return any(b'\\"' in (line or b"") for line in batch[TEXT_COLUMN].to_pylist())


def listed(columns: Sequence[str]) -> str:
    """Return the names of columns for a message, of very many the first."""
    if len(columns) <= _MOST_LISTED:
        return ", ".join(columns)
    return f"{', '.join(columns[:_MOST_LISTED])} and {len(columns) - _MOST_LISTED:,} others"


def _refuse_archive(path: str) -> None:
    """Refuse what holds files, which is no file of rows itself."""
    try:
        with open_text(path) as file:
            look = file.read(_TAR_MARK[0] + len(_TAR_MARK[1]))
    except OSError:
        return
    what = "a ZIP archive, as Excel's workbooks are too" if look.startswith(_ZIP_MARK) else None
    if look[_TAR_MARK[0] :] == _TAR_MARK[1]:
        what = "a tar archive"
    if what is not None:
        raise UserError(f"--input: {path} is {what}: unpack it, or save its rows as CSV")


def _open(path: str, file_format: str, text: TextFormat) -> TextRecords:
    try:
        return TextRecords(path, file_format, text)
    except OSError as error:
        raise UserError(f"--input: {path} cannot be read: {error}") from error


def _values(rows: RawBatch, name: str) -> pa.Array:
    for values in (rows.arrays(name), rows.column(name)):
        if values is not None:
            return values
    return pa.nulls(0, pa.string())


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + " …"
