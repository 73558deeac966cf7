"""Files keep the places they were first given, whatever crashes and whatever happens to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import StorageError, UserError
from app.files.finders import DirectoryFinder, NamedFinder
from app.files.manifest import FileManifest, import_files
from tests.unit.files.manifests import names, place


class TestManifest:
    @pytest.fixture
    def stream(self, tmp_path) -> Path:
        return tmp_path / "stream"

    @pytest.fixture
    def manifest(self, tmp_path) -> Path:
        return tmp_path / "files.jsonl"

    @pytest.fixture
    def open_list(self, manifest, stream):
        return lambda: FileManifest(manifest, DirectoryFinder(stream))

    @pytest.fixture
    def whole(self, open_list, manifest, stream) -> bytes:
        """Return the manifest of two looks."""
        files = open_list()
        for name in ("b", "a"):
            place(stream, name)
            files.look()
        return manifest.read_bytes()

    def test_a_torn_last_line_is_dropped_and_written_again(self, open_list, manifest, whole):
        first = whole.index(b"\n") + 1
        for cut in range(first, len(whole)):
            manifest.write_bytes(whole[:cut])
            files = open_list()
            assert names(files.files) == ["b"]
            assert names(files.look()) == ["a"]
            assert manifest.read_bytes() == whole

    @pytest.mark.parametrize("torn", [b"\0" * 300, b"\r\r\r", b"{}\n", b"\0\0\n", b'["a"]\n'])
    def test_a_tail_that_was_never_written_is_replaced(self, open_list, manifest, whole, torn):
        first = whole.index(b"\n") + 1
        manifest.write_bytes(whole[:first] + torn)
        assert names(open_list().look()) == ["a"]
        assert manifest.read_bytes() == whole

    def test_a_damaged_line_before_others_is_told(self, open_list, manifest, whole):
        manifest.write_bytes(b"\0" + whole[1:])
        with pytest.raises(UserError, match=r"files\.jsonl is damaged at byte 0"):
            open_list()

    def test_two_processes_keep_one_order(self, open_list, stream):
        one, other = open_list(), open_list()
        place(stream, "b")
        one.look()
        place(stream, "a")
        assert names(other.look()) == ["b"]
        assert names(other.look()) == ["a"]
        assert names(one.look()) == ["a"]
        assert one.files == other.files == open_list().files

    def test_a_manifest_that_cannot_be_written_leaves_the_list_as_it_was(
        self, open_list, manifest, stream
    ):
        place(stream, "a")
        files = open_list()
        manifest.mkdir()
        with pytest.raises(StorageError, match=r"files\.jsonl cannot be written: Is a directory"):
            files.look()
        assert files.files == []
        manifest.rmdir()
        assert names(files.look()) == ["a"]


class TestNamedFiles:
    """The files of a replay, which its options name."""

    @pytest.fixture
    def look(self, tmp_path):
        """Return a function that gives all files after a look for some."""

        def look_for(*files: str) -> list[str]:
            manifest = FileManifest(tmp_path / "input.files", NamedFinder(files))
            manifest.look()
            return manifest.files

        return look_for

    def test_new_files_go_to_the_end_whatever_their_names(self, look):
        assert look("b", "c") == ["b", "c"]
        assert look("a", "b", "c", "d") == ["b", "c", "a", "d"]

    def test_files_that_are_gone_keep_their_place(self, look):
        look("a", "b")
        assert look("c") == ["a", "b", "c"]
        assert look() == ["a", "b", "c"]

    def test_the_manifest_is_written_only_when_it_grows(self, look, tmp_path):
        look("a", "b")
        before = (tmp_path / "input.files").stat()
        look("b", "a")
        after = (tmp_path / "input.files").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    def test_a_rewritten_table_is_refused_and_nothing_is_listed(self, tmp_path):
        table = tmp_path / "table"
        manifest = FileManifest(
            tmp_path / "input.files", NamedFinder([str(table / "1"), str(table / "2")], table)
        )
        manifest.look()
        manifest = FileManifest(tmp_path / "input.files", NamedFinder([str(table / "3")], table))
        with pytest.raises(UserError, match="was rewritten since the last run"):
            manifest.look()
        assert names(manifest.files) == ["1", "2"]

    def test_files_that_an_older_release_listed_come_first(self, look, tmp_path):
        import_files(tmp_path / "input.files", ["b", "a"])
        assert look("a", "c") == ["b", "a", "c"]
        import_files(tmp_path / "input.files", ["other"])
        assert look() == ["b", "a", "c"]
