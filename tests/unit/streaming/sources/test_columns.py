"""What the columns of an input are is told where a user may take them for others."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile

import pyarrow as pa
import pytest

from app.config.connectors import parse_source
from app.contract import Contract
from app.errors import UserError
from app.files.finders import DirectoryFinder
from app.files.manifest import FileManifest
from app.files.reading.text_stream import TextFormat
from app.parsing.packed_rows import unpacked
from app.parsing.row_parser import RowParser
from app.streaming.sources.directory import DirectoryStreamReader, layout_of
from tests.unit.streaming.sources.inputs import TABLE, input_of, refusal

IRIS = "5.1,3.5,setosa\n4.9,3.0,versicolor\n"


class TestWithoutAHeader:
    def test_columns_are_numbered(self, write):
        found = input_of(write(IRIS), header=False, label="c2")
        assert found.layout.columns == ("c0", "c1", "c2")
        assert found.features.names == ("c0", "c1")

    def test_a_label_that_is_no_column_of_what_looks_like_a_row(self, write):
        path = write(IRIS)
        assert refusal(path, label="class") == (
            f"--label: no column 'class' in {path}; there are: 5.1, 3.5, setosa. That looks like "
            "a row: if the file has no header line, give --no-header"
        )
        assert refusal(path, label="class", header=False).endswith("there are: c0, c1, c2")

    @pytest.mark.parametrize("options", [{}, {"features": ("1",)}, {"label": "0"}])
    def test_a_header_of_numbers_alone(self, write, options):
        path = write("1,5.5,0\n2,6.5,1\n")
        assert refusal(path, **options) == (
            f"--input: {path} begins with 1, 5.5, 0, which are numbers and no names of columns. "
            "If it has no header line, give --no-header: its columns are then c0, c1 and so on"
        )

    def test_columns_that_are_numbered_from_0_are_a_header(self, write):
        assert input_of(write("0,1,2\n5,6,0\n"), label="2").features.names == ("0", "1")

    def test_a_file_without_rows(self, write):
        path = write("\n")
        assert refusal(path, header=False) == f"--input: {path} has no rows"


class TestPartitions:
    def test_directories_name_columns_that_are_no_features_unless_named(self, tmp_path, write):
        for name in ("day=2/city=Rome/b.csv", "day=10/city=Oslo/a.csv"):
            write("x,y\n1,0\n2,1\n", f"d/{name}")
        found = input_of(tmp_path / "d")
        assert found.layout.columns == ("x", "y", "day", "city")
        assert found.features.names == ("x",)
        assert found.notes == (
            "directories name the columns city, day; none is a feature unless --features names it",
        )
        named = input_of(tmp_path / "d", features=("x", "day"), id="city")
        assert (named.features.names, named.notes) == (("x", "day"), ())
        assert input_of(tmp_path / "d", label="city").features.names == ("x", "y")

    @pytest.mark.parametrize("file_format", ["csv", "parquet", "json"])
    def test_a_column_of_the_files_wins(self, tmp_path, write, file_format):
        contents = {"csv": "x,y\n1,0\n", "parquet": TABLE, "json": '{"x": 1, "y": 0}\n'}
        write(contents[file_format], "d/x=5/a")
        found = input_of(tmp_path / "d", file_format)
        assert found.layout.columns == ("x", "y")
        assert found.notes == (
            "column 'x' is in the files and in the names of their directories; what the files say "
            "counts",
        )

    def test_directories_above_the_input_are_columns_where_they_are_named(self, tmp_path, write):
        path = write("x,y\n1,0\n", "d/day=2/a.csv")
        for given in (path, path.parent):
            assert input_of(given).notes == ()
            assert input_of(given, time="day").features.names == ("x",)

    def test_files_whose_directories_name_others(self, tmp_path, write):
        paths = [write("x,y\n1,0\n", f"d/{name}/a.csv") for name in ("a=1/b=2", "a=1/c=3")]
        assert input_of(tmp_path / "d", id="a").features.names == ("x",)
        assert refusal(tmp_path / "d", id="b") == (
            f"--input: {paths[1]} has columns x, y, a, c, but {paths[0]} has x, y, a, b: b is not "
            "in both"
        )
        write('{"x": 1, "y": 0}\n', "j/1.json")
        write('{"x": 1, "y": 0}\n', "j/a=1/2.json")
        assert input_of(tmp_path / "j", "json", id="a").features.names == ("x",)

    def test_those_of_a_live_directory(self, tmp_path, write):
        write("x,day\n1,0\n", "in/day=2/city=Rome/a.csv")
        notes: list[str] = []
        layout = layout_of(parse_source(f"csv:{tmp_path}/in", "events"), warn=notes.append)
        assert layout.columns == ("x", "day", "city")
        assert [note.partition(";")[0] for note in notes] == [
            "column 'day' is in the files and in the names of their directories"
        ]

    @pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
    def test_rows_of_a_live_directory_have_them(self, tmp_path, write, file_format):
        contents = {"csv": "x,y\n1,0\n", "parquet": TABLE.slice(0, 1), "json": '{"x": 1, "y": 0}\n'}
        for name in ("day=2024-01-01/city=Rome", "day=2024-01-02/city=Oslo"):
            os.utime(write(contents[file_format], f"in/{name}/a"), (0, 0))
        place = DirectoryFinder(tmp_path / "in")
        files = FileManifest(tmp_path / "in.files", place)
        reader = DirectoryStreamReader(files, file_format, ["city", "x", "day"], 10)
        reader.prepareForTriggerAvailableNow()
        batches, _ = reader.read(reader.initialOffset())
        parser = RowParser(Contract((), ("x",), 1, ("Oslo", "Rome"), label="city", time="day"))
        found = [parser.parse(rows) for each in batches for rows in unpacked(each["rows"])]
        rows = pa.Table.from_batches(found).to_pylist()
        assert [row["label_index"] for row in rows] == [1, 0]
        assert [row["event_time"].day for row in rows] == [1, 2]
        assert [row["reason"] for row in rows] == [None, None]


class TestNotes:
    @pytest.mark.parametrize("name", ["Unnamed: 0", "Unnamed: 0.1", "__index_level_0__"])
    def test_a_row_number_of_pandas_that_is_a_feature(self, write, name):
        table = pa.table({name: [1, 2], "x": [0.5, 1.5], "y": [0, 1]})
        path = write(table)
        assert input_of(path, "parquet").notes == (
            f"column '{name}' looks like a row number that pandas wrote, and is a feature; name "
            "the others with --features to leave it out",
        )
        for options in ({"features": ("x",)}, {"id": name}):
            assert input_of(path, "parquet", **options).notes == ()

    @pytest.mark.parametrize("file_format", ["csv", "json"])
    def test_rows_that_are_not_in_the_encoding(self, write, file_format):
        rows = {
            "csv": "x,y\n1,p\xe8re\n2,b\n",
            "json": '{"x": 1, "y": "p\xe8re"}\n{"x": 2, "y": 0}\n',
        }
        path = write(rows[file_format].encode("latin-1"))
        shown = {"csv": "1,p\\xe8re", "json": '{"x": 1, "y": "p\\xe8re"}'}[file_format]
        assert input_of(path, file_format, features=("x",)).notes == (
            f"1 of the first 2 rows are not in UTF-8, such as {shown}; they are dead letters "
            "unless --encoding says what they are in",
        )
        found = input_of(path, file_format, features=("x",), encoding="latin-1")
        assert found.notes == ()

    def test_there_are_none_on_usual_columns(self, write):
        assert input_of(write("index,Unnamed,x,y\n1,2,3,0\n")).notes == ()


class TestArff:
    def test_attributes_are_columns(self, write):
        content = "@relation r\n@attribute x real\n@attribute 'the y' {0,1}\n@data\n1,0\n"
        found = input_of(write(content), "arff", label="the y")
        assert (found.layout.row_format, found.features.names) == ("arff", ("x",))

    def test_sparse_rows_are_refused(self, write):
        path = write("@attribute x real\n@attribute y {0,1}\n@data\n{0 1.5, 1 1}\n")
        assert refusal(path, "arff").startswith(
            f"--input: {path} is sparse ARFF, with rows such as '{{0 1.5, 1 1}}'; write them with "
        )

    @pytest.mark.parametrize("content", ["x,y\n1,0\n", "@data\n1,0\n", ""])
    def test_what_is_none_is_refused(self, write, content):
        path = write(content)
        said = f"--input: {path} has no lines @attribute before a line @data"
        assert refusal(path, "arff") == said

    def test_of_a_live_directory(self, tmp_path, write):
        write("@attribute x real\n@attribute y {0,1}\n@data\n", "in/a.arff")
        spec = parse_source(f"arff:{tmp_path}/in", "events")
        assert layout_of(spec).columns == ("x", "y")
        write("@attribute x real\n@data\n{0 1}\n", "sparse/a.arff")
        with pytest.raises(UserError, match="is sparse ARFF"):
            layout_of(parse_source(f"arff:{tmp_path}/sparse", "events"), TextFormat())


class TestLibsvm:
    def test_features_reach_to_the_largest_index_of_all_files(self, tmp_path, write):
        write("1 2:1\n", "d/1")
        write("-1 4:1\n", "d/2")
        found = input_of(tmp_path / "d", "libsvm", label="label")
        assert found.features.names == ("f1", "f2", "f3", "f4")

    def test_those_that_are_named_are_the_features(self, write):
        found = input_of(write("1 2:1\n"), "libsvm", label="label", features=("f7", "f2"))
        assert found.features.names == ("f7", "f2")

    def test_another_label_is_refused(self, write):
        path = write("1 1:1 2:1\n")
        said = f"--label: no column 'y' in {path}; there are: label, f1, f2"
        assert refusal(path, "libsvm") == said


class TestEscapes:
    LINE = '1,"said \\"0, 1\\" twice",0\n'

    def test_where_no_line_is_a_row_without_them_they_are_asked_for(self, write):
        path = write("x,note,y\n" + self.LINE * 3)
        for options in ({}, {"features": ("x",)}):
            assert refusal(path, **options) == (
                f'--input: no line of {path} has as many fields as the first, and they hold \\" '
                "for a quote within quotes: give --escapes"
            )
        assert input_of(path, features=("x",), escapes=True).features.names == ("x",)

    def test_where_some_lines_are_rows_they_are_not(self, write):
        path = write("x,note,y\n2,a,1\n" + self.LINE * 3)
        assert input_of(path, features=("x",)).features.names == ("x",)


class TestRefusals:
    def archive(self, kind: str) -> bytes:
        file = io.BytesIO()
        if kind == "zip":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("rows.csv", "a,y\n1,0\n")
        else:
            with tarfile.open(fileobj=file, mode="w:gz") as archive:
                archive.addfile(tarfile.TarInfo("rows.csv"))
        return file.getvalue()

    @pytest.mark.parametrize("file_format", ["csv", "json", "arff", "parquet"])
    @pytest.mark.parametrize(
        ("kind", "what"),
        [("zip", "a ZIP archive, as Excel's workbooks are too"), ("tar", "a tar archive")],
    )
    def test_an_archive_is_told_as_such(self, write, kind, what, file_format):
        path = write(self.archive(kind))
        assert refusal(path, file_format) == (
            f"--input: {path} is {what}: unpack it, or save its rows as CSV"
        )

    def test_of_very_many_columns_the_first_are_named(self, write):
        path = write(",".join(f"x{i}" for i in range(3000)) + "\n" + "1," * 2999 + "1\n")
        message = refusal(path, label="gone")
        assert message.endswith("there are: " + ", ".join(f"x{i}" for i in range(20))
                                + " and 2,980 others")  # fmt: skip
