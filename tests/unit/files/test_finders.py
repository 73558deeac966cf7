"""The files of a directory and of a Delta table are found in an order that can be relied on."""

from __future__ import annotations

import json
import os
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake

from app.errors import DataLossError, UserError
from app.files.finders import DeltaFinder, DirectoryFinder
from app.files.manifest import FileManifest
from tests.unit.files.manifests import names, place

NO_CHECKPOINTS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class TestDirectory:
    @pytest.fixture
    def stream(self, tmp_path) -> Path:
        return tmp_path / "stream"

    @pytest.fixture
    def open_list(self, tmp_path, stream):
        return lambda: FileManifest(tmp_path / "state/files.jsonl", DirectoryFinder(stream))

    def test_a_missing_and_an_empty_directory_have_no_files(self, open_list, stream):
        files = open_list()
        assert files.look() == []
        stream.mkdir()
        assert files.look() == []
        place(stream, "a")
        assert names(files.look()) == ["a"]

    def test_files_found_together_come_by_time_then_by_name(self, open_list, stream):
        for name, seconds in (("c", 1), ("b", 2), ("a10", 2), ("a9", 2), ("sub/d", 0)):
            place(stream, name, seconds)
        assert names(open_list().look()) == ["d", "c", "a9", "a10", "b"]

    def test_files_found_later_come_later_whatever_their_times(self, open_list, stream):
        files = open_list()
        place(stream, "b", 5)
        files.look()
        place(stream, "a", 1)
        assert names(files.look()) == ["a"]
        assert names(files.files) == ["b", "a"]

    def test_hidden_names_are_no_files_of_the_stream(self, open_list, tmp_path, stream):
        for name in (".a", "_SUCCESS", "_tmp/a", "x/.y/a", "x/a"):
            place(stream, name)
        os.mkfifo(stream / "pipe")
        (stream / "dangling").symlink_to(tmp_path / "nowhere")
        assert open_list().look() == [str(stream / "x/a")]

    def test_a_stream_below_a_hidden_directory_is_read(self, tmp_path):
        place(tmp_path / ".hidden/_in", "a")
        files = FileManifest(tmp_path / "m", DirectoryFinder(tmp_path / ".hidden/_in"))
        assert names(files.look()) == ["a"]

    def test_a_restart_finds_the_same_order(self, open_list, stream):
        files = open_list()
        for name, seconds in (("b", 5), ("a", 6)):
            place(stream, name, seconds)
            files.look()
        for path in stream.iterdir():
            os.utime(path, (0, 0))
        again = open_list()
        assert again.files == files.files
        assert again.look() == []

    def test_a_file_that_is_gone_keeps_its_place_and_a_name_is_taken_once(self, open_list, stream):
        first = place(stream, "a")
        files = open_list()
        files.look()
        first.unlink()
        place(stream, "b")
        files.look()
        place(stream, "a", 9)
        assert files.look() == []
        assert names(open_list().files) == ["a", "b"]

    def test_a_look_that_finds_nothing_writes_nothing(self, open_list, tmp_path, stream):
        place(stream, "a")
        files = open_list()
        files.look()
        before = (tmp_path / "state/files.jsonl").read_bytes()
        files.look()
        assert (tmp_path / "state/files.jsonl").read_bytes() == before

    def test_any_name_is_kept(self, open_list, stream):
        strange = ["a b", 'q"', "ü\u2028", "new\nline", "tab\t", os.fsdecode(b"no\xffutf8")]
        for name in strange:
            place(stream, name)
        files = open_list()
        assert sorted(names(files.look())) == sorted(strange)
        assert open_list().files == files.files

    def test_a_directory_that_is_a_file_is_refused(self, open_list, stream):
        stream.write_text("")
        with pytest.raises(UserError, match="stream cannot be listed: Not a directory"):
            open_list().look()


def append(table: Path, *values: float, mode: str = "append") -> None:
    rows = pa.table({"x": pa.array(values, pa.float64())})
    write_deltalake(table, rows, mode=mode, post_commithook_properties=NO_CHECKPOINTS)


def values(files: list[str]) -> list[float]:
    return [x for file in files for x in pq.read_table(file)["x"].to_pylist()]


class TestDelta:
    @pytest.fixture
    def table(self, tmp_path) -> Path:
        return tmp_path / "table"

    @pytest.fixture
    def open_list(self, tmp_path, table):
        return lambda: FileManifest(tmp_path / "files.jsonl", DeltaFinder(table))

    def test_a_table_that_is_not_there_yet_is_waited_for(self, open_list, table):
        files = open_list()
        assert files.look() == []
        table.mkdir()
        assert files.look() == []
        # As a writer leaves it between its first file and its first commit.
        (table / "part-0.parquet").touch()
        (table / "_delta_log").mkdir()
        assert files.look() == []
        append(table, 1)
        assert values(files.look()) == [1]

    def test_files_come_in_the_order_of_commits(self, open_list, table):
        for x in (3, 1, 2):
            append(table, x)
        files = open_list()
        assert values(files.look()) == [3, 1, 2]
        for x in (9, 7, 8):
            append(table, x)
        assert values(files.look()) == [9, 7, 8]
        assert files.look() == []

    def test_a_restart_goes_on_after_the_last_version_listed(self, open_list, table):
        append(table, 1)
        open_list().look()
        append(table, 2)
        files = open_list()
        assert values(files.files) == [1]
        assert values(files.look()) == [2]
        assert values(open_list().files) == [1, 2]

    def test_commits_that_were_listed_may_be_cleaned_up(self, open_list, table):
        for x in range(3):
            append(table, x)
            open_list().look()
        DeltaTable(table).create_checkpoint()
        for version in (0, 1):
            (table / f"_delta_log/{version:020d}.json").unlink()
        append(table, 3)
        files = open_list()
        assert values(files.look()) == [3]
        assert values(files.files) == [0, 1, 2, 3]

    def test_an_empty_table_and_what_is_appended_to_it(self, open_list, table):
        DeltaTable.create(table, pa.schema({"x": pa.float64()}))
        files = open_list()
        assert files.look() == []
        append(table, 1)
        assert values(files.look()) == [1]

    @pytest.mark.parametrize("listed_before", [True, False])
    def test_a_compaction_adds_no_rows(self, open_list, table, listed_before):
        append(table, 1)
        append(table, 2)
        files = open_list()
        if listed_before:
            assert values(files.look()) == [1, 2]
        DeltaTable(table).optimize.compact()
        append(table, 3)
        files.look()
        # The order inside a compacted file is the compaction's.
        assert sorted(values(files.files)) == [1, 2, 3]
        assert open_list().files == files.files

    @pytest.mark.parametrize(
        "change",
        [
            lambda table: DeltaTable(table).delete("x = 1"),
            lambda table: DeltaTable(table).update({"x": "5"}, predicate="x = 1"),
            lambda table: append(table, 9, mode="overwrite"),
        ],
        ids=["delete", "update", "overwrite"],
    )
    def test_a_commit_that_removes_rows_is_refused(self, open_list, table, change):
        append(table, 1, 2)
        files = open_list()
        files.look()
        append(table, 3)
        change(table)
        for _ in range(2):
            with pytest.raises(UserError, match=f"version 2 of Delta table {table} removed or"):
                files.look()
        # A new list takes the table as it is.
        (table.parent / "files.jsonl").unlink()
        assert len(open_list().look()) > 0

    def test_commits_that_were_cleaned_up_unread_are_told(self, open_list, table):
        files = open_list()
        for x in range(3):
            append(table, x)
        files.look()
        for x in range(3, 7):
            append(table, x)
        for version in (3, 4):
            (table / f"_delta_log/{version:020d}.json").unlink()
        for each in (files, open_list()):
            with pytest.raises(DataLossError, match=f"versions 3 to 4 of Delta table {table} were"):
                each.look()

    def test_a_log_that_delta_cleaned_up_is_told(self, open_list, table):
        append(table, 0)
        files = open_list()
        files.look()
        for x in range(1, 4):
            append(table, x)
        table_now = DeltaTable(table)
        table_now.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 days"})
        table_now.create_checkpoint()
        old = (timedelta(days=40)).total_seconds()
        for commit in (table / "_delta_log").glob("*.json"):
            os.utime(commit, (commit.stat().st_mtime - old,) * 2)
        DeltaTable(table).cleanup_metadata()
        assert not (table / f"_delta_log/{1:020d}.json").exists()
        with pytest.raises(DataLossError, match="versions 1 to 3 of Delta table"):
            files.look()

    def test_a_table_put_in_the_place_of_another_is_told(self, open_list, table):
        for x in range(3):
            append(table, x)
        files = open_list()
        files.look()
        shutil.rmtree(table)
        append(table, 0)
        for each in (files, open_list()):
            with pytest.raises(DataLossError, match="is not the Delta table that was read"):
                each.look()
        for x in range(5):
            append(table, x)
        with pytest.raises(DataLossError, match="is not the Delta table that was read"):
            open_list().look()
        shutil.rmtree(table)
        with pytest.raises(DataLossError, match="is not the Delta table that was read"):
            open_list().look()

    def test_a_partitioned_table_is_refused(self, open_list, table):
        write_deltalake(table, pa.table({"x": [1.0], "p": ["a"]}), partition_by=["p"])
        with pytest.raises(UserError, match=f"Delta table {table} is partitioned or"):
            open_list().look()

    @pytest.mark.parametrize(
        "action",
        [
            {"metaData": {"partitionColumns": ["p"]}},
            {"metaData": {"configuration": {"delta.columnMapping.mode": "name"}}},
            {"protocol": {"minReaderVersion": 3, "readerFeatures": ["deletionVectors"]}},
            {"add": {"path": "a", "dataChange": True, "deletionVector": {"storageType": "u"}}},
        ],
        ids=["partitioned", "mapped", "feature", "vector"],
    )
    def test_a_table_that_stops_being_plain_is_refused(self, open_list, table, action):
        append(table, 1)
        files = open_list()
        files.look()
        (table / f"_delta_log/{1:020d}.json").write_text(json.dumps(action) + "\n")
        with pytest.raises(UserError, match="version 1: Delta table .* is partitioned or"):
            files.look()

    def test_a_commit_that_is_no_json_is_named(self, open_list, table):
        append(table, 1)
        files = open_list()
        files.look()
        (table / f"_delta_log/{1:020d}.json").write_text("{")
        with pytest.raises(UserError, match=r"0001\.json cannot be read"):
            files.look()

    def test_a_commit_of_metadata_only_adds_no_files(self, open_list, table):
        append(table, 1)
        files = open_list()
        files.look()
        DeltaTable(table).alter.set_table_properties({"delta.appendOnly": "true"})
        properties = CommitProperties(custom_metadata={"by": "test"})
        rows = pa.table({"x": [2.0]})
        write_deltalake(table, rows, mode="append", commit_properties=properties)
        assert values(files.look()) == [2]
