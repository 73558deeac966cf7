"""A file is read by its own header or schema, and what is not as it should be becomes rows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import DataLossError, UserError
from app.files.reading import records
from app.files.reading.readers import open_arrived, open_named
from app.files.reading.records import MAX_RECORD_BYTES
from app.files.sequence import START, FileSequence
from app.parsing.row_parser import raw_batch_of

COLUMNS = ("x", "y", "s")
CUTS = [1, 2, 3, 1000]
DAMAGE = "damage"


def batches_of(
    files: list[Path],
    file_format: str,
    size: int = 1000,
    columns: tuple[str, ...] = COLUMNS,
    open_file=open_arrived,
) -> list[pa.RecordBatch]:
    """Return all rows, each batch of so many read by a sequence of its own."""
    position, found = START, []
    for _ in range(1000):
        sequence = FileSequence(list(map(str, files)), file_format, columns, open_file)
        batches, end = sequence.read(json.loads(json.dumps(position)), size)
        sequence.close()
        if end["row"] == position["row"]:
            assert end["ended"]
            return found
        numbers = [number for batch in batches for number in batch["sequence"].to_pylist()]
        assert numbers == list(range(position["row"], end["row"]))
        found += batches
        position = end
    pytest.fail("the files have no end")


def read(files: list[Path], file_format: str, size: int = 1000, columns=COLUMNS) -> list:
    """Return all rows without their numbers; of a row that cannot be read, its damage."""
    rows: list = []
    for batch in batches_of(files, file_format, size, columns):
        said = batch.schema.metadata
        if b"damage" in said:
            assert len(batch) == 1
            rows.append(DAMAGE)
        else:
            assert said[b"format"] == file_format.encode()
            rows += batch.drop_columns(["sequence"]).to_pylist()
    return rows


def texts(path: Path, content: bytes, size: int = 1000) -> list[bytes]:
    path.write_bytes(content)
    return [row["text"] for row in read([path], "csv", size, columns=())]


def columns_of(files: list[Path], file_format: str, size: int) -> dict[str, list]:
    """Return the values of the columns that are needed, as each file says where they are."""
    found: dict[str, list] = {name: [] for name in COLUMNS}
    for batch in batches_of(files, file_format, size):
        raw = raw_batch_of(batch, COLUMNS)
        for name in COLUMNS:
            column = raw.column(name)
            found[name] += [] if column is None else column.to_pylist()
    return found


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


class TestHeader:
    @pytest.mark.parametrize("size", CUTS)
    def test_each_file_is_read_by_its_own(self, tmp_path, size):
        contents = [
            b"x,y,s\n1,2,a\n3,4,b\n",
            b"s,more,x,y\nc,0,5,6\n",
            b'\xef\xbb\xbf"y",s , "x\n8,d,7\n',
            b'\xef\xbb\xbfy,"s" , x\r\n8,"d,\n""e""",7\r\n',
            b"x,y,s\n9,10,f\n",
        ]
        files = [tmp_path / f"{i}.csv" for i in range(len(contents))]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        assert columns_of(files, "csv", size) == {
            "x": ["1", "3", "5", "7", "9"],
            "y": ["2", "4", "6", "8", "10"],
            "s": ["a", "b", "c", 'd,\n"e"', "f"],
        }

    @pytest.mark.parametrize("size", CUTS)
    @pytest.mark.parametrize("header", ["1,2,3", "x,y", "x,y,s,x", "x:y:s", "", "x" * 200_000])
    def test_without_the_columns_it_is_a_row_of_no_use_like_all_others(self, csv, header, size):
        csv.write_bytes(f"{header}\n1,2,3\n4\n".encode())
        assert columns_of([csv], "csv", size) == {name: [] for name in COLUMNS}
        lines = [header.encode()] if header else []
        assert [row["text"] for row in read([csv], "csv", size)] == [*lines, b"1,2,3", b"4"]

    @pytest.mark.parametrize("content", [b"", b"x,y,s", b"s,y,x\n", b"\n \n"])
    def test_alone_it_has_no_rows(self, csv, content):
        assert texts(csv, content) == []


class TestRecords:
    @pytest.mark.parametrize("size", CUTS)
    def test_a_line_break_within_quotes_ends_none(self, csv, size):
        written = [
            b'1,"a\nb\r\n\n\nc"',
            b"2,plain",
            b'"\n3\n","""\n"","',
            b'4,5" pipe',
            b'5" pipe,"a\nb"',
            b'6,"a"b\t',
            b'7,""',
            b'"8\n","\n',
        ]
        assert texts(csv, b"x,y\n" + b"\r\n".join(written[:-1]), size) == written[:-1]
        closed = [*written[:-1], b'"8\n","\n"', b"9,10"]
        assert texts(csv, b"x,y\n" + b"\n\n".join(closed) + b"\n", size) == closed

    @pytest.mark.parametrize("size", CUTS)
    @pytest.mark.parametrize("stray", [b'"1,2', b'1,"2', b'1,"2"",', b'1" pipe,"2'])
    def test_a_quote_that_is_never_closed_opens_none(self, csv, stray, size):
        lines = [b"0,0", stray, b"3,4", b'5,""', b"6,7"]
        assert texts(csv, b"x,y\n" + b"\n".join(lines) + b"\n", size) == lines

    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_a_stray_quote_takes_no_more_lines_than_a_record_may_have_bytes(
        self, csv, monkeypatch, size
    ):
        monkeypatch.setattr(records, "MAX_RECORD_BYTES", 21)
        # The break of each line counts.
        fits, too_long = [b'1,"', b"3" * 14, b'"'], [b'1,"', b"3" * 15, b'"']
        for lines, expected in (
            ([*fits, b"4,5"], [b"\n".join(fits), b"4,5"]),
            ([*too_long, b"4,5"], [*too_long, b"4,5"]),
        ):
            assert texts(csv, b"x,y\n" + b"\n".join(lines), size) == expected

    def test_a_stray_quote_in_a_large_file_leaves_the_lines_after_it_alone(self, csv):
        lines = [b"%d,2" % i for i in range(2 * MAX_RECORD_BYTES // 8)]
        lines[10] = b'"10,2'
        lines[-1] = b'"1",2'
        started = time.monotonic()
        assert texts(csv, b"x,y\n" + b"\n".join(lines) + b"\n", 1_000_000) == lines
        # To look at all lines again with each of them takes longer by far.
        assert time.monotonic() - started < 3

    @pytest.mark.parametrize("size", [7, 1000])
    @pytest.mark.parametrize("seed", range(5))
    def test_any_bytes_are_records_that_lack_no_line(self, csv, seed, size):
        rng = np.random.default_rng(seed)
        content = bytes(rng.choice(np.frombuffer(b'"""",,\r\nab\n\xff\x00 ', np.uint8), 5000))
        assert b"\n".join(texts(csv, b"x,y\n" + content, size)).split() == content.split()

    @pytest.mark.parametrize("size", CUTS)
    def test_json_has_one_a_line_whatever_its_quotes(self, tmp_path, size):
        file = tmp_path / "a.json"
        file.write_bytes(b'\xef\xbb\xbf{"x": "\n\n{"x": 1}\r\n"\n')
        assert read([file], "json", size) == [
            {"text": b'{"x": "'},
            {"text": b'{"x": 1}'},
            {"text": b'"'},
        ]


class TestParquet:
    GOOD = ({"x": 1.0, "y": 2, "s": "a"},)

    @pytest.mark.parametrize("size", CUTS)
    @pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 no more PAR1", b"x,y\n1,2\n"])
    def test_a_file_that_is_no_parquet_is_a_row(self, parquet, content, size):
        files = [parquet(pa.Table.from_pylist(self.GOOD), f"{i}") for i in range(3)]
        files[1].write_bytes(content)
        assert read(files, "parquet", size) == [*self.GOOD, DAMAGE, *self.GOOD]

    def test_its_row_says_which_file_is_damaged(self, parquet):
        file = parquet({"x": [1.0]})
        file.write_bytes(b"PAR1")
        [batch] = batches_of([file], "parquet")
        assert batch.schema.metadata[b"damage"].startswith(f"{file} is damaged: ".encode())

    def test_columns_are_taken_by_name(self, parquet):
        file = parquet({"s": ["a"], "unread": [0], "y": [2], "x": [1.0]})
        assert read([file], "parquet") == [*self.GOOD]

    def test_a_missing_column_is_left_out(self, parquet):
        assert read([parquet({"y": [2, 3]})], "parquet") == [{"y": 2}, {"y": 3}]
        assert read([parquet({"other": [2, 3]})], "parquet") == [{}, {}]

    def test_a_column_that_is_there_twice_is_left_out(self, parquet):
        arrays = [pa.array([1]), pa.array([2]), pa.array(["a"])]
        table = pa.Table.from_arrays(arrays, names=["y", "y", "s"])
        assert read([parquet(table)], "parquet") == [{"s": "a"}]

    @pytest.mark.parametrize("size", CUTS)
    def test_each_file_keeps_its_own_types(self, parquet, size):
        files = [
            parquet({"x": ["1.5", "no", None], "y": [7.0, 7.5, np.nan], "s": [1, 2, 3]}, "0"),
            parquet({"s": [[1.0]], "x": [{"a": 1}]}, "1"),
        ]
        assert repr(read(files, "parquet", size)) == repr(
            [
                {"x": "1.5", "y": 7.0, "s": 1},
                {"x": "no", "y": 7.5, "s": 2},
                {"x": None, "y": np.nan, "s": 3},
                {"x": {"a": 1}, "s": [1.0]},
            ]
        )

    @pytest.mark.parametrize("size", [50_000, 65_536, 100_000, 100_001, 131_072, 1_000_000])
    def test_the_rest_of_a_file_damaged_inside_is_a_row(self, parquet, size):
        n = 300_000
        columns = {"x": np.random.default_rng(0).normal(size=n), "y": range(n), "s": ["a"] * n}
        file = parquet(columns, row_group_size=100_000, compression="snappy", use_dictionary=False)
        place = pq.read_metadata(file).row_group(1).column(1).data_page_offset
        content = bytearray(file.read_bytes())
        content[place : place + 2000] = b"\xff" * 2000
        file.write_bytes(content)
        after = parquet({"y": [5]}, "b.parquet")
        rows = [row if row == DAMAGE else row["y"] for row in read([file, after], "parquet", size)]
        assert rows == [*range(100_000), DAMAGE, 5]


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


class TestNamed:
    """A file that a user has named is refused where one that has arrived becomes rows."""

    def refusal(self, file: Path, file_format: str) -> str:
        with pytest.raises(UserError) as caught:
            open_named(str(file), file_format, COLUMNS)
        return str(caught.value)

    @pytest.mark.parametrize("columns", [["x", "y", "s"], ["s", "more", "y", "x"]])
    def test_one_with_the_columns_is_opened(self, csv, parquet, columns):
        csv.write_text(",".join(columns) + "\n")
        files = [(csv, "csv"), (parquet({name: [1] for name in columns}), "parquet")]
        for file, file_format in files:
            rows = open_named(str(file), file_format, COLUMNS)
            assert rows.names == tuple(columns)
            rows.close()

    @pytest.mark.parametrize(
        ("columns", "problem"),
        [
            (["x", "s"], "has no column 'y'; it has x, s"),
            (["x", "y", "s", "y"], "has more than one column 'y'; it has x, y, s, y"),
        ],
    )
    def test_one_without_a_column_is_refused(self, csv, parquet, columns, problem):
        csv.write_text(",".join(columns) + "\n")
        arrays = [pa.array([1]) for _ in columns]
        written = parquet(pa.Table.from_arrays(arrays, names=columns))
        assert self.refusal(csv, "csv") == f"--input: {csv} {problem}"
        assert self.refusal(written, "parquet") == f"--input: {written} {problem}"

    @pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
    def test_one_that_is_gone_is_refused(self, tmp_path, file_format):
        gone = tmp_path / "gone"
        assert self.refusal(gone, file_format).startswith(f"--input: {gone} cannot be read: ")

    def test_one_that_is_no_parquet_is_refused(self, csv):
        csv.write_text("x,y,s\n")
        assert self.refusal(csv, "parquet").startswith(f"--input: {csv} cannot be read: ")
