"""What is in the input is found, and what is wrong with it is told in a line with its option."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from app.config import ReplaySettings
from app.errors import UserError
from app.streaming.files import START, FileSequence
from app.streaming.inputs import InputTable, count_rows, read_layout, remember_files

CSV = "id,t,x0,x1,y\na,1,0.5,2,0\nb,2,1.5,3,1\n"
TABLE = pa.table({"x": [0.5, 1.5], "y": [0, 1]})


def settings(path, file_format="csv", **options) -> ReplaySettings:
    named = {"label": "y", "workdir": Path("unused")} | options
    return ReplaySettings(input=path, format=file_format, **named)


def layout_of(path, file_format="csv", **options) -> InputTable:
    return read_layout(settings(path, file_format, **options))


def refusal(path, file_format="csv", **options) -> str:
    with pytest.raises(UserError) as caught:
        layout_of(path, file_format, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file below ``tmp_path`` and returns its path."""

    def write_file(content, name="input.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def json_lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


class TestLayout:
    @pytest.mark.parametrize(
        ("options", "features"),
        [
            ({}, ("id", "t", "x0", "x1")),
            ({"id": "id"}, ("t", "x0", "x1")),
            ({"id": "id", "time": "t"}, ("x0", "x1")),
            ({"label": "x1", "id": "id", "time": "t"}, ("x0", "y")),
            ({"features": ("x1", "x0")}, ("x1", "x0")),
            ({"features": ("x1", "t"), "time": "t"}, ("x1", "t")),
        ],
    )
    def test_features_are_all_columns_without_another_role(self, write, options, features):
        layout = layout_of(write(CSV.replace("a,", "7,").replace("b,", "8,")), **options)
        assert (layout.features, layout.n_features) == (features, len(features))
        assert layout.columns == ("id", "t", "x0", "x1", "y")
        assert not layout.is_array

    def test_text_comes_as_one_column_and_parquet_as_its_own(self, write):
        assert layout_of(write(CSV), id="id").schema.simpleString() == (
            "struct<sequence:bigint,text:string>"
        )
        layout = layout_of(write(TABLE), "parquet")
        assert layout.schema.simpleString() == "struct<sequence:bigint,x:double,y:bigint>"
        assert (layout.file_format, layout.columns) == ("parquet", ("x", "y"))

    def test_header_names_may_be_quoted_padded_and_after_a_byte_order_mark(self, write):
        path = write(b'\xef\xbb\xbf"a, b" ,"c ""d""", y\r\n1,2,0\r\n')
        assert layout_of(path).columns == ("a, b", 'c "d"', "y")

    def test_json_columns_come_in_the_order_they_are_met(self, write):
        path = write("no json\n[1]\n" + json_lines({"x": 1}, {"z": 2, "x": 1}, {"y": 0}))
        assert layout_of(path, "json").columns == ("x", "z", "y")

    def test_a_json_file_may_start_with_a_byte_order_mark(self, write):
        path = write(b"\xef\xbb\xbf" + json_lines({"x": 1, "y": 0}).encode())
        assert layout_of(path, "json").columns == ("x", "y")

    def test_a_column_with_some_numbers_is_a_feature(self, write):
        assert layout_of(write("x,y\nbroken,0\n,1\n3,1\n")).features == ("x",)

    def test_a_column_without_any_value_is_a_feature(self, write):
        assert layout_of(write("x,y\n,0\n,1\n")).features == ("x",)

    @pytest.mark.parametrize("text", ["nan", "-inf", "1e400", " 2 "])
    def test_special_numbers_are_numbers(self, write, text):
        assert layout_of(write(f"x,y\n{text},0\n")).features == ("x",)

    def test_an_array_column_of_json_has_its_most_common_length(self, write):
        rows = [{"f": [1, 2, 3], "y": 0}, {"f": [1, 2], "y": 0}, {"f": [4, 5, 6], "y": 1}]
        layout = layout_of(write(json_lines(*rows, {"f": None, "y": 1}, {"y": 1})), "json")
        assert (layout.is_array, layout.features, layout.n_features) == (True, ("f",), 3)

    @pytest.mark.parametrize("list_type", [pa.list_(pa.float32()), pa.list_(pa.float64(), 2)])
    def test_an_array_column_of_parquet_has_its_most_common_length(self, write, list_type):
        values = pa.array([None, [1.0, 2.0], [3.0, 4.0]], list_type)
        layout = layout_of(write(pa.table({"f": values, "y": [0, 1, 1]})), "parquet")
        assert (layout.is_array, layout.features, layout.n_features) == (True, ("f",), 2)

    def test_one_array_column_may_be_chosen_among_others(self, write):
        path = write(json_lines({"f": [1, 2], "g": [1], "x": 5, "y": 0}))
        layout = layout_of(path, "json", features=("g",))
        assert (layout.is_array, layout.n_features) == (True, 1)


class TestBadRowsStopNothing:
    """A row that no parser takes is for the dead letters, not for a traceback."""

    GOOD = "x,y\n" + "0.25,1\n" * 5

    @pytest.mark.parametrize(
        "row",
        ["1", "1,2,3", ",", "\x00,1", "1,2\r3", '"' + "9" * 200_000, "9" * 200_000 + ",1"],
        ids=["short", "long", "empty", "NUL", "CR", "open quote, huge", "huge"],
    )
    def test_a_csv_with_a_bad_row(self, write, row):
        assert layout_of(write(self.GOOD + row + "\n0.5,0\n")).features == ("x",)

    def test_a_csv_whose_open_quote_is_followed_by_many_rows(self, write):
        columns = ",".join(f"x{i}" for i in range(50))
        rows = (",".join(["0.125"] * 50) + ",1\n") * 1000
        assert layout_of(write(f'{columns},y\n"{rows}')).n_features == 50

    @pytest.mark.parametrize(
        "row",
        ["{", "5", "null", "[1, 2]", '"x"', "{'x': 1}", "[" * 100_000],
        ids=["open", "number", "null", "array", "string", "quotes", "deep"],
    )
    def test_json_with_a_bad_row(self, write, row):
        path = write(json_lines({"x": 1, "y": 0}) + row + "\n" + json_lines({"x": 2, "y": 1}))
        assert layout_of(path, "json").features == ("x",)


class TestRefusals:
    @pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
    def test_a_path_that_is_not_there(self, tmp_path, file_format):
        message = refusal(tmp_path / "gone", file_format)
        assert message == f"--input: {tmp_path}/gone does not exist"

    @pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
    def test_a_directory_without_files(self, tmp_path, write, file_format):
        write(CSV, "d/_SUCCESS")
        write(CSV, "d/.part.csv.crc")
        message = refusal(tmp_path / "d", file_format)
        assert message == f"--input: directory {tmp_path}/d holds no files"

    @pytest.mark.parametrize(
        ("options", "option"),
        [
            ({"label": "gone"}, "--label"),
            ({"id": "gone"}, "--id"),
            ({"time": "gone"}, "--time"),
            ({"features": ("x0", "gone")}, "--features"),
            ({"label": "Y", "features": ("gone",)}, "--label"),
        ],
    )
    def test_a_column_that_is_not_there(self, write, options, option):
        message = refusal(write(CSV), **options)
        missing = "Y" if options.get("label") == "Y" else "gone"
        assert message.startswith(f"{option}: no column '{missing}' in ")
        assert message.endswith("there are: id, t, x0, x1, y")

    def test_the_label_as_a_feature(self, write):
        message = refusal(write(CSV), features=("x0", "y"))
        assert message == "--features: column 'y' is the label"

    def test_no_column_left_for_features(self, write):
        message = refusal(write("id,y\na,0\n"), id="id")
        assert message.startswith("--features: ") and "no column left" in message

    @pytest.mark.parametrize("header", ["x,x,y", "x,,y", "x,y,", "x, x ,y"])
    def test_a_doubled_or_empty_name_in_a_header(self, write, header):
        path = write(f"{header}\n1,2,0\n")
        message = refusal(path)
        assert message.startswith(f"--input: {path} has a header with ")
        assert ("'x'" if header.count("x") == 2 else "''") in message

    @pytest.mark.parametrize(
        "content",
        [
            b"\x89PNG\r\n\x1a\n\x00\x00",
            gzip.compress(CSV.encode()),
            CSV.encode("utf-16"),
            b"x,y\x00\n1,0\n",
        ],
        ids=["png", "gzip", "utf-16", "NUL"],
    )
    def test_a_binary_file_as_csv(self, write, content):
        path = write(content)
        assert refusal(path) == f"--input: {path} is not CSV text in UTF-8"

    def test_parquet_as_csv_and_as_json(self, write):
        path = write(TABLE)
        assert refusal(path) == f"--input: {path} is not CSV text in UTF-8"
        assert f"--input: {path} holds no JSON object" in refusal(path, "json")

    @pytest.mark.parametrize("content", ["", "\n\n", " \nx,y\n1,0\n"])
    def test_a_csv_without_a_header(self, write, content):
        path = write(content)
        assert refusal(path) == f"--input: {path} has no header line of column names"

    @pytest.mark.parametrize(
        "header", ["x" * 200_000, "x,y\rz"], ids=["a name of 200,000 letters", "CR"]
    )
    def test_a_csv_whose_header_is_none(self, write, header):
        assert refusal(write(f"{header}\n1,0\n")).startswith("--")

    @pytest.mark.parametrize("content", ["x,y\n", "x,y", "x,y\n\n \n"])
    def test_a_csv_with_nothing_but_a_header(self, write, content):
        path = write(content)
        assert refusal(path) == f"--input: {path} holds no rows"

    def test_parquet_without_rows(self, write):
        path = write(TABLE.slice(0, 0))
        assert refusal(path, "parquet") == f"--input: {path} holds no rows"

    @pytest.mark.parametrize("content", ["", "\n", "[1, 2]\n5\n", "x,y\n1,0\n", "{}\n"])
    def test_json_without_objects(self, write, content):
        path = write(content)
        assert refusal(path, "json").startswith(f"--input: {path} holds no JSON object")

    def test_csv_files_with_different_headers(self, tmp_path, write):
        write("x,y\n1,0\n", "d/1.csv")
        write("y,x\n0,1\n", "d/2.csv")
        message = refusal(tmp_path / "d")
        assert message.startswith(f"--input: {tmp_path}/d/2.csv has columns y, x, but ")
        assert message.endswith("1.csv has x, y")

    def test_parquet_files_with_different_schemas(self, tmp_path, write):
        write(TABLE, "d/1.parquet")
        write(TABLE.cast(pa.schema([("x", pa.float32()), ("y", pa.int64())])), "d/2.parquet")
        message = refusal(tmp_path / "d", "parquet")
        assert message.startswith(f"--input: {tmp_path}/d/2.parquet has another schema than ")

    @pytest.mark.parametrize("value", ["red", "2024-01-01", "1,5", "0x10"])
    def test_a_feature_column_without_a_number(self, write, value):
        path = write(f'x,colour,y\n1,"{value}",0\n2,,1\n')
        message = refusal(path)
        assert message.startswith(f"--features: column 'colour' holds '{value}', which is not a ")

    def test_parquet_dates_are_no_features(self, write):
        table = TABLE.append_column("day", pa.array([0, 1], pa.date32()))
        assert refusal(write(table), "parquet").startswith("--features: column 'day' holds ")

    @pytest.mark.parametrize("features", [None, ("f", "x")])
    def test_an_array_column_beside_others(self, write, features):
        path = write(json_lines({"f": [1, 2], "x": 1, "y": 0}))
        message = refusal(path, "json", features=features)
        assert message.startswith("--features: column 'f' holds arrays, so it must be the only")

    @pytest.mark.parametrize("content", ["hello", "", "PAR1 but not much more PAR1"])
    def test_a_file_that_is_not_parquet_is_named(self, write, content):
        path = write(content)
        message = refusal(path, "parquet")
        assert message.startswith("--input: ")
        assert str(path) in message

    @pytest.mark.parametrize("name", ["sequence"])
    def test_the_reserved_name_in_parquet(self, write, name):
        path = write(TABLE.rename_columns([name, "y"]))
        message = refusal(path, "parquet")
        assert message.startswith("--input: ") and f"'{name}'" in message

    @pytest.mark.parametrize("name", ["uint8", "uint16", "uint32", "uint64", "float16"])
    def test_parquet_of_any_number_type_is_read_or_refused(self, write, name):
        path = write(pa.table({"x": pa.array(np.array([1, 2], name)), "y": [0, 1]}))
        try:
            assert layout_of(path, "parquet").features == ("x",)
        except UserError as error:
            assert str(error).startswith("--") and "'x'" in str(error)


class TestDirectories:
    def test_files_are_read_in_the_order_of_their_names(self, tmp_path, write):
        for name in ("b.csv", "a.csv", "c/a.csv", "B.csv", "10.csv", "9.csv"):
            write(CSV, f"d/{name}")
        files = layout_of(tmp_path / "d", id="id").files
        names = [str(Path(file).relative_to(tmp_path / "d")) for file in files]
        assert names == ["10.csv", "9.csv", "B.csv", "a.csv", "b.csv", "c/a.csv"]

    def test_hidden_and_underscore_files_and_directories_are_skipped(self, tmp_path, write):
        for name in ("_SUCCESS", ".a.csv.crc", "_tmp/a.csv", ".git/a.csv", "in/_x", "in/a.csv"):
            write(CSV, f"d/{name}")
        assert layout_of(tmp_path / "d", id="id").files == (str(tmp_path / "d/in/a.csv"),)

    def test_an_underscore_above_the_input_does_not_matter(self, tmp_path, write):
        path = write(CSV, "_data/.hidden/a.csv")
        assert layout_of(path.parent, id="id").files == (str(path),)

    def test_paths_are_absolute(self, write, monkeypatch):
        path = write(CSV, "d/a.csv")
        monkeypatch.chdir(path.parent.parent)
        for given in ("d", "d/a.csv", "d/../d"):
            assert layout_of(Path(given), id="id").files == (str(path),)


class TestRememberedFiles:
    @pytest.fixture
    def table(self, write):
        return layout_of(write(CSV), id="id")

    def remember(self, tmp_path, table, *files):
        return remember_files(tmp_path / "input.json", dataclasses.replace(table, files=files))

    def test_new_files_go_to_the_end_whatever_their_names(self, tmp_path, table):
        assert self.remember(tmp_path, table, "b", "c") == ("b", "c")
        assert self.remember(tmp_path, table, "a", "b", "c", "d") == ("b", "c", "a", "d")

    def test_files_that_are_gone_keep_their_place(self, tmp_path, table):
        self.remember(tmp_path, table, "a", "b")
        assert self.remember(tmp_path, table, "c") == ("a", "b", "c")
        assert self.remember(tmp_path, table) == ("a", "b", "c")

    def test_the_manifest_is_written_only_when_it_grows(self, tmp_path, table):
        self.remember(tmp_path, table, "a", "b")
        before = (tmp_path / "input.json").stat()
        self.remember(tmp_path, table, "b", "a")
        after = (tmp_path / "input.json").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


class TestCountRows:
    def test_csv_headers_are_no_rows(self, tmp_path, write):
        write(CSV, "d/1.csv")
        write(CSV.rstrip("\n"), "d/2.csv")
        assert count_rows(layout_of(tmp_path / "d", id="id")) == 4

    def test_json_lines_are_rows(self, write):
        path = write(json_lines(*[{"x": i, "y": 0} for i in range(5)]))
        assert count_rows(layout_of(path, "json")) == 5

    def test_parquet_says_it_in_its_footers(self, tmp_path, write):
        write(TABLE, "d/1.parquet")
        write(TABLE, "d/2.parquet")
        assert count_rows(layout_of(tmp_path / "d", "parquet")) == 4


class TestDelta:
    def rows(self, path) -> list[int]:
        layout = layout_of(path, "delta")
        assert layout.file_format == "parquet"
        sequence = FileSequence(layout.files, layout.file_format, layout.columns)
        return sequence.read(START, 1000)[0]["y"].to_pylist()

    def append(self, path, *values, **options):
        table = pa.table({"x": [float(v) for v in values], "y": list(values)})
        write_deltalake(path, table, mode="append", **options)

    def test_rows_come_in_commit_order(self, tmp_path):
        appended = [[4, 3], [9], [1, 2], [8], [0]]
        for values in appended:
            self.append(tmp_path / "table", *values)
        assert self.rows(tmp_path / "table") == list(itertools.chain(*appended))

    def test_commits_of_one_millisecond_or_of_a_clock_set_back_keep_their_order(self, tmp_path):
        for value in range(6):
            self.append(tmp_path / "table", value)
        for version, log in enumerate(sorted((tmp_path / "table/_delta_log").glob("*.json"))):
            actions = [json.loads(line) for line in log.read_text().splitlines()]
            for action in actions:
                if "add" in action:
                    action["add"]["modificationTime"] = 1_700_000_000_000 - (version // 3)
            log.write_text(json_lines(*actions))
        assert self.rows(tmp_path / "table") == list(range(6))

    def test_an_overwritten_table_gives_its_current_rows_only(self, tmp_path):
        self.append(tmp_path / "table", 1, 2)
        write_deltalake(tmp_path / "table", pa.table({"x": [5.0], "y": [5]}), mode="overwrite")
        assert self.rows(tmp_path / "table") == [5]

    def test_a_path_below_the_current_directory(self, tmp_path, monkeypatch):
        self.append(tmp_path / "table", 1)
        monkeypatch.chdir(tmp_path)
        assert self.rows(Path("table")) == [1]

    def test_a_partitioned_table_is_refused(self, tmp_path):
        self.append(tmp_path / "table", 0, 1, partition_by=["y"])
        message = refusal(tmp_path / "table", "delta")
        assert message.startswith(f"--input: Delta table {tmp_path}/table is partitioned")

    def test_a_directory_that_is_no_delta_table(self, tmp_path, write):
        path = write(TABLE, "d/1.parquet").parent
        assert refusal(path, "delta").startswith(f"--input: {path} is not a Delta table: ")

    def test_a_table_without_rows(self, tmp_path):
        DeltaTable.create(tmp_path / "table", TABLE.schema)
        message = refusal(tmp_path / "table", "delta")
        assert message.startswith("--input: ") and str(tmp_path / "table") in message

    def test_without_the_package_the_extra_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "deltalake", None)
        message = refusal(tmp_path, "delta")
        assert message.startswith("--format delta")
        assert "pip install 'hedgestream[delta]'" in message
