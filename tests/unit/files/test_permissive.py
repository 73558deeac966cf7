"""A file that is not as it should be becomes rows, and the same rows at every reading."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import DataLossError, UserError
from app.files.permissive import open_permissively
from app.files.sequence import START, FileSequence

SCHEMA = pa.schema({"x": pa.float64(), "y": pa.int64(), "s": pa.string()})
NULLS = {"x": None, "y": None, "s": None}
COLUMNS = ("x", "y", "z")
CUTS = [1, 2, 3, 1000]


def read(files: list[Path], file_format: str, size: int = 1000, schema: pa.Schema = SCHEMA):
    """Return all rows, each batch read by a sequence of its own, without their numbers."""
    position, rows = START, []
    for _ in range(1000):
        sequence = FileSequence(
            list(map(str, files)),
            file_format,
            (),
            lambda path: open_permissively(path, file_format, COLUMNS, schema),
        )
        table, end = sequence.read(json.loads(json.dumps(position)), size)
        sequence.close()
        if end["row"] == position["row"]:
            assert end["ended"]
            return rows
        numbers = table["sequence"].to_pylist()
        assert numbers == list(range(position["row"], end["row"]))
        rows += table.drop(["sequence"]).to_pylist()
        position = end
    pytest.fail("the files have no end")


def texts(path: Path, content: bytes, size: int = 1000) -> list[str]:
    path.write_bytes(content)
    return [row["text"] for row in read([path], "csv", size)]


@pytest.fixture
def csv(tmp_path) -> Path:
    return tmp_path / "a.csv"


@pytest.fixture
def parquet(tmp_path):
    """Return a function that writes a Parquet file of these columns."""

    def write(columns, name="a.parquet", **options) -> Path:
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, tmp_path / name, **options)
        return tmp_path / name

    return write


class TestCsv:
    @pytest.mark.parametrize("size", CUTS)
    def test_cells_go_to_their_columns_by_the_header(self, csv, size):
        content = b'\xef\xbb\xbfz,"x" , y,more\r\n3,1,2,9\r\n\r\n"c, ""d""",a b,,\r\n'
        assert texts(csv, content, size) == ["1,2,3", 'a b,,"c, ""d"""']

    def test_lines_under_the_very_header_are_as_they_are(self, csv):
        assert texts(csv, b'x,y,z\n"1",2 , 3\n1,2\n"open\n') == ['"1",2 , 3', "1,2", '"open']

    def test_a_line_of_another_length_than_its_header_has_too_many_cells(self, csv):
        content = b'y,x,z,w\n1,2,3\n1,2,3,4,5\n"1,2,3,4\n'
        assert texts(csv, content) == [",,,1,2,3", ",,,1,2,3,4,5", ',,,"1,2,3,4']

    @pytest.mark.parametrize("size", CUTS)
    @pytest.mark.parametrize("header", ["1,2,3", "x,y", "x,y,x,z", "x;y;z", "", "x" * 200_000])
    def test_without_a_header_of_the_columns_every_line_is_unusable(self, csv, header, size):
        lines = [f",,,{line}" for line in (header, "1,2,3", "4") if line]
        assert texts(csv, f"{header}\n1,2,3\n4\n".encode(), size) == lines

    @pytest.mark.parametrize("content", [b"", b"x,y,z", b"z,y,x\n", b"\n \n"])
    def test_a_file_without_lines_has_no_rows(self, csv, content):
        assert texts(csv, content) == []

    def test_any_bytes_are_lines(self, csv):
        content = bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8))
        assert len(texts(csv, content)) == len(
            [line for line in content.split(b"\n") if line and not line.isspace()]
        )


class TestParquet:
    @pytest.mark.parametrize("size", CUTS)
    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 no more PAR1", b"x,y\n1,2\n"])
    def test_a_file_that_is_no_parquet_is_a_row_of_nulls(self, parquet, content, size):
        good = [{"x": 1.0, "y": 2, "s": "a"}]
        files = [parquet(pa.Table.from_pylist(good), f"{i}") for i in range(3)]
        files[1].write_bytes(content)
        assert read(files, "parquet", size) == [*good, NULLS, *good]

    def test_columns_are_taken_by_name(self, parquet):
        file = parquet({"s": ["a"], "unread": [0], "y": [2], "x": [1.0]})
        assert read([file], "parquet") == [{"x": 1.0, "y": 2, "s": "a"}]

    def test_a_missing_column_is_null(self, parquet):
        assert read([parquet({"y": [2, 3]})], "parquet") == [NULLS | {"y": 2}, NULLS | {"y": 3}]
        assert read([parquet({"other": [2, 3]})], "parquet") == [NULLS, NULLS]

    def test_a_column_that_is_there_twice_is_null(self, parquet):
        table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["y", "y"])
        assert read([parquet(table)], "parquet") == [NULLS]

    @pytest.mark.parametrize("size", CUTS)
    def test_values_of_another_type_are_converted_or_null(self, parquet, size):
        file = parquet({"x": ["1.5", "no", None], "y": [7.0, 7.5, np.nan], "s": [1, 2, 3]})
        assert read([file], "parquet", size) == [
            {"x": 1.5, "y": 7, "s": "1"},
            {"x": None, "y": None, "s": "2"},
            {"x": None, "y": None, "s": "3"},
        ]

    def test_types_without_a_conversion_are_null(self, parquet):
        file = parquet({"x": [[1.0]], "y": [{"a": 1}], "s": ["a"]})
        assert read([file], "parquet") == [NULLS | {"s": "a"}]

    @pytest.mark.parametrize(
        ("values", "wanted", "expected"),
        [
            (pa.array([1, None], pa.uint8()), pa.int16(), [1, None]),
            (pa.array(["a"]).dictionary_encode(), pa.string(), ["a"]),
            (pa.array([[1.0]], pa.list_(pa.float64(), 1)), pa.list_(pa.float32()), [[1.0]]),
            (
                pa.array([1_000_000_001], pa.timestamp("ns")),
                pa.timestamp("us"),
                [datetime(1970, 1, 1, 0, 0, 1)],
            ),
        ],
        ids=["unsigned", "dictionary", "fixed list", "nanoseconds"],
    )
    def test_types_that_spark_has_not_come_as_those_it_has(self, parquet, values, wanted, expected):
        rows = read([parquet({"v": values})], "parquet", schema=pa.schema({"v": wanted}))
        assert [row["v"] for row in rows] == expected

    @pytest.mark.parametrize("size", [50_000, 65_536, 100_000, 100_001, 131_072, 1_000_000])
    def test_the_rest_of_a_file_damaged_inside_is_a_row_of_nulls(self, parquet, size):
        n = 300_000
        columns = {"x": np.random.default_rng(0).normal(size=n), "y": range(n), "s": ["a"] * n}
        file = parquet(columns, row_group_size=100_000, compression="snappy", use_dictionary=False)
        place = pq.read_metadata(file).row_group(1).column(1).data_page_offset
        content = bytearray(file.read_bytes())
        content[place : place + 2000] = b"\xff" * 2000
        file.write_bytes(content)
        after = parquet({"y": [5]}, "b.parquet")
        rows = read([file, after], "parquet", size)
        assert [row["y"] for row in rows] == [*range(100_000), None, 5]


@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
class TestNoFile:
    def test_a_file_that_is_gone_is_a_loss(self, tmp_path, file_format):
        with pytest.raises(DataLossError, match="/a is gone and was not read to its end"):
            read([tmp_path / "a"], file_format)

    def test_a_file_that_may_not_be_opened_is_named(self, tmp_path, file_format):
        loop = tmp_path / "a"
        loop.symlink_to(loop)
        with pytest.raises(UserError, match="/a cannot be read: "):
            read([loop], file_format)

    def test_a_directory_is_named(self, tmp_path, file_format):
        with pytest.raises(UserError, match=" cannot be read: "):
            read([tmp_path], file_format)
