"""The records of a text file, read in blocks from any byte on."""

from __future__ import annotations

import io

import numpy as np

from app.files.reading.lines import CsvDialect, is_open_record, record_ends

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is cut in pieces, each a row; it protects memory from a file that is no text."""

MAX_RECORD_BYTES = 1024 * 1024
"""Of a record over several lines. A quote that is not closed by then was never to open one."""

_BLOCK_BYTES = 1 << 18

_LINES = CsvDialect(quote="")
_BREAKS = b"\r\n"
_IS_BREAK, _IS_SPACE = (np.isin(np.arange(256), [*each]) for each in (_BREAKS, b" \t\r\n\v\f"))


class Records:
    """Reads records, but for blank ones and comments.

    Each is a line, or, with a dialect, also several lines with line breaks within quotes.

    Parameters
    ----------
    file
    dialect
        None where each line is a record.
    comment
        What a line begins with that is a comment, empty for nothing.
    """

    _starts: list[int]
    _stops: list[int]
    _next: int

    def __init__(
        self, file: io.BufferedReader, dialect: CsvDialect | None = None, comment: bytes = b""
    ) -> None:
        self._file = file
        self._dialect = dialect or _LINES
        self._quote = self._dialect.quote.encode()
        self._comment = comment
        self._forget(file.tell())

    def tell(self) -> int:
        """Return the byte after the record that was taken last, and the blank lines after it."""
        has_next = self._next < len(self._starts)
        return self._begin + (self._starts[self._next] if has_next else self._end)

    def seek(self, byte: int) -> int:
        """Go to a byte, or to the end of a file that is shorter, and return where that is."""
        if byte != self.tell():
            self._forget(self._file.seek(byte))
        return self.tell()

    def take(self, n: int) -> list[bytes]:
        """Return the next ``n`` records without their line ends, fewer at the file's end."""
        taken: list[bytes] = []
        while len(taken) < n and (self._next < len(self._starts) or self._fill()):
            until = min(len(self._starts), self._next + n - len(taken))
            bounds = zip(
                self._starts[self._next : until], self._stops[self._next : until], strict=True
            )
            taken += [self._data[start:stop] for start, stop in bounds]
            self._next = until
        self._pass_blank_lines()
        return taken

    def count(self) -> int:
        """Pass over all records that are left, and return how many they were."""
        n = 0
        while self._next < len(self._starts) or self._fill():
            n += len(self._starts) - self._next
            self._next = len(self._starts)
        return n

    def ended(self) -> bool:
        """Return whether there is nothing after the record that was taken last."""
        is_last = self._next == len(self._starts) and self._end == len(self._data)
        return is_last and not self._file.peek(1)

    def _forget(self, byte: int) -> None:
        # What has been read, from the byte ``_begin`` of the file on; its records end at ``_end``.
        self._data, self._begin, self._end = b"", byte, 0
        self._starts, self._stops = [], []
        self._next = 0

    def _pass_blank_lines(self) -> None:
        while self._next == len(self._starts):
            rest = self._data[self._end :]
            # A line that is written just now is not to be taken before it is asked for.
            if rest and not rest.isspace() and not self._is_comment(rest):
                return
            if not self._fill():
                return

    def _is_comment(self, record: bytes) -> bool:
        return bool(self._comment) and record.startswith(self._comment)

    def _fill(self) -> bool:
        """Read on to the next record, and return whether there is one."""
        rest = self._data[self._end :]
        self._forget(self._begin + self._end)
        # Of a record that goes over many blocks as much again, so that it is not split many times.
        while block := self._file.read(max(_BLOCK_BYTES, len(rest))):
            rest += block
            if self._hold(rest, self._split(rest, at_end=False)):
                return True
            rest = self._data[self._end :]
            self._forget(self._begin + self._end)
        return self._hold(rest, self._split(rest, at_end=True))

    def _hold(self, data: bytes, ends: np.ndarray) -> bool:
        """Keep the records that end there, and return whether there are any."""
        self._data, self._end = data, int(ends[-1]) if len(ends) else 0
        characters = np.frombuffer(data, np.uint8)
        starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
        stops = ends.copy()
        # A line feed and a carriage return; whoever has more has few.
        for _ in range(2):
            stops -= (stops > starts) & _IS_BREAK[characters[stops - 1]]
        is_kept = stops > starts
        for i in np.flatnonzero(is_kept & _IS_BREAK[characters[stops - 1]]).tolist():
            stops[i] = starts[i] + len(data[starts[i] : stops[i]].rstrip(_BREAKS))
        begins_blank = is_kept & _IS_SPACE[characters[starts]]
        for i in np.flatnonzero(begins_blank).tolist():
            is_kept[i] = not data[starts[i] : ends[i]].isspace()
        if self._comment:
            may_be = is_kept & (characters[starts] == self._comment[0])
            for i in np.flatnonzero(may_be).tolist():
                is_kept[i] = not data.startswith(self._comment, starts[i])
        self._starts, self._stops = starts[is_kept].tolist(), stops[is_kept].tolist()
        return bool(self._starts)

    def _split(self, data: bytes, *, at_end: bool) -> np.ndarray:
        """Return where the records of data end, as far as that can be told from it."""
        # Where no line closes a quote that was opened before it.
        self._unclosed = range(0)
        found: list[np.ndarray] = []
        begin = 0
        while begin < len(data):
            ends = self._split_fast(data[begin:] if begin else data)
            if ends is None:
                found.append(self._split_slowly(data, begin, at_end))
                break
            found.append(ends + begin)
            begin = int(found[-1][-1]) if len(ends) else begin
            # Only one whose quote is never closed, or the last line, has an end to be found here.
            rest = self._split_slowly(data, begin, at_end, most=1)
            if not len(rest):
                break
            found.append(rest)
            begin = int(rest[-1])
        return np.concatenate([np.empty(0, np.int64), *found])

    def _split_fast(self, data: bytes) -> np.ndarray | None:
        """Return where records end, or None where they are to be looked at one by one."""
        if len(data) > MAX_LINE_BYTES:
            return None
        if self._comment and self._quote in data and self._may_hold_comments(data):
            # A quote in a comment opens nothing.
            return None
        ends = record_ends(data, self._dialect)
        if ends is None or not self._quote or len(data) <= MAX_RECORD_BYTES:
            return ends
        begins = np.concatenate(([0], ends[:-1]))
        for i in np.flatnonzero(ends - begins > MAX_RECORD_BYTES).tolist():
            if b"\n" in data[begins[i] : ends[i] - 1]:
                return None
        return ends

    def _may_hold_comments(self, data: bytes) -> bool:
        return data.startswith(self._comment) or b"\n" + self._comment in data

    def _split_slowly(
        self, data: bytes, begin: int, at_end: bool, most: int | None = None
    ) -> np.ndarray:
        """Return where records end, with a look at each one, and at so many at most."""
        ends: list[int] = []
        while most is None or len(ends) < most:
            end = self._record_end(data, begin, at_end)
            if end is None:
                break
            ends.append(end)
            begin = end
        return np.array(ends, np.int64)

    def _record_end(self, data: bytes, begin: int, at_end: bool) -> int | None:
        """Return where a record ends, None where that cannot be told yet."""
        first = _line_end(data, begin, at_end)
        if first is None or not self._quote:
            return first
        line = data[begin:first]
        if self._quote not in line or self._is_comment(line) or not self._is_open(line):
            return first
        return self._closed_end(data, begin, first, at_end)

    def _closed_end(self, data: bytes, begin: int, first: int, at_end: bool) -> int | None:
        """Return where a record ends whose first line does not, None where it cannot be told yet.

        A line that does not close a quote of one record does not close one of a later record.
        """
        line = self._unclosed.stop if first in self._unclosed else first
        while (mark := data.find(self._quote, line, begin + MAX_RECORD_BYTES)) >= 0:
            line = max(line, data.rfind(b"\n", line, mark) + 1)
            end = _line_end(data, line, at_end)
            if end is None or end - begin > MAX_RECORD_BYTES:
                break
            # A line that begins within quotes is open as one that begins with a quote is.
            if not self._is_open(self._quote + data[line:end]):
                return end
            line = end
            self._unclosed = range(first, end)
        return first if at_end or len(data) - begin > MAX_RECORD_BYTES else None

    def _is_open(self, line: bytes) -> bool:
        return is_open_record(line, self._dialect)


def _line_end(data: bytes, begin: int, at_end: bool) -> int | None:
    """Return where a line ends, None where that cannot be told yet."""
    end = data.find(b"\n", begin, begin + MAX_LINE_BYTES) + 1
    if end:
        return end
    length = len(data) - begin
    if length >= MAX_LINE_BYTES:
        return begin + MAX_LINE_BYTES
    return len(data) if at_end and length else None
