"""Files that someone else writes, read so that none of them stops a stream.

A file with other columns is read by the names that it has. What fits nowhere comes
out as rows that validation turns into dead letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import DataLossError, UserError
from app.files.lines import csv_cells, csv_line
from app.files.sequence import TEXT_COLUMN, FileRows, ParquetRows, TextLines

_HEADER_BYTES = 1 << 20


def open_permissively(
    path: str, file_format: str, columns: Sequence[str] | None, schema: pa.Schema
) -> FileRows:
    """Open a file that somebody else writes.

    Parameters
    ----------
    path
    file_format : {"csv", "json", "parquet"}
    columns
        The columns that a CSV line's cells are given in, in order. None takes lines as they
        are.
    schema
        What the rows of a Parquet file are brought to. A column that the file lacks is null,
        and so is a value that does not fit its type. A file that is no Parquet, and the rest
        of one from where it is damaged, is one row of nulls.

    Raises
    ------
    DataLossError
        When the file is gone.
    UserError
        When the file is there and may not be read.
    """
    try:
        if file_format == "parquet":
            return _parquet(path, schema)
        if file_format == "csv":
            return _csv(path, columns)
        return TextLines(path, has_header=False)
    except FileNotFoundError as error:
        raise DataLossError(
            f"{path} is gone and was not read to its end. Put it back, or an empty file in its "
            "place to go on without its rows"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _csv(path: str, columns: Sequence[str] | None) -> FileRows:
    """Open a CSV file whose header may name the columns in another order, or more of them.

    A header without one of the columns is none: all its lines are rows that cannot be used.
    """
    if columns is None:
        return TextLines(path, has_header=True)
    with open(path, "rb") as file:
        text = file.readline(_HEADER_BYTES).decode("utf-8-sig", errors="replace")
    header = tuple(name.strip() for name in csv_cells(text.strip()))
    if header == tuple(columns) or not text:
        return TextLines(path, has_header=True)
    # As many cells too many as no parser would pass over.
    unusable = "," * len(columns)
    times = Counter(header)
    if any(times[name] != 1 for name in columns):
        return _ChangedLines(path, False, lambda line: unusable + line)
    places = [header.index(name) for name in columns]

    def rearrange(line: str) -> str:
        cells = csv_cells(line)
        if len(cells) != len(header):
            return unusable + line
        return csv_line([cells[place] for place in places])

    return _ChangedLines(path, True, rearrange)


class _ChangedLines(TextLines):
    """The lines of a file, each changed."""

    def __init__(self, path: str, has_header: bool, change: Callable[[str], str]) -> None:
        super().__init__(path, has_header)
        self._change = change

    def read(self, byte: int, n: int) -> tuple[pa.Table, int]:
        table, end = super().read(byte, n)
        lines = [self._change(line) for line in table[TEXT_COLUMN].to_pylist()]
        return pa.table({TEXT_COLUMN: pa.array(lines, pa.string())}), end


def _parquet(path: str, schema: pa.Schema) -> FileRows:
    try:
        return _FittedParquet(path, schema)
    except (OSError, pa.ArrowException) as error:
        if not _is_damage(error):
            raise
        return _NoParquet(path, schema)


def _is_damage(error: Exception) -> bool:
    """Return whether an error lies in a file, not in its disk or in this process."""
    if isinstance(error, OSError):
        return error.errno is None
    return not isinstance(error, (pa.ArrowMemoryError, pa.ArrowCancelled))


class _NoParquet:
    """One row of nulls, in place of a file that is no Parquet."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        # A directory is no file: it fails here.
        open(path, "rb").close()
        self._schema = schema

    def read(self, row: int, n: int) -> tuple[pa.Table, int]:
        n_rows = 1 if n and not row else 0
        return pa.Table.from_batches([_nulls(self._schema)])[:n_rows], row + n_rows

    def ended(self) -> bool:
        return True

    def close(self) -> None:
        pass


class _FittedParquet(ParquetRows):
    """The rows of a Parquet file in the columns and types of another schema.

    The rest of a file that is damaged inside is one row of nulls, after which the
    position is the file's end.
    """

    def __init__(self, path: str, schema: pa.Schema) -> None:
        super().__init__(path, ())
        times = Counter(self._parquet.schema_arrow.names)
        self._columns = [name for name in schema.names if times[name] == 1]
        self._schema = schema
        self._is_over = False

    def read(self, row: int, n: int) -> tuple[pa.Table, int]:
        self._is_over = False
        table, _ = super().read(row, n)
        if self._is_over:
            self._position = self._parquet.metadata.num_rows
        return table, self._position

    def _batches_from(self, row: int) -> Iterator[pa.RecordBatch]:
        batches = super()._batches_from(row)
        try:
            for batch in batches:
                yield self._fitted(batch)
        except (OSError, pa.ArrowException) as error:
            if not _is_damage(error):
                raise
            self._is_over = True
            yield _nulls(self._schema)

    def _fitted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            _fit(batch.column(batch.schema.get_field_index(field.name)), field.type)
            if field.name in self._columns
            else pa.nulls(len(batch), field.type)
            for field in self._schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _nulls(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(1, f.type) for f in schema], schema=schema)


def _fit(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Return values in another type, null where one does not fit.

    Each row's own value decides, so that the rows do not depend on how they are cut.
    """
    if values.type == wanted:
        return values
    try:
        return _cast(values, wanted)
    except pa.ArrowNotImplementedError:
        return pa.nulls(len(values), wanted)
    except pa.ArrowException:
        return pa.chunked_array(
            [_cast_or_null(values[i : i + 1], wanted) for i in range(len(values))]
        ).combine_chunks()


def _cast_or_null(value: pa.Array, wanted: pa.DataType) -> pa.Array:
    try:
        return _cast(value, wanted)
    except pa.ArrowException:
        return pa.nulls(1, wanted)


def _cast(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    # Spark's timestamps have no nanoseconds.
    return pc.cast(values, options=pc.CastOptions(wanted, allow_time_truncate=True))
