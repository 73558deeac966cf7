"""Lines of delimited text: CSV as RFC 4180 has it, or with another delimiter."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from app.contract import WRONG_LENGTH
from app.files.reading.lines import COMMAS, CsvDialect, csv_cells, is_open_record, record_ends
from app.files.reading.readers import TEXT_COLUMN
from app.parsing.cells import MISSING_TOKENS, is_one_of
from app.parsing.raw_batch import corrupt_json, float_matrix, to_json

_LONGER_NAN = re.compile(rb"(?i)nan\(")


class CsvBatch:
    """Rows that are records of delimited text; see :class:`app.parsing.raw_batch.RawBatch`.

    Parameters
    ----------
    rows : pa.RecordBatch
        With a column ``text`` of bytes: a record each, which may hold line breaks within quotes.
    header
        Names of a record's fields, in order.
    needed
        Columns that will be asked for; a header that lacks one, or has it twice, makes none of
        its rows a row.
    numeric
        Those of ``needed`` that are likely to hold numbers.
    missing
        Lower-case texts that stand for no value.
    dialect
    """

    malformed = WRONG_LENGTH

    def __init__(
        self,
        rows: pa.RecordBatch,
        header: Sequence[str],
        needed: Sequence[str],
        numeric: Sequence[str] = (),
        missing: Sequence[str] = MISSING_TOKENS,
        dialect: CsvDialect = COMMAS,
    ) -> None:
        self._header = list(header)
        self._lines = rows.column(TEXT_COLUMN)
        self.kept: np.ndarray | None = None
        self._columns: dict[str, pa.Array] = {}
        self._dialect = dialect
        if not self._header or any(self._header.count(name) != 1 for name in needed):
            self.kept = np.empty(0, np.int64)
            return
        # What nan is, a missing value or none, is told by the slower way.
        self._missing = [token for token in missing if token != "nan"]
        table = self._read(needed, numeric)
        if table is None and numeric:
            table = self._read(needed, ())
        if table is None:
            table = self._line_by_line(needed)
        self._columns = {name: table.column(name).combine_chunks() for name in needed}
        for name in numeric:
            self._columns[name] = with_points(self._columns[name], missing, dialect)

    def column(self, name: str) -> pa.Array | None:
        return self._columns.get(name)

    def arrays(self, name: str) -> pa.Array | None:
        return None

    def matrix(self, names: Sequence[str]) -> np.ndarray | None:
        return float_matrix(list(map(self._columns.get, names)))

    def as_json(self, place: int) -> str:
        line = self._lines[place].as_py()
        text = "" if line is None else line.decode(errors="backslashreplace")
        cells = csv_cells(text, self._dialect)
        if len(cells) != len(self._header) or (self.kept is not None and place not in self.kept):
            return corrupt_json(text)
        return to_json(dict(zip(self._header, cells, strict=True)))

    def _are_whole(self, lines: list[bytes], data: bytes) -> bool:
        """Return whether each line, of those joined by line feeds, is a record."""
        ends = record_ends(data, self._dialect)
        if ends is None:
            return not any(is_open_record(line, self._dialect) for line in lines)
        return np.array_equal(ends, np.cumsum([len(line) + 1 for line in lines]))

    def _read(self, needed: Sequence[str], numeric: Sequence[str]) -> pa.Table | None:
        """Read all lines in one pass, or return None when one of them stands in the way."""
        n = len(self._lines)
        if not _is_text(self._lines):
            return None
        lines = self._lines.to_pylist()
        data = b"\n".join(lines) + b"\n"
        if self._dialect.escapes and b"\\" in data:
            return None
        if self._dialect.thousands and numeric:
            return None
        has_quotes = bool(self._dialect.quote) and self._dialect.quote.encode() in data
        if b"\r" in data or (has_quotes and not self._are_whole(lines, data)):
            # Taken for the end of a record; or a record would end in the middle of another.
            return None
        if data.startswith(codecs.BOM_UTF8):
            # It would be passed over, and within a file it is text.
            return None
        wrong: list[int] = []

        def pass_over(row: pyarrow.csv.InvalidRow) -> str:
            wrong.append(row.number)
            return "skip"

        places = [str(i) for i in range(len(self._header))]
        place_of = {name: places[self._header.index(name)] for name in needed}
        kinds = {
            place: pa.float64() if name in numeric else pa.string()
            for name, place in place_of.items()
        }
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(data),
                pyarrow.csv.ReadOptions(
                    use_threads=False, column_names=places, block_size=max(len(data), 1)
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=self._dialect.delimiter,
                    quote_char=self._dialect.quote or False,
                    newlines_in_values=has_quotes,
                    ignore_empty_lines=False,
                    invalid_row_handler=pass_over,
                ),
                pyarrow.csv.ConvertOptions(
                    column_types=kinds,
                    # None would stand for all of them.
                    include_columns=list(place_of.values()) or places[:1],
                    null_values=self._missing if numeric else [],
                    strings_can_be_null=False,
                    decimal_point=self._dialect.decimal,
                ),
            )
        except pa.ArrowInvalid:
            return None
        if len(table) + len(wrong) != n or (wrong and _holds_breaks(self._lines)):
            # A line break outside of quotes; or a line's number is not that of the record.
            return None
        if _has_nan(table) and _LONGER_NAN.search(data):
            # Taken for a NaN, and it is none of those that are told by name.
            return None
        if wrong:
            self.kept = np.delete(np.arange(n), np.array(wrong) - 1)
        return table.select(range(len(needed))).rename_columns(list(needed))

    def _line_by_line(self, needed: Sequence[str]) -> pa.Table:
        kept: list[int] = []
        records: list[list[str]] = []
        for place, line in enumerate(self._lines.to_pylist()):
            try:
                cells = csv_cells(line.decode(), self._dialect)
            except UnicodeDecodeError:
                continue
            if len(cells) == len(self._header):
                kept.append(place)
                records.append(cells)
        self.kept = np.array(kept, np.int64)
        places = [self._header.index(name) for name in needed]
        return pa.table(
            {
                name: pa.array([cells[i] for cells in records], pa.string())
                for name, i in zip(needed, places, strict=True)
            }
        )


def with_points(written: pa.Array, missing: Sequence[str], dialect: CsvDialect) -> pa.Array:
    """Return the text of numbers as it is written with a decimal point and nothing else."""
    if not pa.types.is_string(written.type) or (dialect.decimal, dialect.thousands) == (".", ""):
        return written
    numbers = written
    if dialect.thousands:
        numbers = pc.replace_substring(numbers, dialect.thousands, "")
    if dialect.decimal != ".":
        # A point is then no part of a number.
        numbers = pc.replace_substring(numbers, ".", "\0")
        numbers = pc.replace_substring(numbers, dialect.decimal, ".")
    return pc.if_else(is_one_of(pc.utf8_trim_whitespace(written), missing), written, numbers)


def _is_text(lines: pa.Array) -> bool:
    try:
        lines.cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def _has_nan(table: pa.Table) -> bool:
    floats = (column for column in table.columns if pa.types.is_floating(column.type))
    return any(pc.any(pc.is_nan(column)).as_py() for column in floats)


def _holds_breaks(lines: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring(lines, b"\n")).as_py())
