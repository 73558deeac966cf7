"""Records of delimited text, one at a time."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LINE_FEED = ord("\n")


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
    quote
        What a field may stand between, empty for nothing.
    """

    delimiter: str = ","
    escapes: bool = False
    decimal: str = "."
    thousands: str = ""
    quote: str = '"'

    def to_metadata(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> CsvDialect:
        """Return the dialect of rows from what the metadata of their schema says."""
        return cls(**json.loads(metadata.get("dialect", "{}")))


COMMAS = CsvDialect()

DELIMITERS = (",", ";", "\t", "|")
"""Those that are found in a file's first record, the first of them that is there."""


def delimiter_of(record: str, quote: str = '"', *, decimal: str = ".") -> str:
    """Return what stands between the fields of a record.

    Quoted fields are passed over, and a decimal comma counts only where nothing else is there.

    >>> delimiter_of("a;b"), delimiter_of("a,b;c"), delimiter_of("a"), delimiter_of('"a,b";c')
    (';', ',', ',', ';')
    >>> delimiter_of("1,5;2,5", decimal=",")
    ';'
    """
    if quote:
        record = _quoted(quote).sub("", record)
    candidates = sorted(DELIMITERS, key=decimal.__eq__)
    return next((delimiter for delimiter in candidates if delimiter in record), ",")


def csv_cells(record: str, dialect: CsvDialect = COMMAS) -> list[str]:
    """Return the fields of a record, none when it is not one whole record.

    What stands between the quote that closes a field and the next delimiter belongs to the field.

    Examples
    --------
    >>> csv_cells('1,"a, b"'), csv_cells('"a ""b"" c" ,5"'), csv_cells('1,"a')
    (['1', 'a, b'], ['a "b" c ', '5"'], [])
    """
    quote = dialect.quote
    if not record or is_open_record(record.encode(), dialect):
        return []
    if not quote:
        return [] if "\n" in record or "\r" in record else record.split(dialect.delimiter)
    _, field = _patterns(dialect.delimiter, dialect.escapes, quote)
    cells = []
    for quoted, rest in field.findall(f"{dialect.delimiter}{record}"):
        if "\n" in rest or "\r" in rest:
            return []
        inner = quoted.replace(2 * quote, quote)
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
    if not (dialect.quote and _opens_field(record, dialect)):
        return False
    closed, _ = _patterns(dialect.delimiter, dialect.escapes, dialect.quote)
    return closed.fullmatch(record) is None


def record_ends(data: bytes, dialect: CsvDialect = COMMAS) -> np.ndarray | None:
    """Return where the records end that text begins with, each after its line feed.

    What follows the last end is not a whole record. It takes a hundredth of what it takes to look
    at each record by itself, and it does without: a quote opens a field where those before it are
    even in number, if it then follows a delimiter, a line feed or the quote before it.

    Returns
    -------
    ndarray of int, or None
        None where a quote stands elsewhere, or is escaped, so that each record is to be looked at.

    Examples
    --------
    >>> record_ends(b'1,"a"\\n2,"b\\nc"\\n3,').tolist(), record_ends(b'5" pipe,"1"\\n')
    ([6, 14], None)
    """
    characters = np.frombuffer(data, np.uint8)
    ends: np.ndarray = np.flatnonzero(characters == _LINE_FEED) + 1
    quote = dialect.quote.encode()
    if not quote or quote not in data:
        return ends
    if dialect.escapes and b"\\" in data:
        return None
    quotes = np.flatnonzero(characters == ord(quote))
    before = characters[quotes[::2] - 1]
    is_lawful = before == ord(dialect.delimiter)
    is_lawful |= before == ord(quote)
    is_lawful |= before == _LINE_FEED
    # Nothing stands before the first character.
    is_lawful[0] |= quotes[0] == 0
    if is_lawful.all():
        closed: np.ndarray = ends[np.searchsorted(quotes, ends) % 2 == 0]
        return closed
    return None if _opens_field(data, dialect, b"\n") else ends


def _opens_field(data: bytes, dialect: CsvDialect, *before: bytes) -> bool:
    """Return whether a quote follows a delimiter, or what else stands before a field."""
    quote = dialect.quote.encode()
    others = (dialect.delimiter.encode(), *before)
    return data.startswith(quote) or any(each + quote in data for each in others)


@functools.lru_cache
def _patterns(
    delimiter: str, escapes: bool, quote: str
) -> tuple[re.Pattern[bytes], re.Pattern[str]]:
    """Return what matches a record whose quotes are closed, and each of its fields."""
    # Possessive: each character is looked at once, however a record is broken.
    between = re.escape(delimiter)
    rest = rf"[^{between}]*+"
    mark = re.escape(quote)
    inner = rf"[^{mark}]*+(?:{mark}{mark}[^{mark}]*+)*+"
    if escapes:
        inner = rf"[^{mark}\\]*+(?:(?:{mark}{mark}|\\.)[^{mark}\\]*+)*+"
    closed = rf"(?:(?:{mark}{inner}{mark}|(?!{mark})){rest}(?:{between}|\Z))*+"
    field = rf"{between}(?:{mark}({inner}){mark})?({rest})"
    return re.compile(closed.encode(), re.DOTALL), re.compile(field, re.DOTALL)


@functools.lru_cache
def _quoted(quote: str) -> re.Pattern[str]:
    """Return what matches a quoted field, whatever the delimiter."""
    mark, between = re.escape(quote), "".join(map(re.escape, DELIMITERS))
    return re.compile(rf"(?:^|(?<=[{between}])){mark}(?:[^{mark}]|{mark}{mark})*+{mark}")
