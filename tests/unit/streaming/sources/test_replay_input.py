"""What is in the input is found, and what is wrong with it is told in a line with its option."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from app.contract import Contract
from app.files.sequence import START, FileSequence
from app.parsing.row_parser import RowParser
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

    def test_columns_of_parquet_come_in_file_order(self, write):
        found = input_of(write(TABLE), "parquet")
        assert (found.layout.row_format, found.layout.columns) == ("parquet", ("x", "y"))

    @pytest.mark.parametrize("header", ["x,,y", ",x,y", "x,y,"])
    def test_a_column_without_a_name_is_no_feature(self, write, header):
        assert input_of(write(f"{header}\n1,2,0\n")).features.names == ("x",)

    def test_a_name_that_is_there_twice_stops_nothing_where_it_is_not_needed(self, write):
        path = write("x,z,z,y\n1,2,3,0\n")
        assert input_of(path, features=("x",)).features.names == ("x",)

    @pytest.mark.parametrize(
        "content", [gzip.compress(CSV.encode(), mtime=0), CSV.encode("utf-16")]
    )
    def test_text_is_known_by_its_first_bytes(self, write, content):
        assert input_of(write(content), id="id").features.names == ("t", "x0", "x1")

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

    @pytest.mark.parametrize("name", ["uint8", "uint16", "uint32", "uint64", "float16"])
    def test_parquet_of_any_number_type_is_a_feature(self, write, name):
        path = write(pa.table({"x": pa.array(np.array([1, 2], name)), "y": [0, 1]}))
        assert input_of(path, "parquet").features.names == ("x",)

    def test_a_column_may_have_the_name_of_the_row_number(self, write):
        path = write(TABLE.rename_columns(["sequence", "y"]))
        assert input_of(path, "parquet").features.names == ("sequence",)

    def test_one_array_column_may_be_chosen_among_others(self, write):
        path = write(json_lines({"f": [1, 2], "g": [1], "x": 5, "y": 0}))
        found = input_of(path, "json", features=("g",))
        assert (found.features.is_array, found.features.n_features) == (True, 1)


class TestFilesThatDiffer:
    """Each file of an input is read by its own header or schema."""

    def rows(self, path, file_format, **options) -> list[tuple[str, list[float], int]]:
        """Return the id, the features and the label of each row, as a replay parses it."""
        found = input_of(path, file_format, id="id", **options)
        names = found.features.names
        needed = (*names, "id", "y")
        parser = RowParser(
            Contract(found.layout.columns, names, len(names), ("a", "b"), label="y", id="id")
        )
        batches, _ = FileSequence(found.files, found.layout.row_format, needed).read(START, 100)
        rows = [row for batch in batches for row in parser.parse(batch).to_pylist()]
        assert [row["reason"] for row in rows] == [None] * len(rows)
        return [(row["event_id"], row["features"], row["label_index"]) for row in rows]

    def test_headers_in_other_orders(self, tmp_path, write):
        write("x,z,y,id\n1,2,a,i\n3,4,b,j\n", "d/1.csv")
        write("id,y,x,z\nk,b,5,6\n", "d/2.csv")
        write("z;id;y;x\n8;l;a;7\n", "d/3.csv")
        wanted = [("i", [1, 2], 0), ("j", [3, 4], 1), ("k", [5, 6], 1), ("l", [7, 8], 0)]
        assert self.rows(tmp_path / "d", "csv") == wanted

    def test_schemas_with_other_orders_and_types(self, tmp_path, write):
        write(pa.table({"x": [1.0], "z": [2], "y": ["a"], "id": ["1"]}), "d/1.parquet")
        types = {"id": pa.int64(), "x": pa.float32(), "z": pa.string(), "y": pa.binary()}
        other = pa.table({"id": [2.0], "x": [3], "z": ["4"], "y": [b"b"]})
        write(other.cast(pa.schema(types)), "d/2.parquet")
        assert self.rows(tmp_path / "d", "parquet") == [("1", [1, 2], 0), ("2", [3, 4], 1)]

    @pytest.mark.parametrize("file_format", ["csv", "parquet"])
    def test_columns_that_are_not_needed_may_be_in_one_alone(self, tmp_path, write, file_format):
        contents = ["x,more,y,id\n1,?,a,i\n", "id,y,x\nj,b,2\n"]
        for number, content in enumerate(contents):
            table = pa.csv.read_csv(pa.BufferReader(content.encode()))
            write(content if file_format == "csv" else table, f"d/{number}.{file_format}")
        rows = self.rows(tmp_path / "d", file_format, features=("x",))
        assert rows == [("i", [1], 0), ("j", [2], 1)]
        assert refusal(tmp_path / "d", file_format, id="id").endswith("more is not in both")


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

    @pytest.mark.parametrize("header", ["x,x,y", "x, x ,y"])
    def test_a_name_that_a_header_has_twice(self, write, header):
        path = write(f"{header}\n1,2,0\n")
        for options in ({}, {"features": ("x",)}):
            message = refusal(path, **options)
            assert message == f"--input: {path} has more than one column 'x'; it has x, x, y"

    @pytest.mark.parametrize(
        "content",
        [b"\x89PNG\r\n\x1a\n\x00\x00", b"x,y\x00\n1,0\n", "x,y,é\n1,0,2\n".encode("latin-1")],
        ids=["png", "NUL", "latin-1"],
    )
    def test_what_is_no_utf8_as_csv(self, write, content):
        assert self.is_no_text(write(content))

    def is_no_text(self, path) -> bool:
        said = f"--input: {path} is not CSV text in UTF-8; if it is text, give its --encoding"
        return refusal(path) == said

    def test_parquet_as_csv_and_as_json(self, write):
        path = write(TABLE)
        assert self.is_no_text(path)
        assert f"--input: {path} holds no JSON object" in refusal(path, "json")

    @pytest.mark.parametrize("content", ["", "\n\n", " \n"])
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

    @pytest.mark.parametrize(
        ("other", "missing"), [(("y", "z"), "x"), (("x", "y", "z"), "z"), (("x",), "y")]
    )
    def test_files_of_different_columns(self, tmp_path, write, other, missing):
        rows = pa.table({name: [1] for name in other})
        for file_format, first, second in (
            ("csv", "x,y\n1,0\n", ",".join(other) + "\n" + ",".join("1" * len(other)) + "\n"),
            ("parquet", TABLE, rows),
        ):
            paths = [write(first, f"{file_format}/1"), write(second, f"{file_format}/2")]
            assert refusal(tmp_path / file_format, file_format) == (
                f"--input: {paths[1]} has columns {', '.join(other)}, but {paths[0]} has x, y: "
                f"{missing} is not in both"
            )

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
