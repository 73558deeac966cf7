"""The rows of one file as they are written: records of text, or typed columns.

Rows come as Arrow batches whose schema says in its metadata what they are: ``format`` (csv, json,
or parquet for typed columns), ``header`` (of a CSV, its names as a JSON list), ``damage`` (why one
row stands for all that cannot be read). So a batch can be parsed wherever it is sent, by the
columns of its own file.
"""

from __future__ import annotations

import codecs
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DataLossError, UserError
from app.files.reading.lines import COMMAS, csv_cells, is_open_record
from app.files.reading.text_stream import AS_USUAL, UTF_8, TextFormat, is_plain, open_text

TEXT_FORMATS = ("csv", "json")

TEXT_COLUMN = "text"
"""A row as it is written, in bytes, where a batch is of text."""

_PARQUET = b"PAR1"

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is cut in pieces, each a row; it protects memory from a file that is no text."""

MAX_RECORD_BYTES = 1024 * 1024
"""Of a record over several lines. A quote that is not closed by then was never to open one."""


class FileRows(Protocol):
    """The rows of one open file, counted in units, bytes or rows, of its own choice."""

    def read(self, unit: int, n: int) -> tuple[list[pa.RecordBatch], int]:
        """Return at most ``n`` rows from ``unit`` on, and the unit after them.

        Raises
        ------
        DataLossError
            When the file has become shorter than ``unit``.
        """

    def ended(self) -> bool:
        """Return whether the last read reached the end of the file."""

    def close(self) -> None: ...


def open_rows(
    path: str, file_format: str, columns: Sequence[str], text: TextFormat = AS_USUAL
) -> TextRecords | ParquetRows:
    """Open a file.

    Parameters
    ----------
    path
    file_format : {"csv", "json", "parquet"}
    columns
        Those to read of a Parquet file. One that it lacks, or has twice, is passed over.
    text
        How text is written.

    Raises
    ------
    OSError, pa.ArrowInvalid
        When it is gone, may not be read, or is no Parquet.
    """
    if file_format in TEXT_FORMATS:
        return TextRecords(path, file_format, text)
    return ParquetRows(path, columns)


def open_named(
    path: str, file_format: str, columns: Sequence[str], text: TextFormat = AS_USUAL
) -> FileRows:
    """Open a file that a user has named, and that must be of the format and have the columns.

    Raises
    ------
    UserError
        When it is not, has not, or is gone.
    """
    try:
        rows = open_rows(path, file_format, columns, text)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"--input: {path} cannot be read: {error}") from error
    names = rows.names or columns
    for name in columns:
        if names.count(name) != 1:
            problem = "no column" if name not in names else "more than one column"
            raise UserError(f"--input: {path} has {problem} '{name}'; it has {', '.join(names)}")
    return rows


def open_arrived(
    path: str, file_format: str, columns: Sequence[str], text: TextFormat = AS_USUAL
) -> FileRows:
    """Open a file that somebody else writes, so that it does not stop a stream.

    A file that is no Parquet, and the rest of one from where it is damaged, is one row. A header
    of CSV that lacks a column, or has it twice, is none: it is a row like those below it.

    Raises
    ------
    DataLossError
        When the file is gone.
    UserError
        When the file is there and may not be read.
    """
    try:
        try:
            rows = open_rows(path, file_format, columns, text)
            if isinstance(rows, ParquetRows):
                rows.outlasts_damage = True
            elif rows.names is not None and any(rows.names.count(name) != 1 for name in columns):
                rows.begin_with_header()
            return rows
        except (OSError, pa.ArrowException) as error:
            if not _is_damage(error):
                raise
            return _NoParquet(path, error)
    except FileNotFoundError as error:
        raise DataLossError(
            f"{path} is gone and was not read to its end. Put it back, or an empty file in its "
            "place to go on without its rows"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


class TextRecords:
    """The records of one text file, but for blank lines and a CSV's header.

    A record is a line; of a CSV, also several lines with line breaks within quotes.

    Attributes
    ----------
    names
        Of a CSV's header; None where rows name their values.
    """

    def __init__(self, path: str, file_format: str, text: TextFormat = AS_USUAL) -> None:
        self._path = path
        self._is_csv = file_format == "csv"
        self._file = open_text(path, text.encoding, is_json=not self._is_csv)
        self._dialect = COMMAS
        self.names: tuple[str, ...] | None = None
        metadata = {"format": file_format}
        self._begin = self._top = len(codecs.BOM_UTF8) if self._starts_with_mark() else 0
        self._file.seek(self._top)
        if self._is_csv:
            header = self._record().decode(errors="replace").strip()
            self._dialect = text.dialect(header)
            self.names = tuple(name.strip() for name in csv_cells(header, self._dialect))
            metadata |= {
                "header": json.dumps(self.names),
                "dialect": self._dialect.to_metadata(),
            }
            self._begin = self._file.tell()
        self._schema = pa.schema([(TEXT_COLUMN, pa.binary())], metadata)

    def begin_with_header(self) -> None:
        """Take the header for a record, too."""
        self._begin = self._top

    def read(self, byte: int, n: int) -> tuple[list[pa.RecordBatch], int]:
        if isinstance(self._file.raw, io.FileIO):
            _check_length(self._path, byte, os.fstat(self._file.fileno()).st_size, "bytes")
        byte = max(byte, self._begin)
        if self._file.tell() != byte:
            _check_length(self._path, byte, self._file.seek(byte), "bytes")
        records: list[bytes] = []
        while len(records) < n and (record := self._record()):
            if not record.isspace():
                records.append(record.rstrip(b"\r\n"))
        self._skip_blank_lines()
        batch = pa.record_batch([pa.array(records, pa.binary())], self._schema)
        return [batch] if records else [], self._file.tell()

    def ended(self) -> bool:
        return not self._file.peek(1)

    def close(self) -> None:
        self._file.close()

    def _starts_with_mark(self) -> bool:
        return self._file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8

    def _record(self) -> bytes:
        line = self._file.readline(MAX_LINE_BYTES)
        if self._is_csv and b'"' in line and is_open_record(line, self._dialect):
            return self._over_lines(line)
        return line

    def _over_lines(self, first: bytes) -> bytes:
        lines, length, place = [first], len(first), self._file.tell()
        while line := self._file.readline(MAX_LINE_BYTES):
            lines.append(line)
            length += len(line)
            if length > MAX_RECORD_BYTES:
                break
            # A line that begins within quotes is open as one that begins with a quote is.
            if not is_open_record(b'"' + line, self._dialect):
                return b"".join(lines)
        self._file.seek(place)
        return first

    def _skip_blank_lines(self) -> None:
        place = self._file.tell()
        while self._file.readline(MAX_LINE_BYTES).isspace():
            place = self._file.tell()
        self._file.seek(place)


class ParquetRows:
    """The rows of one Parquet file. Reading on from where the last read ended is cheap.

    Attributes
    ----------
    names
        Of all its columns.
    outlasts_damage
        Whether the rest of a file that is damaged inside is one row, after which the position is
        the file's end.
    """

    outlasts_damage = False

    def __init__(self, path: str, columns: Sequence[str]) -> None:
        self._path = path
        self._parquet = pq.ParquetFile(path)
        self.names: tuple[str, ...] = tuple(self._parquet.schema_arrow.names)
        times = Counter(self.names)
        self._columns = [name for name in dict.fromkeys(columns) if times[name] == 1]
        self._position = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, row: int, n: int) -> tuple[list[pa.RecordBatch], int]:
        if row != self._position:
            _check_length(self._path, row, self._parquet.metadata.num_rows, "rows")
            self._batches, self._rest, self._position = self._batches_from(row), None, row
        taken: list[pa.RecordBatch] = []
        missing = n
        try:
            while missing:
                batch = self._rest or next(self._batches, None)
                if batch is None:
                    break
                taken.append(batch.slice(0, missing))
                self._rest = batch.slice(missing) if len(batch) > missing else None
                missing -= len(taken[-1])
        except (OSError, pa.ArrowException) as error:
            if not self.outlasts_damage or not _is_damage(error):
                raise
            self._position = self._parquet.metadata.num_rows
            return [*taken, _damaged(self._path, error)], self._position
        self._position += n - missing
        return taken, self._position

    def ended(self) -> bool:
        n_rows: int = self._parquet.metadata.num_rows
        return self._position >= n_rows

    def close(self) -> None:
        self._parquet.close()

    def _batches_from(self, row: int) -> Iterator[pa.RecordBatch]:
        for group in range(self._parquet.num_row_groups):
            length = self._parquet.metadata.row_group(group).num_rows
            if row >= length:
                row -= length
                continue
            for batch in self._parquet.iter_batches(row_groups=[group], columns=self._columns):
                skipped, row = min(row, len(batch)), row - min(row, len(batch))
                if len(batch) > skipped:
                    yield batch.slice(skipped).replace_schema_metadata({"format": "parquet"})


class _NoParquet:
    """One row, in place of a file that is no Parquet."""

    def __init__(self, path: str, error: Exception) -> None:
        # A directory is no file: it fails here.
        open(path, "rb").close()
        self._row = _damaged(path, error)

    def read(self, row: int, n: int) -> tuple[list[pa.RecordBatch], int]:
        is_due = bool(n and not row)
        return [self._row] if is_due else [], row + is_due

    def ended(self) -> bool:
        return True

    def close(self) -> None:
        pass


def damaged_row(damage: str) -> pa.RecordBatch:
    """Return the one row in place of what cannot be read."""
    said = {"format": "parquet", "damage": damage}
    return pa.record_batch([pa.nulls(1)], pa.schema([("damaged", pa.null())], said))


def _damaged(path: str, error: Exception) -> pa.RecordBatch:
    return damaged_row(f"{path} is damaged: {' '.join(str(error).split())}")


def _is_damage(error: Exception) -> bool:
    """Return whether an error lies in a file, not in its disk or in this process."""
    if isinstance(error, OSError):
        return error.errno is None
    return not isinstance(error, (pa.ArrowMemoryError, pa.ArrowCancelled))


def check_length(path: str, read: int, encoding: str = UTF_8) -> None:
    """Make sure that a file is no shorter than what was read of it, in its own units.

    One that is not read as it is stored is looked at when it is read on.

    Raises
    ------
    DataLossError
        When it is.
    UserError
        When it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            beginning = file.read(1 << 16)
        if beginning.startswith(_PARQUET):
            _check_length(path, read, pq.read_metadata(path).num_rows, "rows")
        elif is_plain(beginning, encoding) and beginning.lstrip()[:1] != b"[":
            _check_length(path, read, os.path.getsize(path), "bytes")
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _check_length(path: str, read: int, length: int, units: str) -> None:
    if read > length:
        raise DataLossError(
            f"{path} has {length:,} {units}, and {read:,} were read: it was cut or replaced. Put "
            "back the file that was read, or remove it if all of it was; new rows go into a new "
            "file"
        )
