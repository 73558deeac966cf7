"""The rows of one file as they are written: records of text, or typed columns.

Rows come as Arrow batches whose schema says in its metadata what they are: ``format`` (csv, json,
or parquet for typed columns), ``header`` and ``dialect`` (of a CSV, its names as a JSON list, and
how its fields are told apart), ``partition`` (what the file's directories say of every row, a JSON
object), ``damage`` (why one row stands for all that cannot be read). So a batch can be parsed
wherever it is sent, by the columns of its own file.
"""

from __future__ import annotations

import codecs
import io
import json
import os
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from app.errors import DataLossError, UserError
from app.files.paths import partition_metadata, partition_of
from app.files.reading.beginnings import CSV, JSON, TEXT_FORMATS, beginning_of
from app.files.reading.lengths import refuse_cut
from app.files.reading.parquet_rows import NoParquet, ParquetRows, is_damage
from app.files.reading.text_stream import AS_USUAL, TextFormat, open_text

TEXT_COLUMN = "text"
"""A row as it is written, in bytes, where a batch is of text."""


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
    file_format : {"csv", "json", "arff", "libsvm", "parquet"}
    columns
        Those to read of a Parquet file, or of LIBSVM. One that it lacks, or has twice, is passed
        over.
    text
        How text is written.

    Raises
    ------
    OSError, pa.ArrowInvalid
        When it is gone, may not be read, or is no Parquet.
    """
    if file_format in TEXT_FORMATS:
        return TextRecords(path, file_format, text, columns)
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
        if not _has(names, (name,), path):
            problem = "no column" if name not in names else "more than one column"
            raise UserError(f"--input: {path} has {problem} '{name}'; it has {', '.join(names)}")
    return rows


def open_arrived(
    path: str, file_format: str, columns: Sequence[str], text: TextFormat = AS_USUAL
) -> FileRows:
    """Open a file that somebody else writes, so that it does not stop a stream.

    A file that is no Parquet, and the rest of one from where it is damaged, is one row. A header
    of CSV that lacks a column, or has it twice, is none: it is a row like those below it. So are
    the lines of a file that is no ARFF.

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
            elif rows.names is not None and not _has(rows.names, columns, path):
                rows.begin_with_header()
            return rows
        except (OSError, pa.ArrowException) as error:
            if not is_damage(error):
                raise
            return NoParquet(path, error)
    except FileNotFoundError as error:
        raise DataLossError(
            f"{path} is gone and was not read to its end. Put it back, or an empty file in its "
            "place to go on without its rows"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _has(names: Sequence[str], columns: Sequence[str], path: str) -> bool:
    """Return whether each column is one of a file's own, or named by its directories."""
    others = partition_of(path).keys() - set(names)
    return all(names.count(name) == 1 or name in others for name in columns)


class TextRecords:
    """The records of one text file, but for blank lines, comments and what stands before them.

    A record is a line; of a CSV, also several lines with line breaks within quotes.

    Attributes
    ----------
    names
        Of a record's fields; None where rows name their values.
    """

    def __init__(
        self,
        path: str,
        file_format: str,
        text: TextFormat = AS_USUAL,
        columns: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._is_csv = file_format == CSV
        self._file = open_text(path, text.encoding, is_json=file_format == JSON)
        self._top = len(codecs.BOM_UTF8) if self._starts_with_mark() else 0
        self._file.seek(self._top)
        begins = beginning_of(self._file, file_format, text, columns)
        self._begin, self._rewrite = begins.byte, begins.rewrite
        self._records = begins.records(self._file)
        self.names = begins.names
        metadata = {"format": JSON if self.names is None else "csv", **partition_metadata(path)}
        if self.names is not None:
            metadata["header"] = json.dumps(self.names)
            metadata["dialect"] = begins.dialect.to_metadata()
        self._schema = pa.schema([(TEXT_COLUMN, pa.binary())], metadata)

    def begin_with_header(self) -> None:
        """Take the header for a record, too, but for one of several lines that has names."""
        if self._is_csv or not self.names:
            self._begin = self._top

    def read(self, byte: int, n: int) -> tuple[list[pa.RecordBatch], int]:
        if isinstance(self._file.raw, io.FileIO):
            refuse_cut(self._path, byte, os.fstat(self._file.fileno()).st_size, "bytes")
        byte = max(byte, self._begin)
        refuse_cut(self._path, byte, self._records.seek(byte), "bytes")
        records = self._records.take(n)
        if self._rewrite is not None:
            records = list(map(self._rewrite, records))
        batch = pa.record_batch([pa.array(records, pa.binary())], self._schema)
        return [batch] if records else [], self._records.tell()

    def count(self) -> int | None:
        """Return how many records the file has, None where it is not read as it is stored."""
        if not isinstance(self._file.raw, io.FileIO):
            return None
        self._records.seek(self._begin)
        return self._records.count()

    def ended(self) -> bool:
        return self._records.ended()

    def close(self) -> None:
        self._file.close()

    def _starts_with_mark(self) -> bool:
        return self._file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
