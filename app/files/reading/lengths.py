"""Files that have become shorter than what was read of them."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DataLossError, UserError
from app.files.reading.text_stream import UTF_8, is_plain

_PARQUET = b"PAR1"


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
            refuse_cut(path, read, pq.read_metadata(path).num_rows, "rows")
        elif is_plain(beginning, encoding) and beginning.lstrip()[:1] != b"[":
            refuse_cut(path, read, os.path.getsize(path), "bytes")
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def refuse_cut(path: str, read: int, length: int, units: str) -> None:
    """Raise DataLossError when more of a file was read than it has now."""
    if read > length:
        raise DataLossError(
            f"{path} has {length:,} {units}, and {read:,} were read: it was cut or replaced. Put "
            "back the file that was read, or remove it if all of it was; new rows go into a new "
            "file"
        )
