"""The labels of an input are counted in one form, whatever else its lines hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.config.run import ReplaySettings
from app.inspection import class_counts
from app.inspection.class_counts import count_labels
from app.streaming.sources.replay_input import read_input


@pytest.fixture
def count(tmp_path):
    """Return a function that writes files of one format and counts column ``y``."""
    return lambda *written: counted(tmp_path, *written).labels


def counted(tmp_path, file_format, *contents):
    directory = tmp_path / "input"
    directory.mkdir()
    for number, content in enumerate(contents):
        path = directory / f"{number}.{file_format}"
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = ReplaySettings(
        input=directory,
        format=file_format,
        label="y",
        features=("x",),
        workdir=Path("unused"),
    )
    found = read_input(settings)
    return count_labels(found.files, found.layout.row_format, "y")


def test_what_stands_for_no_label_is_told_apart(tmp_path):
    found = counted(tmp_path, "csv", "x,y\n1,a\n1,NA\n1,NA\n1,\n1,null\n1,b\n")
    assert (found.labels, found.unlabelled) == ({"a": 1, "b": 1}, {"NA": 2, "null": 1})


class TestCsv:
    def test_numbers_are_one_label_however_written(self, count):
        assert count("csv", 'x,y\n1,1\n1,1.0\n1, 1 \n1,"1.00"\n1,0\n') == {"1": 4, "0": 1}

    def test_rows_without_a_label_are_passed_over(self, count):
        assert count("csv", 'x,y\n1,\n1,  \n1,""\n1,up\n') == {"up": 1}

    @pytest.mark.parametrize(
        "line",
        ["1", "1,7,7", "7,", ",,", '"1,7', '7,"7', "1,2\r3", "9" * 200_000, '"' * 3],
        ids=["short", "long", "no label", "commas", "open quote", "open label", "CR", "huge", '"'],
    )
    def test_a_line_that_is_no_row_spoils_itself_only(self, count, line):
        counts = count("csv", "x,y\n" + "1,0\n" * 1000 + line + "\n1,1\n1,1\n")
        assert (counts["0"], counts["1"]) == (1000, 2)
        assert counts.keys() - {"7", "7,", "2\r3", "2"} == {"0", "1"}

    def test_labels_may_hold_commas_and_quotes(self, count):
        assert count("csv", 'x,y\n1,"a, b"\n1,"say ""hi"""\n') == {"a, b": 1, 'say "hi"': 1}

    def test_the_label_column_may_stand_anywhere(self, count):
        assert count("csv", "y,z,x\na,b,1\n", "y,z,x\na,b,1\nc,d,1\n") == {"a": 2, "c": 1}

    def test_it_may_stand_elsewhere_in_each_file(self, count):
        contents = ["y,z,x\na,b,1\n", "z,x,y\nb,1,a\nb,1,c\n", "x,y\n1,a\n"]
        assert count("csv", *contents) == {"a": 3, "c": 1}

    def test_a_row_over_several_lines_has_one_label(self, count):
        assert count("csv", 'x,z,y\n1,"a\n2,b,c\n",up\n1,,"down\n"\n') == {"up": 1, "down": 1}

    def test_a_row_with_bytes_that_are_no_utf8_is_passed_over(self, count):
        assert count("csv", b"x,y\n1,\xff\n\xff,up\n1,\xc3\xa9\n") == {"é": 1}


class TestJson:
    def test_numbers_text_and_booleans(self, count):
        lines = "".join(
            json.dumps({"x": 1, "y": y}) + "\n" for y in (1, 1.0, "1", " 1.0 ", 2.5, True, "up")
        )
        assert count("json", lines) == {"1": 4, "2.5": 1, "true": 1, "up": 1}

    def test_rows_without_a_label_are_passed_over(self, count):
        assert count("json", '{"x":1}\n{"x":1,"y":null}\n{"x":1,"y":" "}\n{"x":1,"y":0}\n') == {
            "0": 1
        }

    @pytest.mark.parametrize(
        "line",
        ["{", "y", "5", "null", '"y"', "[1]", '["y"]', "{'y': 7}", '{"Y": 7}', "[" * 100_000],
        ids=[
            "open",
            "text",
            "number",
            "null",
            "string",
            "array",
            "array of text",
            "quotes",
            "case",
            "deep",
        ],
    )
    def test_a_line_that_is_no_row_spoils_itself_only(self, count, line):
        rows = '{"x":1,"y":0}\n' * 1000
        assert count("json", rows + line + '\n{"x":1,"y":1}\n') == {"0": 1000, "1": 1}


class TestParquet:
    @pytest.mark.parametrize(
        ("values", "counts"),
        [
            (pa.array([1, 0, 1, None], pa.int8()), {"1": 2, "0": 1}),
            (pa.array([1.0, 0.0, 2.5, None]), {"1": 1, "0": 1, "2.5": 1}),
            (pa.array([" a ", "", "1.0", None]), {"a": 1, "1": 1}),
            (pa.array([True, False, True, None]), {"true": 2, "false": 1}),
            (pa.array(["a", "b", "a", None]).dictionary_encode(), {"a": 2, "b": 1}),
        ],
        ids=["integer", "float", "text", "boolean", "dictionary"],
    )
    def test_every_type_of_label(self, count, values, counts):
        assert count("parquet", pa.table({"x": [1.0] * 4, "y": values})) == counts

    def test_a_nan_is_no_label(self, count):
        values = pa.array(np.array([1.0, 0.0, np.nan]))
        assert count("parquet", pa.table({"x": [1.0] * 3, "y": values})) == {"1": 1, "0": 1}

    def test_another_column_whose_name_starts_like_the_label(self, count):
        table = pa.table({"x": [1.0], "y": ["a"], "y.raw": ["b"], "y2": ["c"]})
        assert count("parquet", table, table) == {"a": 2}


@pytest.mark.parametrize("rows_per_read", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("file_format", ["csv", "json", "parquet"])
def test_every_row_counts_once_however_many_are_read_at_once(
    count, monkeypatch, rows_per_read, file_format
):
    monkeypatch.setattr(class_counts, "_ROWS_PER_READ", rows_per_read)
    contents = {
        "csv": ["x,y\n1,a\n\n1,b\n1,a\n", "x,y\n1,b\n1,a"],
        "json": ['{"x":1,"y":"a"}\n' * 2, '{"x":1,"y":"b"}\n\n{"x":1,"y":"b"}\n{"x":1,"y":"a"}'],
        "parquet": [pa.table({"x": [1.0] * 5, "y": list("abaab")})],
    }
    assert count(file_format, *contents[file_format]) == {"a": 3, "b": 2}
