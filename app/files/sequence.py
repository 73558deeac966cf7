"""Input files as one numbered sequence of rows that can be read from any position.

A position is ``{"file": i, "unit": u, "row": r, "ended": e, "list": d}``: u bytes (text) or
u rows (Parquet) into the i-th file, after r rows in all, whether that is the file's end, and
a digest of the names of the files up to it. Positions are the offsets of the replay source, so a
row has the same number however the sequence is cut, and an offset says which list it belongs to.
Older releases wrote positions without the digest.
"""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DataLossError, UserError

TEXT_FORMATS = ("csv", "json")
TEXT_COLUMN = "text"
_PARQUET = b"PAR1"
SEQUENCE_COLUMN = "sequence"

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is cut in pieces, each a row; it protects memory from a file that is no text."""

Position = dict[str, Any]

START: Position = {"file": 0, "unit": 0, "row": 0, "ended": 0}


class FileRows(Protocol):
    """The rows of one open file, counted in units, bytes or rows, of its own choice."""

    def read(self, unit: int, n: int) -> tuple[pa.Table, int]:
        """Return at most ``n`` rows from ``unit`` on, and the unit after them.

        Raises
        ------
        DataLossError
            When the file has become shorter than ``unit``.
        """

    def ended(self) -> bool:
        """Return whether the last read reached the end of the file."""

    def close(self) -> None: ...


class TextLines:
    """The non-blank lines of one text file, without a CSV's header. A line is a row."""

    def __init__(self, path: str, has_header: bool) -> None:
        self._file: BinaryIO = open(path, "rb")
        self._has_header = has_header

    def read(self, byte: int, n: int) -> tuple[pa.Table, int]:
        """Return at most ``n`` rows from byte offset ``byte`` on, and the offset after them."""
        _check_length(self._file.name, byte, os.fstat(self._file.fileno()).st_size, "bytes")
        if self._file.tell() != byte:
            self._file.seek(byte)
        if byte == 0 and self._has_header:
            self._file.readline(MAX_LINE_BYTES)
        lines: list[str] = []
        while len(lines) < n and (line := self._file.readline(MAX_LINE_BYTES)):
            if not lines and byte == 0:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.isspace():
                lines.append(line.decode("utf-8", errors="replace").rstrip("\r\n"))
        self._skip_blank_lines()
        return pa.table({TEXT_COLUMN: pa.array(lines, pa.string())}), self._file.tell()

    def ended(self) -> bool:
        """Return whether the last read reached the end of what the file holds by now."""
        return self._file.tell() >= os.fstat(self._file.fileno()).st_size

    def _skip_blank_lines(self) -> None:
        place = self._file.tell()
        while self._file.readline(MAX_LINE_BYTES).isspace():
            place = self._file.tell()
        self._file.seek(place)

    def close(self) -> None:
        self._file.close()


class ParquetRows:
    """The rows of one Parquet file. Reading on from where the last read ended is cheap."""

    def __init__(self, path: str, columns: Sequence[str]) -> None:
        self._path = path
        self._parquet = pq.ParquetFile(path)
        self._columns = list(columns)
        schema = self._parquet.schema_arrow
        self._schema = pa.schema([schema.field(name) for name in self._columns])
        self._position = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, row: int, n: int) -> tuple[pa.Table, int]:
        """Return at most ``n`` rows from row ``row`` on, and the row after them."""
        if row != self._position:
            _check_length(self._path, row, self._parquet.metadata.num_rows, "rows")
            self._batches, self._rest, self._position = self._batches_from(row), None, row
        taken: list[pa.RecordBatch] = []
        missing = n
        while missing:
            batch = self._rest or next(self._batches, None)
            if batch is None:
                break
            taken.append(batch.slice(0, missing))
            self._rest = batch.slice(missing) if len(batch) > missing else None
            missing -= len(taken[-1])
        self._position += n - missing
        return pa.Table.from_batches(taken, self._schema), self._position

    def ended(self) -> bool:
        """Return whether the last read reached the end of the file."""
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
                    yield batch.slice(skipped)


def _check_length(path: str, read: int, length: int, units: str) -> None:
    if read > length:
        raise DataLossError(
            f"{path} has {length:,} {units}, and {read:,} were read: it was cut or replaced. Put "
            "back the file that was read, or remove it if all of it was; new rows go into a new "
            "file"
        )


def open_input(path: str, file_format: str, columns: Sequence[str]) -> FileRows:
    """Open a file that must be of the format, and have the columns if it is Parquet.

    Raises
    ------
    UserError
        When it is not, or is gone.
    """
    try:
        if file_format in TEXT_FORMATS:
            return TextLines(path, has_header=file_format == "csv")
        return ParquetRows(path, columns)
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"--input: {path} cannot be read: {error}") from error


class ListDigests:
    """Digests of the beginnings of a list of files, which may grow meanwhile.

    Parameters
    ----------
    files
        Paths, in order.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files
        self._digests: list[str] = []

    def __len__(self) -> int:
        return len(self.files)

    def up_to(self, index: int) -> str:
        """Return the digest of the list that ends with the file of an index."""
        while len(self._digests) <= index:
            # Chained: a hash that goes on could not be sent to the executors.
            link = f"{self._digests[-1:]}{self.files[len(self._digests)]}"
            digest = hashlib.sha256(link.encode(errors="surrogateescape")).hexdigest()
            self._digests.append(digest[:16])
        return self._digests[index]


def check_position(
    position: Position,
    *lists: Sequence[str] | ListDigests,
    named: str = "the list of the source's files",
) -> Sequence[str] | None:
    """Make sure that a position belongs to a list of files, or to one of several.

    Parameters
    ----------
    position
    *lists
    named
        What the message calls them.

    Returns
    -------
    sequence of str, or None
        The list that it belongs to; None where nothing was read, or it does not say which.

    Raises
    ------
    DataLossError
        When it counts more files, or was made with other files or in another order.
    """
    if position == START:
        return None
    index, digest = position["file"], position.get("list")
    digests = [x if isinstance(x, ListDigests) else ListDigests(x) for x in lists]
    long_enough = [each for each in digests if len(each) > index]
    if not long_enough:
        raise DataLossError(
            f"the checkpoint has read {index + 1} files, and {named} has "
            f"{max(map(len, digests))}. Restore the list that belongs to the checkpoint, or begin "
            "anew in another work directory"
        )
    possible = [each for each in long_enough if digest in (None, each.up_to(index))]
    if not possible:
        raise DataLossError(
            f"the checkpoint has read {index + 1} files, and those in {named} are others, or in "
            "another order. Restore the list that belongs to the checkpoint, or begin anew in "
            "another work directory"
        )
    return possible[0].files if len(possible) == 1 else None


def check_read(position: Position, *lists: Sequence[str] | ListDigests, named: str) -> None:
    """Do :func:`check_position`, and make sure that nothing that was read has been cut off.

    The file that was read last is looked at. It may be gone, if it was read to its end.

    Raises
    ------
    DataLossError
        When it has become shorter. From :func:`check_position` too.
    UserError
        When it cannot be read.
    """
    files, read = check_position(position, *lists, named=named), position["unit"]
    # One unit may stand for a file that is empty and no Parquet.
    if files is None or read <= 1 or not os.path.exists(path := files[position["file"]]):
        return
    try:
        with open(path, "rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        if is_parquet:
            _check_length(path, read, pq.read_metadata(path).num_rows, "rows")
        else:
            _check_length(path, read, os.path.getsize(path), "bytes")
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


class FileSequence:
    """Files read one after the other.

    Parameters
    ----------
    files
        Paths, in order.
    file_format : {"csv", "json", "parquet"}
    columns
        The columns to read from Parquet files. Text is read whole.
    open_file
        Opens the file of a path when its turn comes. The default, :func:`open_input`, refuses
        a file that cannot be read.
    """

    def __init__(
        self,
        files: Sequence[str],
        file_format: str,
        columns: Sequence[str],
        open_file: Callable[[str], FileRows] | None = None,
    ) -> None:
        self._files = list(files)
        self._digests = ListDigests(self._files)
        self._open_file = open_file or (lambda path: open_input(path, file_format, columns))
        self._open: tuple[int, FileRows] | None = None

    def extend(self, files: Iterable[str]) -> None:
        """Add files after those that there are."""
        self._files.extend(files)

    def read(self, start: Position, n: int) -> tuple[pa.Table, Position]:
        """Return at most ``n`` rows from ``start`` on, numbered, and the position after them.

        A file that was read to its end may be gone since. One that is still there
        is read on if it has grown.

        Raises
        ------
        UserError
            When a file that is still to be read is gone, or is damaged.
        DataLossError
            When the position belongs to another list of files, or the file that was read last has
            become shorter.
        """
        check_position(start, self._digests)
        index, unit, row, ended = (start[key] for key in ("file", "unit", "row", "ended"))
        tables: list[pa.Table] = []
        missing = n
        while missing and index < len(self._files):
            if not (ended and self._is_gone(index)):
                rows, unit, ended = self._read_file(index, unit, missing)
                tables.append(rows)
                missing -= len(rows)
            if not missing or index + 1 == len(self._files):
                break
            index, unit, ended = index + 1, 0, 0
        end = {"file": index, "unit": unit, "row": row + n - missing, "ended": ended}
        if index < len(self._files):
            end["list"] = self._digests.up_to(index)
        if not tables:
            return pa.table({}), end
        table = pa.concat_tables(tables, promote_options="permissive")
        numbers = pa.array(range(row, end["row"]), pa.int64())
        return table.add_column(0, SEQUENCE_COLUMN, numbers), end

    def _read_file(self, index: int, unit: int, n: int) -> tuple[pa.Table, int, int]:
        """Return rows of one file, the unit after them, and whether that is the file's end."""
        reader = self._reader(index)
        try:
            rows, end = reader.read(unit, n)
            return rows, end, int(reader.ended())
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{self._files[index]} cannot be read to its end: {error}. Put a whole copy in its "
                "place"
            ) from error

    def _is_gone(self, index: int) -> bool:
        return not os.path.exists(self._files[index])

    def _reader(self, index: int) -> FileRows:
        if self._open is None or self._open[0] != index:
            self.close()
            self._open = index, self._open_file(self._files[index])
        return self._open[1]

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
