"""Records of delimited text, one at a time."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True)
class CsvDialect:
    """How the records of delimited text are written.

    Attributes
    ----------
    delimiter
        One character between two fields.
    escapes
        Whether a backslash within quotes takes what is special from the next character.
    decimal
        What stands before the fraction of a number, ``.`` or ``,``.
    thousands
        What stands between the thousands of a number, empty for nothing.
    """

    delimiter: str = ","
    escapes: bool = False
    decimal: str = "."
    thousands: str = ""

    def to_metadata(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> CsvDialect:
        """Return the dialect of rows from what the metadata of their schema says."""
        return cls(**json.loads(metadata.get("dialect", "{}")))


COMMAS = CsvDialect()

DELIMITERS = (",", ";", "\t", "|")
"""Those that are found in a header, the first of them that is there."""


def delimiter_of(header: str) -> str:
    """Return what stands between the names of a header.

    >>> delimiter_of("a;b"), delimiter_of("a,b;c"), delimiter_of("a")
    (';', ',', ',')
    """
    return next((delimiter for delimiter in DELIMITERS if delimiter in header), ",")


def csv_cells(record: str, dialect: CsvDialect = COMMAS) -> list[str]:
    """Return the fields of a record, none when it is not one whole record.

    What stands between the quote that closes a field and the next delimiter belongs to the field.

    Examples
    --------
    >>> csv_cells('1,"a, b"'), csv_cells('"a ""b"" c" ,5"'), csv_cells('1,"a')
    (['1', 'a, b'], ['a "b" c ', '5"'], [])
    """
    if not record or is_open_record(record.encode(), dialect):
        return []
    _, field = _patterns(dialect.delimiter, dialect.escapes)
    cells = []
    for quoted, rest in field.findall(f"{dialect.delimiter}{record}"):
        if "\n" in rest or "\r" in rest:
            return []
        inner = quoted.replace('""', '"')
        cells.append((_ESCAPED.sub(r"\1", inner) if dialect.escapes else inner) + rest)
    return cells


def is_open_record(record: bytes, dialect: CsvDialect = COMMAS) -> bool:
    """Return whether a record ends within a field whose quote is still to be closed (RFC 4180).

    A quote within a field that does not begin with one is a character like others.

    Examples
    --------
    >>> is_open_record(b'1,"a'), is_open_record(b'1,"a ""b"","c"'), is_open_record(b'5" pipe,1')
    (True, False, False)
    """
    closed, _ = _patterns(dialect.delimiter, dialect.escapes)
    return closed.fullmatch(record) is None


@functools.lru_cache
def _patterns(delimiter: str, escapes: bool) -> tuple[re.Pattern[bytes], re.Pattern[str]]:
    """Return what matches a record whose quotes are closed, and each of its fields."""
    # Possessive: each character is looked at once, however a record is broken.
    inner = r'[^"]*+(?:""[^"]*+)*+'
    if escapes:
        inner = r'[^"\\]*+(?:(?:""|\\.)[^"\\]*+)*+'
    between = re.escape(delimiter)
    rest = rf"[^{between}]*+"
    closed = rf'(?:(?:"{inner}"|(?!")){rest}(?:{between}|\Z))*+'
    field = rf'{between}(?:"({inner})")?({rest})'
    return re.compile(closed.encode(), re.DOTALL), re.compile(field, re.DOTALL)
