"""What is in the input is found, and what is wrong with it is told in a line with its option."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pytest

from app.errors import UserError
from tests.unit.streaming.sources.inputs import CSV, TABLE, input_of, json_lines, refusal

FIXED_SIZE_LIST = pytest.param(
    pa.list_(pa.float64(), 2),
    marks=pytest.mark.skipif(
        int(pa.__version__.partition(".")[0]) < 26,
        reason="before 26, pyarrow cannot read a null in a fixed-size list from Parquet",
    ),
)


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
        found = input_of(write(CSV.replace("a,", "7,").replace("b,", "8,")), **options)
        assert (found.features.names, found.features.n_features) == (features, len(features))
        assert found.layout.columns == ("id", "t", "x0", "x1", "y")
        assert not found.features.is_array

    def test_text_comes_as_one_column_and_parquet_as_its_own(self, write):
        assert input_of(write(CSV), id="id").layout.source_schema().simpleString() == (
            "struct<sequence:bigint,text:string>"
        )
        found = input_of(write(TABLE), "parquet")
        assert (
            found.layout.source_schema().simpleString()
            == "struct<sequence:bigint,x:double,y:bigint>"
        )
        assert (found.layout.row_format, found.layout.columns) == ("parquet", ("x", "y"))

    def test_header_names_may_be_quoted_padded_and_after_a_byte_order_mark(self, write):
        path = write(b'\xef\xbb\xbf"a, b" ,"c ""d""", y\r\n1,2,0\r\n')
        assert input_of(path).layout.columns == ("a, b", 'c "d"', "y")

    def test_json_columns_come_in_the_order_they_are_met(self, write):
        path = write("no json\n[1]\n" + json_lines({"x": 1}, {"z": 2, "x": 1}, {"y": 0}))
        assert input_of(path, "json").layout.columns == ("x", "z", "y")

    def test_a_json_file_may_start_with_a_byte_order_mark(self, write):
        path = write(b"\xef\xbb\xbf" + json_lines({"x": 1, "y": 0}).encode())
        assert input_of(path, "json").layout.columns == ("x", "y")

    def test_a_column_with_some_numbers_is_a_feature(self, write):
        assert input_of(write("x,y\nbroken,0\n,1\n3,1\n")).features.names == ("x",)

    def test_a_column_without_any_value_is_a_feature(self, write):
        assert input_of(write("x,y\n,0\n,1\n")).features.names == ("x",)

    @pytest.mark.parametrize("text", ["nan", "-inf", "1e400", " 2 "])
    def test_special_numbers_are_numbers(self, write, text):
        assert input_of(write(f"x,y\n{text},0\n")).features.names == ("x",)

    def test_an_array_column_of_json_has_its_most_common_length(self, write):
        rows = [{"f": [1, 2, 3], "y": 0}, {"f": [1, 2], "y": 0}, {"f": [4, 5, 6], "y": 1}]
        found = input_of(write(json_lines(*rows, {"f": None, "y": 1}, {"y": 1})), "json")
        assert (found.features.is_array, found.features.names, found.features.n_features) == (
            True,
            ("f",),
            3,
        )

    @pytest.mark.parametrize("list_type", [pa.list_(pa.float32()), FIXED_SIZE_LIST])
    def test_an_array_column_of_parquet_has_its_most_common_length(self, write, list_type):
        values = pa.array([None, [1.0, 2.0], [3.0, 4.0]], list_type)
        found = input_of(write(pa.table({"f": values, "y": [0, 1, 1]})), "parquet")
        assert (found.features.is_array, found.features.names, found.features.n_features) == (
            True,
            ("f",),
            2,
        )

    def test_one_array_column_may_be_chosen_among_others(self, write):
        path = write(json_lines({"f": [1, 2], "g": [1], "x": 5, "y": 0}))
        found = input_of(path, "json", features=("g",))
        assert (found.features.is_array, found.features.n_features) == (True, 1)


class TestBadRowsStopNothing:
    """A row that no parser takes is for the dead letters, not for a traceback."""

    GOOD = "x,y\n" + "0.25,1\n" * 5

    @pytest.mark.parametrize(
        "row",
        ["1", "1,2,3", ",", "\x00,1", "1,2\r3", '"' + "9" * 200_000, "9" * 200_000 + ",1"],
        ids=["short", "long", "empty", "NUL", "CR", "open quote, huge", "huge"],
    )
    def test_a_csv_with_a_bad_row(self, write, row):
        assert input_of(write(self.GOOD + row + "\n0.5,0\n")).features.names == ("x",)

    def test_a_csv_whose_open_quote_is_followed_by_many_rows(self, write):
        columns = ",".join(f"x{i}" for i in range(50))
        rows = (",".join(["0.125"] * 50) + ",1\n") * 1000
        assert input_of(write(f'{columns},y\n"{rows}')).features.n_features == 50

    @pytest.mark.parametrize(
        "row",
        ["{", "5", "null", "[1, 2]", '"x"', "{'x': 1}", "[" * 100_000],
        ids=["open", "number", "null", "array", "string", "quotes", "deep"],
    )
    def test_json_with_a_bad_row(self, write, row):
        path = write(json_lines({"x": 1, "y": 0}) + row + "\n" + json_lines({"x": 2, "y": 1}))
        assert input_of(path, "json").features.names == ("x",)


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
            assert input_of(path, "parquet").features.names == ("x",)
        except UserError as error:
            # Which of the types can be read is Spark's to decide.
            assert str(error).startswith("--") and "'x'" in str(error)  # noqa: PT017
