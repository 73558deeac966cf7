"""Text is cut into the same records in blocks as line by line."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.files.reading import records
from app.files.reading.lines import COMMAS, CsvDialect, is_open_record, record_ends
from app.files.reading.records import Records

DIALECTS = [
    None,
    COMMAS,
    CsvDialect(";", escapes=True),
    CsvDialect("\t", quote="'"),
    CsvDialect("|", quote=""),
]
PIECES = [
    b'"', b'""', b"'", b",", b";", b"\t", b"|", b"\n", b"\r\n", b" ", b"a", b"1", b"\\", b"#",
    b"\xff",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
LONGEST_LINE, LONGEST_RECORD = 24, 16


@pytest.fixture(autouse=True, scope="module")
def small_limits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_LINE_BYTES", LONGEST_LINE)
        patch.setattr(records, "MAX_RECORD_BYTES", LONGEST_RECORD)
        yield


def line_by_line(content: bytes, dialect: CsvDialect | None, comment: bytes) -> list[bytes]:
    """Return the records of text, found in the plainest way."""
    file = io.BytesIO(content)
    found = []
    while line := file.readline(LONGEST_LINE):
        is_comment = bool(comment) and line.startswith(comment)
        if dialect and not is_comment and is_open_record(line, dialect):
            line = closed(file, line, dialect)
        if not is_comment and not line.isspace():
            found.append(line.rstrip(b"\r\n"))
    return found


def closed(file: io.BytesIO, first: bytes, dialect: CsvDialect) -> bytes:
    record, place = first, file.tell()
    while line := file.readline(LONGEST_LINE):
        record += line
        if len(record) > LONGEST_RECORD:
            break
        if not is_open_record(dialect.quote.encode() + line, dialect):
            return record
    file.seek(place)
    return first


@given(
    content=TEXTS,
    dialect=st.sampled_from(DIALECTS),
    comment=st.sampled_from([b"", b"#", b"a1"]),
    block=st.sampled_from([1, 5, 64, 1000]),
    size=st.sampled_from([1, 3, 1000]),
)
@example(b'1,5" pipe,"a\nb"\n2,"\n', COMMAS, b"", 64, 1)
@example(b'"a\n"",b"\n1,\'\n', COMMAS, b"", 5, 3)
@example(b'#,"\n1,2\n3,"\n4,5\n', COMMAS, b"#", 64, 1)
@settings(max_examples=600, deadline=None, derandomize=True)
def test_records_are_those_of_lines_wherever_reading_begins(content, dialect, comment, block, size):
    expected = line_by_line(content, dialect, comment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_BLOCK_BYTES", block)
        file = io.BufferedReader(io.BytesIO(content))
        reader = Records(file, dialect, comment)
        found: list[bytes] = []
        places = [(0, 0)]
        while taken := reader.take(size):
            found += taken
            places.append((reader.tell(), len(found)))
        assert found == expected
        assert reader.ended()
        for byte, n_before in reversed(places):
            assert reader.seek(byte) == byte
            assert reader.take(size) == expected[n_before : n_before + size]
        reader.seek(0)
        assert reader.count() == len(expected)


@given(content=TEXTS, dialect=st.sampled_from(DIALECTS[1:]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_where_records_end_is_told_of_many_as_of_each(content, dialect):
    ends = record_ends(content, dialect)
    if ends is None:
        return
    begin = 0
    for end in ends.tolist():
        assert content[end - 1 : end] == b"\n"
        assert not is_open_record(content[begin:end], dialect)
        begin = end
    rest = content[begin:]
    assert b"\n" not in rest or is_open_record(rest, dialect)


def test_most_quoted_text_is_not_looked_at_record_by_record():
    for text in (b'"a","b"\n', b'1,"a ""b"", c"\n', b'"a\nb",""\n', b'5" pipe,6"\n'):
        assert record_ends(text * 100) is not None


def test_a_line_that_is_being_written_is_taken_when_it_is_asked_for(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"1\n2")
    with open(path, "rb") as file:
        reader = Records(file)
        assert reader.take(1) == [b"1"]
        assert not reader.ended()
        with open(path, "ab") as more:
            more.write(b"34\n5\n")
        assert reader.take(5) == [b"234", b"5"]
        assert reader.ended()


def test_many_quotes_that_are_never_closed_are_each_looked_at_a_few_times(monkeypatch):
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 1 << 20)
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 1 << 24)
    looks = 0

    def looked_at(line: bytes, dialect: CsvDialect) -> bool:
        nonlocal looks
        looks += 1
        return is_open_record(line, dialect)

    monkeypatch.setattr(records, "is_open_record", looked_at)
    lines = [b'"%d "inch,"2' % i for i in range(2000)]
    file = io.BufferedReader(io.BytesIO(b"\n".join(lines) + b"\n"))
    assert Records(file, COMMAS).take(len(lines) + 1) == lines
    assert looks < 5 * len(lines)
