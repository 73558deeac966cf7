"""Text files of each format are read by what they begin with, from any cut on."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from app.errors import UserError
from app.files.reading import svmlight
from app.files.reading.readers import TextRecords, open_arrived
from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.files.sequence import START, FileSequence
from app.parsing.row_parser import raw_batch_of

CUTS = [1, 2, 1000]
HEADLESS = TextFormat(has_header=False)


@pytest.fixture
def write(tmp_path):
    def write_file(content: str | bytes, name: str = "a") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def header_of(path: Path, text: TextFormat = AS_USUAL, file_format: str = "csv") -> tuple:
    records = TextRecords(str(path), file_format, text)
    records.close()
    return records.names


def rows_of(
    path: Path,
    columns: tuple[str, ...],
    text: TextFormat = AS_USUAL,
    file_format: str = "csv",
    size: int = 1000,
) -> list[tuple]:
    """Return the cells of all rows, each batch read by a sequence of its own."""
    position, rows = START, []
    for _ in range(100):
        sequence = FileSequence([str(path)], file_format, columns, text=text)
        batches, end = sequence.read(json.loads(json.dumps(position)), size)
        sequence.close()
        if end["row"] == position["row"]:
            assert end["ended"]
            return rows
        for batch in batches:
            raw = raw_batch_of(batch, columns)
            rows += zip(*(raw.column(name).to_pylist() for name in columns), strict=True)
        position = end
    pytest.fail("the file has no end")


class TestWithoutAHeader:
    @pytest.mark.parametrize("size", CUTS)
    def test_columns_are_numbered_and_the_first_line_is_a_row(self, write, size):
        path = write("\n5.1,3.5,setosa\n4.9,3.0,setosa\n")
        assert header_of(path, HEADLESS) == ("c0", "c1", "c2")
        expected = [("setosa", "5.1"), ("setosa", "4.9")]
        assert rows_of(path, ("c2", "c0"), HEADLESS, size=size) == expected

    @pytest.mark.parametrize(
        ("first", "text", "n"),
        [
            ("1;2,5;a", HEADLESS, 2),
            ("1;2,5;a", TextFormat(has_header=False, decimal=","), 3),
            ("1,5,a", TextFormat(has_header=False, decimal=","), 3),
            ('"1,5"|2', HEADLESS, 2),
            ('"1\n,5"\t2', HEADLESS, 2),
            ("1 2", HEADLESS, 1),
            ("1,2;3", TextFormat(has_header=False, delimiter=";"), 2),
        ],
    )
    def test_the_delimiter_is_found_in_the_first_row(self, write, first, text, n):
        assert len(header_of(write(f"{first}\n"), text)) == n

    def test_each_file_has_as_many_columns_as_its_first_row(self, write):
        assert header_of(write("\ufeff1,2\n"), HEADLESS) == ("c0", "c1")
        assert header_of(write(""), HEADLESS) == ()


class TestHeader:
    @pytest.mark.parametrize(
        ("content", "names"),
        [
            ('"a,b";c\n', ("a,b", "c")),
            ('"a;b",c\n', ("a;b", "c")),
            ('"a,b";"c,d";e\n', ("a,b", "c,d", "e")),
            ('x;"a\nb";c\n', ("x", "a\nb", "c")),
            ('a"b;c"d\n', ('a"b', 'c"d')),
            ('a;"b,c\n', ('a;"b', "c")),
            ("\tx\ty\n", ("", "x", "y")),
            ("\n \nx,y\n", ("x", "y")),
        ],
    )
    def test_its_delimiter_is_found_outside_of_quotes(self, write, content, names):
        assert header_of(write(content)) == names


class TestQuotes:
    @pytest.mark.parametrize("size", CUTS)
    def test_another_quote(self, write, size):
        path = write("'a;b','c'\n'1,''5','\n2'\n\"3,4\"\n")
        text = TextFormat(quote="'")
        assert header_of(path, text) == ("a;b", "c")
        expected = [("1,'5", "\n2"), ('"3', '4"')]
        assert rows_of(path, ("a;b", "c"), text, size=size) == expected

    @pytest.mark.parametrize("size", CUTS)
    def test_none_at_all(self, write, size):
        path = write('x,"y\n"1,2"\n"3,4\n')
        text = TextFormat(quote="")
        assert rows_of(path, ("x", '"y'), text, size=size) == [('"1', '2"'), ('"3', "4")]


class TestComments:
    @pytest.mark.parametrize("size", CUTS)
    def test_lines_that_begin_so_are_passed_over(self, write, size):
        path = write('# it is "so\n\n#\nx,y\n# more, "\n1,"#2\n# not this"\n #3,4\n#end')
        text = TextFormat(comment="#")
        assert header_of(path, text) == ("x", "y")
        expected = [("1", "#2\n# not this"), (" #3", "4")]
        assert rows_of(path, ("x", "y"), text, size=size) == expected

    def test_a_prefix_may_be_long(self, write):
        path = write("--c\nx,y\n-1,2\n--\n")
        assert rows_of(path, ("x",), TextFormat(comment="--")) == [("-1",)]


class TestArff:
    IRIS = """% A title, 'with a quote
@RELATION iris

@attribute 'sepal length' REAL
@Attribute "petal \\"width\\"" numeric
@attribute kind{a, 'b c',"d"}
@attribute\tday date "yyyy-MM-dd"

@DATA
% a comment
5.1,3.5,a,2024-01-01
?, 3.0, 'b c', 2024-01-02

4.9,3.1,'it\\'s, so',?
"""
    NAMES = ("sepal length", 'petal "width"', "kind", "day")
    ROWS = [
        ("5.1", "3.5", "a", "2024-01-01"),
        ("?", " 3.0", "b c", " 2024-01-02"),
        ("4.9", "3.1", "it's, so", "?"),
    ]

    @pytest.mark.parametrize("size", CUTS)
    @pytest.mark.parametrize("encode", [str.encode, lambda text: gzip.compress(text.encode())])
    def test_attributes_are_columns_and_data_are_rows(self, write, size, encode):
        path = write(encode(self.IRIS))
        assert header_of(path, file_format="arff") == self.NAMES
        assert rows_of(path, self.NAMES, file_format="arff", size=size) == self.ROWS

    def test_double_quotes_may_be_asked_for(self, write):
        path = write('@attribute x real\n@attribute y {"a, b"}\n@data\n1,"a, b"\n')
        text = TextFormat(quote='"')
        assert rows_of(path, ("x", "y"), text, file_format="arff") == [("1", "a, b")]

    def test_a_quote_that_is_not_closed_ends_with_its_line(self, write):
        path = write("@attribute x real\n@attribute y {a}\n@data\n1,'a\n2,a\n")
        assert rows_of(path, ("x", "y"), file_format="arff") == [("2", "a")]

    def test_what_arrives_and_is_none_is_rows_of_no_use(self, write):
        for content, lines in (
            ("x,y\n1,2\n", [b"x,y", b"1,2"]),
            ("% no x\n@attribute z real\n@data\n1\n", [b"1"]),
        ):
            sequence = FileSequence([str(write(content))], "arff", ("x",), open_arrived)
            [batch], _ = sequence.read(START, 10)
            assert batch["text"].to_pylist() == lines
            assert len(raw_batch_of(batch, ("x",)).kept) == 0

    @pytest.mark.parametrize("content", ["", "x,y\n1,2\n", "@relation r\n@attribute x real\n1\n"])
    def test_without_data_there_are_no_columns(self, write, content):
        assert header_of(write(content), file_format="arff") == ()


class TestLibsvm:
    LINES = "# a file\n+1 1:0.5 3:-2e1 # 7:1\n-1\t2:1  3:1,5\n\n0 qid:4 003:7 9:1\n1:1\n"

    @pytest.mark.parametrize("size", CUTS)
    def test_features_that_a_line_does_not_name_are_zero(self, write, size):
        columns = ("f3", "label", "f1")
        expected = [("-2e1", "1", "0.5"), ("1,5", "-1", "0"), ("7", "0", "0"), ("0", "", "1")]
        found = rows_of(write(self.LINES), columns, file_format="libsvm", size=size)
        assert found == expected

    @pytest.mark.parametrize("line", ["1 2", "1 a:1", "1 1:", "1 :1", "1 1:1 x", "1 -1:2"])
    def test_a_line_that_is_none_is_no_row(self, write, line):
        path = write(f"1 1:1\n{line}\n-1 1:2\n")
        expected = [("1", "1"), ("-1", "2")]
        assert rows_of(path, ("label", "f1"), file_format="libsvm") == expected

    def test_columns_reach_to_the_largest_index(self, write, monkeypatch):
        monkeypatch.setattr(svmlight, "_BLOCK_BYTES", 5)
        files = [str(write(self.LINES)), str(write("1 12:0 # 40:1", "b"))]
        expected = ("label", *(f"f{i}" for i in range(1, 13)))
        assert svmlight.columns_of(files, AS_USUAL) == expected
        assert svmlight.columns_of([str(write("1 0:1 2:1"))], AS_USUAL)[:2] == ("label", "f0")

    @pytest.mark.parametrize(
        ("content", "problem"), [("x,y\n1,2\n", "no features"), ("1 999999999:1", "largest index")]
    )
    def test_a_file_without_usable_features_is_refused(self, write, content, problem):
        with pytest.raises(UserError, match=problem):
            svmlight.columns_of([str(write(content))], AS_USUAL)


class TestPartitions:
    @pytest.mark.parametrize("size", CUTS)
    def test_directories_are_columns_of_each_row(self, write, size):
        path = write("x,y\n1,2\n3,4\n", "day=2024-01-01/region=e%20u/a.csv")
        columns = ("region", "x", "day")
        expected = [("e u", "1", "2024-01-01"), ("e u", "3", "2024-01-01")]
        assert rows_of(path, columns, size=size) == expected
        assert rows_of(path, ("day",)) == [("2024-01-01",)] * 2

    def test_a_column_of_the_file_wins(self, write):
        path = write("x,day\n1,2\n", "day=5/a.csv")
        assert rows_of(path, ("day", "x")) == [("2", "1")]

    def test_of_json_the_name_in_each_object_wins(self, write):
        path = write('{"x": 1, "day": null}\n{"x": 2}\n{"day": 3}\n', "day=5/a.json")
        assert rows_of(path, ("day",), file_format="json") == [(None,), ("5",), ("3",)]

    def test_a_bad_row_is_shown_with_them_where_it_is_a_row(self, write):
        path = write("x,y\n1,2\n3\n", "day=5/a.csv")
        [batch], _ = FileSequence([str(path)], "csv", ("x", "day")).read(START, 10)
        raw = raw_batch_of(batch, ("x", "day"))
        assert json.loads(raw.as_json(0)) == {"x": "1", "y": "2", "day": "5"}
        assert json.loads(raw.as_json(1)) == {"_corrupt_line": "3"}
        path = write('{"x": 1}\n{"day": 2}\n', "day=5/a.json")
        [batch], _ = FileSequence([str(path)], "json", ("x", "day")).read(START, 10)
        raw = raw_batch_of(batch, ("x", "day"))
        assert [raw.as_json(i) for i in range(2)] == ['{"x": 1, "day": "5"}', '{"day": 2}']


class TestDelimiterLine:
    """Excel begins a CSV with a line that names the delimiter."""

    @pytest.mark.parametrize("size", CUTS)
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("line", ["sep=;", "SEP=;", "\ufeffsep=;"])
    def test_it_is_heeded_and_no_row(self, write, line, end, size):
        path = write(end.join([line, "a;b", "1,5;x", "2;y", ""]))
        assert header_of(path) == ("a", "b")
        assert rows_of(path, ("a", "b"), size=size) == [("1,5", "x"), ("2", "y")]

    def test_a_delimiter_that_is_given_counts(self, write):
        path = write("sep=;\na|b\n1|2\n")
        assert header_of(path, TextFormat(delimiter="|")) == ("a", "b")

    def test_a_column_of_such_a_name_is_none(self, write):
        assert header_of(write("sep=a\n1\n")) == ("sep=a",)
