"""Input files as one numbered sequence of rows that can be read from any position.

A position is ``{"file": i, "unit": u, "row": r, "ended": e, "list": d}``: u bytes (text) or
u rows (Parquet) into the i-th file, after r rows in all, whether that is the file's end, and
a digest of the names of the files up to it. Positions are the offsets of the replay source, so a
row has the same number however the sequence is cut, and an offset says which list it belongs to.
Older releases wrote positions without the digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from app.errors import DataLossError, UserError
from app.files.reading.lengths import check_length
from app.files.reading.readers import FileRows, open_named
from app.files.reading.text_stream import AS_USUAL, UTF_8, TextFormat

SEQUENCE_COLUMN = "sequence"
"""Number of a row."""

Position = dict[str, Any]

START: Position = {"file": 0, "unit": 0, "row": 0, "ended": 0}


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


def check_read(
    position: Position, *lists: Sequence[str] | ListDigests, named: str, encoding: str = UTF_8
) -> None:
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
    if files is not None and read > 1 and os.path.exists(path := files[position["file"]]):
        check_length(path, read, encoding)


class FileSequence:
    """Files read one after the other.

    Parameters
    ----------
    files
        Paths, in order.
    file_format : {"csv", "json", "arff", "libsvm", "parquet"}
    columns
        The columns to read from Parquet files and LIBSVM. Other text is read whole.
    open_file
        Opens a file when its turn comes: :func:`app.files.reading.readers.open_named`, or another
        that takes what that takes.
    text
        How text is written.
    """

    def __init__(
        self,
        files: Sequence[str],
        file_format: str,
        columns: Sequence[str],
        open_file: Callable[[str, str, Sequence[str], TextFormat], FileRows] = open_named,
        text: TextFormat = AS_USUAL,
    ) -> None:
        self._files = list(files)
        self._digests = ListDigests(self._files)
        self._format, self._columns = file_format, columns
        self._open_file = open_file
        self._text = text
        self._open: tuple[int, FileRows] | None = None

    def extend(self, files: Iterable[str]) -> None:
        """Add files after those that there are."""
        self._files.extend(files)

    def read(self, start: Position, n: int) -> tuple[list[pa.RecordBatch], Position]:
        """Return at most ``n`` rows from ``start`` on, and the position after them.

        Rows are batches of :mod:`app.files.reading.readers`, numbered in a first column
        ``sequence``; no batch holds rows of two files.

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
        batches: list[pa.RecordBatch] = []
        missing = n
        while missing and index < len(self._files):
            if not (ended and self._is_gone(index)):
                rows, unit, ended = self._read_file(index, unit, missing)
                for batch in rows:
                    batches.append(numbered(batch, row + n - missing))
                    missing -= len(batch)
            if not missing or index + 1 == len(self._files):
                break
            index, unit, ended = index + 1, 0, 0
        end = {"file": index, "unit": unit, "row": row + n - missing, "ended": ended}
        if index < len(self._files):
            end["list"] = self._digests.up_to(index)
        return batches, end

    def _read_file(self, index: int, unit: int, n: int) -> tuple[list[pa.RecordBatch], int, int]:
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
            path = self._files[index]
            self._open = index, self._open_file(path, self._format, self._columns, self._text)
        return self._open[1]

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None


def numbered(rows: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """Return rows with their numbers, from ``first`` on, in a column in front."""
    numbers = pa.array(np.arange(first, first + len(rows), dtype=np.int64))
    schema = rows.schema.insert(0, pa.field(SEQUENCE_COLUMN, pa.int64()))
    return pa.RecordBatch.from_arrays([numbers, *rows.columns], schema=schema)
