"""How text files begin, by their format, and what that says of their records."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.files.reading import svmlight
from app.files.reading.lines import COMMAS, CsvDialect, csv_cells
from app.files.reading.records import Records
from app.files.reading.text_stream import TextFormat

CSV, JSON, ARFF, LIBSVM = "csv", "json", "arff", "libsvm"
TEXT_FORMATS = (CSV, JSON, ARFF, LIBSVM)

# Excel writes it, and reads it.
_DELIMITER_LINE = re.compile(r"sep=([^\w\s]|\t)", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"""@attribute\s+(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s{]+))""", re.IGNORECASE
)
_ESCAPED = re.compile(r"\\(.)")
_SPACE_BEFORE_QUOTE = re.compile(rb"('(?:[^'\\]|\\.)*+')|,[ \t]+(?=')")


@dataclass(frozen=True)
class Beginning:
    """What is known of a text file before its first record.

    Attributes
    ----------
    byte
        Where the records begin.
    names
        Of a record's fields; None where rows name their values.
    dialect
        How fields are told apart.
    spans_lines
        Whether a record may have line breaks within quotes.
    comment
        What a line begins with that is a comment, empty for nothing.
    rewrite
        Makes delimited text of a record that is none; None where there is nothing to do.
    """

    byte: int
    names: tuple[str, ...] | None = None
    dialect: CsvDialect = COMMAS
    spans_lines: bool = False
    comment: bytes = b""
    rewrite: Callable[[bytes], bytes] | None = None

    def records(self, file: io.BufferedReader) -> Records:
        """Return a reader of the file's records."""
        return Records(file, self.dialect if self.spans_lines else None, self.comment)


def beginning_of(
    file: io.BufferedReader, file_format: str, text: TextFormat, columns: Sequence[str]
) -> Beginning:
    """Return how a text file begins.

    Parameters
    ----------
    file
        At its first byte, after a byte-order mark.
    file_format : {"csv", "json", "arff", "libsvm"}
    text
    columns
        Those to read of a file that names none.
    """
    if file_format == CSV:
        return _of_csv(file, text)
    if file_format == ARFF:
        return _of_arff(file, text)
    if file_format == LIBSVM:
        return _of_libsvm(file, text, columns)
    return Beginning(file.tell())


def _of_csv(file: io.BufferedReader, text: TextFormat) -> Beginning:
    begin = file.tell()
    comment = text.comment.encode()
    line, after = _first(Records(file, None, comment), begin)
    if declared := _DELIMITER_LINE.fullmatch(line.rstrip("\r\n")):
        begin, text = after, replace(text, delimiter=text.delimiter or declared[1])
        line, _ = _first(Records(file, None, comment), begin)
    # What separates fields says what a quote is, and so where a record of several lines ends.
    dialect = text.dialect(line)
    first, after = _first(Records(file, dialect, comment), begin)
    dialect = text.dialect(first)
    cells = csv_cells(first.strip(" \r\n"), dialect)
    if not text.has_header:
        names = tuple(f"c{i}" for i in range(len(cells)))
        return Beginning(begin, names, dialect, True, comment)
    return Beginning(after, tuple(name.strip() for name in cells), dialect, True, comment)


def _first(records: Records, begin: int) -> tuple[str, int]:
    """Return the first record, empty where there is none, and the byte after it."""
    records.seek(begin)
    return next((record.decode(errors="replace") for record in records.take(1)), ""), records.tell()


def _of_arff(file: io.BufferedReader, text: TextFormat) -> Beginning:
    """Read what stands before ``@data``; without that line there are no names."""
    names: list[str] = []
    while line := file.readline():
        said = line.decode(errors="replace").strip()
        if said.lower() == "@data":
            return Beginning(
                file.tell(), tuple(names), text.arff_dialect(), comment=b"%", rewrite=_closed_up
            )
        if found := _ATTRIBUTE.match(said):
            quoted, double_quoted, plain = found.groups()
            name = quoted if quoted is not None else double_quoted
            names.append(plain if name is None else _ESCAPED.sub(r"\1", name))
    return Beginning(file.tell(), ())


def _closed_up(record: bytes) -> bytes:
    """Return a record without the space between a comma and a quote."""
    if b"'" not in record:
        return record
    return _SPACE_BEFORE_QUOTE.sub(lambda found: found[1] or b",", record)


def _of_libsvm(file: io.BufferedReader, text: TextFormat, columns: Sequence[str]) -> Beginning:
    names = svmlight.names_among(columns)
    return Beginning(
        file.tell(),
        names,
        CsvDialect(svmlight.DELIMITER, False, text.decimal, text.thousands, quote=""),
        comment=svmlight.COMMENT,
        rewrite=svmlight.Rewriter(names),
    )
