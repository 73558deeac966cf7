"""Records of delimited text, one at a time."""

from __future__ import annotations

import csv


def csv_cells(record: str) -> list[str]:
    """Return the fields of a record, none when it is not one whole record.

    Examples
    --------
    >>> csv_cells('1,"a, b"'), csv_cells('1,"a')
    (['1', 'a, b'], [])
    """
    try:
        records = list(csv.reader([record], strict=True))
    except csv.Error:
        return []
    return records[0] if len(records) == 1 else []


def is_open_record(record: bytes) -> bool:
    """Return whether a record ends within a field whose quote is still to be closed (RFC 4180).

    A quote within a field that does not begin with one is a character like others.

    Examples
    --------
    >>> is_open_record(b'1,"a'), is_open_record(b'1,"a ""b"","c"'), is_open_record(b'5" pipe,1')
    (True, False, False)
    """
    place = 0
    while True:
        if record[place : place + 1] == b'"':
            place += 1
            while True:
                quote = record.find(b'"', place)
                if quote < 0:
                    return True
                place = quote + 1
                if record[place : place + 1] != b'"':
                    break
                place += 1
        place = record.find(b",", place) + 1
        if not place:
            return False
