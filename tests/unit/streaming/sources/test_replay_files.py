"""Which files a replay reads, in which order, and how many rows they hold."""

from __future__ import annotations

import gzip
import itertools
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from app.files.reading.text_stream import TextFormat
from app.files.sequence import START, FileSequence
from tests.unit.streaming.sources.inputs import CSV, TABLE, input_of, json_lines, refusal, rows_of


class TestDirectories:
    def test_files_are_read_in_the_order_of_their_names(self, tmp_path, write):
        ordered = ["9.csv", "10.csv", "B.csv", "a.csv", "b.csv", "c/a.csv", "p=2/a", "p=10/a"]
        for name in sorted(ordered, reverse=True):
            write(CSV, f"d/{name}")
        files = input_of(tmp_path / "d", id="id").files
        assert [str(Path(file).relative_to(tmp_path / "d")) for file in files] == ordered

    def test_hidden_and_underscore_files_and_directories_are_skipped(self, tmp_path, write):
        for name in ("_SUCCESS", ".a.csv.crc", "_tmp/a.csv", ".git/a.csv", "in/_x", "in/a.csv"):
            write(CSV, f"d/{name}")
        assert input_of(tmp_path / "d", id="id").files == (str(tmp_path / "d/in/a.csv"),)

    def test_an_underscore_above_the_input_does_not_matter(self, tmp_path, write):
        path = write(CSV, "_data/.hidden/a.csv")
        assert input_of(path.parent, id="id").files == (str(path),)

    def test_paths_are_absolute(self, write, monkeypatch):
        path = write(CSV, "d/a.csv")
        monkeypatch.chdir(path.parent.parent)
        for given in ("d", "d/a.csv", "d/../d"):
            assert input_of(Path(given), id="id").files == (str(path),)


class TestCountRows:
    def test_csv_headers_are_no_rows(self, tmp_path, write):
        write(CSV, "d/1.csv")
        write(CSV.rstrip("\n"), "d/2.csv")
        assert rows_of(input_of(tmp_path / "d", id="id")) == 4

    def test_json_lines_are_rows(self, write):
        path = write(json_lines(*[{"x": i, "y": 0} for i in range(5)]))
        assert rows_of(input_of(path, "json")) == 5

    def test_line_breaks_in_quotes_blank_lines_and_comments_are_no_rows(self, write):
        path = write('# "\nx,y\n"1\n2",0\n\n#\n3,0\n4,1')
        found = input_of(path, comment="#", features=("x",))
        assert rows_of(found, TextFormat(comment="#")) == 3

    def test_without_a_header_every_line_is_a_row(self, write):
        found = input_of(write("1,a\n2,b\n"), header=False, label="c1")
        assert rows_of(found, TextFormat(has_header=False)) == 2

    @pytest.mark.parametrize(
        ("content", "file_format"),
        [
            (gzip.compress(CSV.encode()), "csv"),
            (CSV.encode("utf-16"), "csv"),
            (CSV.replace("\n", "\r"), "csv"),
            ('[{"x": 1, "y": 0}]', "json"),
        ],
        ids=["gzip", "UTF-16", "CR", "array"],
    )
    def test_of_what_is_not_read_as_it_is_stored_the_number_is_not_told(
        self, write, content, file_format
    ):
        found = input_of(
            write(content), file_format, features=("x0",) if file_format == "csv" else None
        )
        assert rows_of(found) is None

    @pytest.mark.parametrize("file_format", ["csv", "parquet"])
    def test_when_a_file_is_gone_the_number_is_not_told(self, tmp_path, write, file_format):
        paths = [write(CSV if file_format == "csv" else TABLE, f"d/{i}") for i in range(2)]
        found = input_of(
            tmp_path / "d", file_format, features=None if file_format == "parquet" else ("x0",)
        )
        paths[0].unlink()
        assert rows_of(found) is None

    def test_parquet_says_it_in_its_footers(self, tmp_path, write):
        write(TABLE, "d/1.parquet")
        write(TABLE, "d/2.parquet")
        assert rows_of(input_of(tmp_path / "d", "parquet")) == 4


class TestDelta:
    def rows(self, path) -> list[int]:
        found = input_of(path, "delta")
        assert found.layout.row_format == "parquet"
        sequence = FileSequence(found.files, found.layout.row_format, found.layout.columns)
        batches, _ = sequence.read(START, 1000)
        return [y for batch in batches for y in batch["y"].to_pylist()]

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
