"""Files are one numbered sequence of rows, whatever the cuts and whatever the bytes."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import DataLossError, UserError
from app.files.reading import records
from app.files.sequence import START, FileSequence, check_read

CUTS = [1, 2, 3, 7, 1000]
CONTENT = {
    "csv": [
        b"x,y\n1,0\r\n\n  \r\n2,1\n3,0",
        b"x,y\n",
        b"",
        b'y,x\n"0\n\r\n ""4",""\n5,0\n\n6,"1\r\n"\r\n7" pipe,"0,\n"\n8,1\n\n',
    ],
    "json": [
        b'{"x":1}\n\n{"x":2}\r\n{"x":3}',
        b"",
        b'\n{"x":4}\n{"x":5}\n \n{"x":6}',
        b'{"x":7}\n',
    ],
}
PARQUET_ROWS = [[1, 2, 3, 4, 5, 6, 7, 8], [], [9], list(range(10, 25))]
N_ROWS = {"csv": 8, "json": 7, "parquet": 24}


@pytest.fixture(params=["csv", "json", "parquet"])
def dataset(request, tmp_path):
    """Return the files and the format: several files, one of them empty, some cut in groups."""
    if request.param == "parquet":
        return write_parquet(tmp_path, PARQUET_ROWS, row_group_size=5), "parquet"
    return write_text(tmp_path, CONTENT[request.param]), request.param


def write_text(directory: Path, contents: list[bytes]) -> list[str]:
    paths = [directory / f"{i}.txt" for i in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return [str(path) for path in paths]


def write_parquet(directory: Path, files: list[list[int]], row_group_size: int) -> list[str]:
    paths = [str(directory / f"{i}.parquet") for i in range(len(files))]
    for path, rows in zip(paths, files, strict=True):
        table = pa.table({"x": pa.array(rows, pa.int64()), "unread": pa.array(rows, pa.int64())})
        pq.write_table(table, path, row_group_size=row_group_size)
    return paths


def rows_of(batches: list[pa.RecordBatch]) -> list[dict]:
    return [row for batch in batches for row in batch.to_pylist()]


def fresh(files, file_format):
    return FileSequence(files, file_format, ("x",))


def cut(files, file_format, size):
    """Yield (start, rows), each read by a sequence of its own from a position kept as JSON."""
    position = START
    for _ in range(100):
        sequence = fresh(files, file_format)
        batches, end = sequence.read(json.loads(json.dumps(position)), size)
        sequence.close()
        if end["row"] == position["row"]:
            return
        yield position, rows_of(batches)
        position = end
    pytest.fail("the files have no end")


def read_all(files, file_format, size=1000):
    return [row for _, rows in cut(files, file_format, size) for row in rows]


def texts(files, file_format, size=1000):
    return [row["text"].decode() for row in read_all(files, file_format, size)]


def test_rows_are_numbered_from_0_across_files(dataset):
    numbers = [row["sequence"] for row in read_all(*dataset)]
    assert numbers == list(range(N_ROWS[dataset[1]]))


def test_rows_come_in_file_order(tmp_path):
    assert texts(write_text(tmp_path, CONTENT["csv"]), "csv") == [
        "1,0",
        "2,1",
        "3,0",
        '"0\n\r\n ""4",""',
        "5,0",
        '6,"1\r\n"',
        '7" pipe,"0,\n"',
        "8,1",
    ]
    rows = read_all(write_parquet(tmp_path, PARQUET_ROWS, row_group_size=5), "parquet")
    assert [row["x"] for row in rows] == list(range(1, 25))


@pytest.mark.parametrize("size", CUTS)
def test_every_cut_gives_the_same_rows(dataset, size):
    assert read_all(*dataset, size) == read_all(*dataset)


@pytest.mark.parametrize("size", CUTS)
def test_every_batch_but_the_last_is_full(dataset, size):
    lengths = [len(rows) for _, rows in cut(*dataset, size)]
    assert set(lengths[:-1]) <= {size}
    assert sum(lengths) == N_ROWS[dataset[1]]


@pytest.mark.parametrize("size", CUTS)
def test_one_sequence_gives_earlier_positions_again_in_any_order(dataset, size):
    batches = list(cut(*dataset, size))
    sequence = fresh(*dataset)
    for start, rows in [*batches, *reversed(batches), *islice(batches, 0, None, 2)]:
        assert rows_of(sequence.read(start, len(rows))[0]) == rows


def test_the_end_gives_no_rows_and_stays_the_end(dataset):
    sequence = fresh(*dataset)
    _, end = sequence.read(START, 1000)
    assert sequence.read(end, 5) == ([], end)


def test_a_file_added_later_is_read_on_from_the_old_end(dataset, tmp_path):
    files, file_format = dataset
    _, end = fresh(files[:-1], file_format).read(START, 1000)
    added = rows_of(fresh(files, file_format).read(end, 1000)[0])
    assert added == read_all(files, file_format)[end["row"] :]
    assert added


def test_blank_lines_and_line_ends_are_no_rows(tmp_path):
    files = write_text(tmp_path, [b"x\r\n\r\n1\r\n \t \r\n\n2\n"])
    assert texts(files, "csv") == ["1", "2"]


def test_the_last_line_needs_no_newline(tmp_path):
    assert texts(write_text(tmp_path, [b"x\n1\n2"]), "csv") == ["1", "2"]


def test_each_csv_gives_up_its_own_header_and_json_has_none(tmp_path):
    files = write_text(tmp_path, [b"x\n1\n", b"x\n2\n"])
    assert texts(files, "csv") == ["1", "2"]
    assert texts(files, "json") == ["x", "1", "x", "2"]


@pytest.mark.parametrize("size", CUTS)
def test_every_row_comes_with_the_header_of_its_own_file(tmp_path, size):
    files = write_text(tmp_path, [b"x,y\n1,2\n3,4\n", b"y,z,x\n5,6,7\n", b"x,y\n8,9\n"])
    position, found = START, []
    while position["row"] < 4:
        batches, position = fresh(files, "csv").read(position, size)
        for batch in batches:
            assert batch.schema.metadata[b"format"] == b"csv"
            header = tuple(json.loads(batch.schema.metadata[b"header"]))
            found += [(header, text) for text in batch["text"].to_pylist()]
    assert found == [
        (("x", "y"), b"1,2"),
        (("x", "y"), b"3,4"),
        (("y", "z", "x"), b"5,6,7"),
        (("x", "y"), b"8,9"),
    ]


def test_bytes_that_are_no_utf8_are_as_they_are(tmp_path):
    files = write_text(tmp_path, [b"x\na\xffb\n\xc3\xa9\n"])
    assert [row["text"] for row in read_all(files, "csv")] == [b"a\xffb", b"\xc3\xa9"]


@pytest.mark.parametrize("contents", [[b"x\n"], [b"x"], [b""], [b"x\n", b"x\n"]])
def test_a_header_without_rows_gives_none(tmp_path, contents):
    batches, end = fresh(write_text(tmp_path, contents), "csv").read(START, 10)
    assert (batches, end["row"]) == ([], 0)


def test_an_empty_file_between_others_is_passed_over(tmp_path):
    files = write_text(tmp_path, [b"x\n1\n", b"", b"x\n2\n"])
    assert texts(files, "csv") == ["1", "2"]


def test_a_line_above_the_limit_is_cut_into_rows_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 4)
    files = write_text(tmp_path, [b"x\nabcdefghij\n1\n"])
    for size in CUTS:
        assert texts(files, "csv", size) == ["abcd", "efgh", "ij", "1"]


def test_only_the_named_columns_of_parquet_are_read(tmp_path):
    files = write_parquet(tmp_path, [[1, 2]], row_group_size=1)
    assert read_all(files, "parquet") == [{"sequence": 0, "x": 1}, {"sequence": 1, "x": 2}]


def test_a_position_inside_a_row_group_of_many_arrow_batches(tmp_path):
    n = 150_000
    files = write_parquet(tmp_path, [list(range(n))], row_group_size=n)
    for row in (65_535, 65_536, 100_001, n - 1):
        batches, end = fresh(files, "parquet").read(START | {"unit": row, "row": row}, 3)
        assert [row["x"] for row in rows_of(batches)] == list(range(n))[row : row + 3]
        assert end["unit"] == end["row"] == min(n, row + 3)


def test_a_file_removed_before_its_turn_is_named(dataset):
    files, file_format = dataset
    sequence = fresh(files, file_format)
    _, position = sequence.read(START, 1)
    Path(files[-1]).unlink()
    with pytest.raises(UserError, match="--input: .*" + Path(files[-1]).name):
        sequence.read(position, 1000)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_file_that_was_read_to_its_end_may_be_gone(dataset, size):
    files, file_format = dataset
    whole = read_all(files, file_format)
    position, rows = START, []
    while True:
        batches, end = fresh(files, file_format).read(position, size)
        if end["row"] == position["row"]:
            break
        rows += rows_of(batches)
        position = end
        for file in files[: position["file"] + position["ended"]]:
            Path(file).unlink(missing_ok=True)
    assert rows == whole
    assert not any(Path(file).exists() for file in files)


def test_a_file_that_was_read_in_part_is_missed(dataset):
    files, file_format = dataset
    _, position = fresh(files, file_format).read(START, 2)
    Path(files[0]).unlink()
    with pytest.raises(UserError, match="--input: .*" + Path(files[0]).name):
        fresh(files, file_format).read(position, 1)


def test_rows_appended_to_a_file_are_read(tmp_path):
    files = write_text(tmp_path, [b"x\n1\n2\n\n"])
    _, position = fresh(files, "csv").read(START, 2)
    assert position["ended"]
    Path(files[0]).write_bytes(b"x\n1\n2\n\n3\n")
    [batch], _ = fresh(files, "csv").read(position, 2)
    assert batch["text"].to_pylist() == [b"3"]


@pytest.mark.parametrize("is_open", [True, False])
def test_a_text_file_that_became_shorter_than_what_was_read_is_named(tmp_path, is_open):
    """Rows written to it from there on would have been skipped."""
    files = write_text(tmp_path, [b"x\n1\n2\n"])
    sequence = fresh(files, "csv")
    _, position = sequence.read(START, 2)
    Path(files[0]).write_bytes(b"x\n1\n")
    with pytest.raises(DataLossError, match=r"0\.txt has 4 bytes, and 6 were read: it was cut"):
        (sequence if is_open else fresh(files, "csv")).read(position, 2)


def test_a_parquet_file_that_became_shorter_than_what_was_read_is_named(tmp_path):
    files = write_parquet(tmp_path, [[1, 2, 3]], row_group_size=1)
    _, position = fresh(files, "parquet").read(START, 2)
    write_parquet(tmp_path, [[1]], row_group_size=1)
    with pytest.raises(DataLossError, match=r"0\.parquet has 1 rows, and 2 were read"):
        fresh(files, "parquet").read(position, 2)


@pytest.mark.parametrize("size", [1, 3])
def test_a_file_that_was_cut_is_found_before_it_is_read_on(dataset, size):
    files, file_format = dataset
    _, position = fresh(files, file_format).read(START, size)
    check_read(position, files, named="the list")
    path = Path(files[position["file"]])
    whole = path.read_bytes()
    if file_format == "parquet":
        pq.write_table(pa.table({"x": pa.array([], pa.int64())}), path)
    else:
        path.write_bytes(whole[: position["unit"] - 1])
    if position["unit"] > 1:
        with pytest.raises(DataLossError, match=f"{path} has .* were read"):
            check_read(position, files, named="the list")
    path.unlink()
    check_read(position, files, named="the list")


@pytest.mark.parametrize("content", [b"PAR1 no more", b""])
def test_a_damaged_parquet_file_is_named(tmp_path, content):
    files = write_parquet(tmp_path, [[1], [2]], row_group_size=1)
    Path(files[1]).write_bytes(content)
    with pytest.raises(UserError, match=r"--input: .*1\.parquet cannot be read"):
        fresh(files, "parquet").read(START, 1000)


def test_a_parquet_file_that_has_lost_a_column_is_named(tmp_path):
    files = write_parquet(tmp_path, [[1], [2]], row_group_size=1)
    pq.write_table(pa.table({"other": [2]}), files[1])
    with pytest.raises(UserError, match=r"--input: .*1\.parquet has no column 'x'; it has other"):
        fresh(files, "parquet").read(START, 1000)


class TestListOfFiles:
    """A position belongs to the list of files that it was made with."""

    ROWS = [b"1,0\n", b"2,0\n3,1\n", b"4,0\n"]

    @pytest.fixture
    def files(self, tmp_path):
        return write_text(tmp_path, [b"x,y\n" + rows for rows in self.ROWS])

    def position(self, files):
        return FileSequence(files, "csv", ()).read(START, 2)[1]

    def test_more_files_after_it_change_nothing(self, files):
        position = self.position(files[:2])

        assert position == self.position(files)
        assert len(rows_of(FileSequence(files, "csv", ()).read(position, 9)[0])) == 2

    def test_files_in_another_order_are_refused(self, files):
        position = self.position(files)

        for other in ([files[1], files[0]], [files[2], files[1], files[0]], [files[0], files[2]]):
            with pytest.raises(DataLossError, match="are others, or in another order"):
                FileSequence(other, "csv", ()).read(position, 1)

    def test_fewer_files_are_refused(self, files):
        with pytest.raises(DataLossError, match="read 2 files, and the list .* has 1"):
            FileSequence(files[:1], "csv", ()).read(self.position(files), 1)

    def test_a_position_of_an_older_release_is_believed(self, files):
        position = {k: v for k, v in self.position(files).items() if k != "list"}

        assert len(rows_of(FileSequence(files, "csv", ()).read(position, 9)[0])) == 2


def test_a_parquet_file_that_is_damaged_inside_is_named(tmp_path):
    files = write_parquet(tmp_path, [[1, 2, 3], list(range(2000))], row_group_size=1000)
    content = bytearray(Path(files[1]).read_bytes())
    content[40:400] = bytes(byte ^ 0x5A for byte in content[40:400])
    Path(files[1]).write_bytes(content)
    with pytest.raises(UserError, match=r"1\.parquet cannot be read to its end: .*whole copy"):
        fresh(files, "parquet").read(START, 5000)
