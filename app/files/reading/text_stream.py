"""Text files as streams of UTF-8 with lines that end in a line feed, however they are stored.

Compressed files, other encodings, the line ends of old Macs and JSON arrays over many lines are
turned into such a stream while they are read. It can be read on from any byte of what it gives.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import orjson
import pyarrow as pa

from app.errors import UserError
from app.files.reading.lines import CsvDialect, delimiter_of

UTF_8 = "utf-8"


@dataclass(frozen=True)
class TextFormat:
    """How text files are written, as far as a user says it.

    Attributes
    ----------
    encoding
        One of Python's.
    delimiter
        None takes what a file's first record has: a comma, a semicolon, a tab or a bar.
    escapes, decimal, thousands
        See :class:`app.files.reading.lines.CsvDialect`.
    quote
        The same; None takes what is usual in the format.
    comment
        What a line of CSV begins with that is a comment, empty for nothing.
    has_header
        Whether the first record of a CSV holds the names of its columns.
    """

    encoding: str = UTF_8
    delimiter: str | None = None
    escapes: bool = False
    decimal: str = "."
    thousands: str = ""
    quote: str | None = None
    comment: str = ""
    has_header: bool = True

    def dialect(self, first: str) -> CsvDialect:
        """Return the dialect of a CSV with a first record."""
        quote = '"' if self.quote is None else self.quote
        # The names of a header are no numbers.
        decimal = "." if self.has_header else self.decimal
        delimiter = self.delimiter or delimiter_of(first, quote, decimal=decimal)
        return CsvDialect(delimiter, self.escapes, self.decimal, self.thousands, quote)

    def arff_dialect(self) -> CsvDialect:
        """Return the dialect of the data of an ARFF file."""
        quote = "'" if self.quote is None else self.quote
        return CsvDialect(self.delimiter or ",", True, self.decimal, self.thousands, quote)

    def to_option(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_option(cls, text: str) -> TextFormat:
        return cls(**json.loads(text))


AS_USUAL = TextFormat()

_CHUNK_BYTES = 1 << 20
_LOOK_BYTES = 1 << 16

_COMPRESSED: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(pa.PythonFile(file), "zstd"),
}
"""How a compressed file begins, and what opens it."""

_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def open_text(path: str, encoding: str = UTF_8, *, is_json: bool = False) -> io.BufferedReader:
    """Open a text file as a stream of UTF-8.

    Bytes that are no text in the encoding are handed on as they are, so that the row they stand in
    can be told.

    Parameters
    ----------
    path
    encoding
        One of Python's. A byte-order mark of UTF-16 is heeded without it.
    is_json
        Whether a file that begins with ``[`` is an array, and gives a line for each element.

    Raises
    ------
    OSError
        When it cannot be opened.
    """
    file = open(path, "rb")
    look = file.read(_LOOK_BYTES)
    if is_plain(look, encoding) and not (is_json and look.lstrip()[:1] == b"["):
        file.seek(0)
        return file
    file.close()
    return io.BufferedReader(_Stream(lambda: _chunks(path, encoding, is_json)), _CHUNK_BYTES)


def is_plain(beginning: bytes, encoding: str = UTF_8) -> bool:
    """Return whether a file that begins so is read byte by byte as it is stored."""
    if codecs.lookup(encoding).name != UTF_8:
        return False
    if any(beginning.startswith(mark) for mark in (*_COMPRESSED, *_MARKS)):
        return False
    return b"\n" in beginning or b"\r" not in beginning


def _chunks(path: str, encoding: str, is_json: bool) -> Iterator[bytes]:
    chunks = _in_utf8(_decompressed(path), encoding)
    chunks = _with_line_feeds(chunks)
    return _elements(path, chunks) if is_json else chunks


def _decompressed(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        look = file.read(8)
        file.seek(0)
        opener = next((of for mark, of in _COMPRESSED.items() if look.startswith(mark)), None)
        stream = file if opener is None else opener(file)
        try:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
        except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            raise UserError(f"{path} is damaged: {error}") from error


def _in_utf8(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    first = next(chunks, b"")
    name = next((name for mark, name in _MARKS.items() if first.startswith(mark)), encoding)
    if codecs.lookup(name).name == UTF_8:
        yield first
        yield from chunks
        return
    # What is no text becomes what is no UTF-8: a lone surrogate of its byte.
    decoder = codecs.getincrementaldecoder(name)("surrogateescape")
    for chunk in (first, *chunks):
        yield decoder.decode(chunk).encode(UTF_8, "surrogateescape")
    yield decoder.decode(b"", final=True).encode(UTF_8, "surrogateescape")


def _with_line_feeds(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Turn carriage returns into line feeds where there is no line feed."""
    first = next(chunks, b"")
    is_old = b"\r" in first and b"\n" not in first
    for chunk in (first, *chunks):
        yield chunk.replace(b"\r", b"\n") if is_old else chunk


def _elements(path: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Give a line for each element of a JSON array; lines of JSON as they are."""
    first = next(chunks, b"")
    if first.removeprefix(codecs.BOM_UTF8).lstrip()[:1] != b"[":
        yield first
        yield from chunks
        return
    text = b"".join((first, *chunks)).removeprefix(codecs.BOM_UTF8)
    try:
        elements = orjson.loads(text)
    except orjson.JSONDecodeError:
        # A line that begins so, or an array that was cut: lines are told one by one.
        yield text
        return
    for element in elements:
        yield json.dumps(element).encode() + b"\n"


class _Stream(io.RawIOBase):
    """Chunks of bytes as a file. Going back begins anew."""

    def __init__(self, begin: Callable[[], Iterator[bytes]]) -> None:
        self._begin = begin
        self._chunks = begin()
        self._rest = memoryview(b"")
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest, self._place = self._rest[n:], self._place + n
        return n

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            raise io.UnsupportedOperation("the end is not known")
        if offset < self._place:
            self._chunks, self._rest, self._place = self._begin(), memoryview(b""), 0
        buffer = memoryview(bytearray(min(_CHUNK_BYTES, max(offset - self._place, 1))))
        while self._place < offset:
            if not self.readinto(buffer[: offset - self._place]):
                break
        return self._place

    def tell(self) -> int:
        return self._place
