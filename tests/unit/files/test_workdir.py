"""A work directory is brought to the present format, and one of a newer release is refused."""

from __future__ import annotations

import json

import pytest

from app.errors import NewerFormatError, UserError
from app.files.finders import NamedFinder
from app.files.manifest import FileManifest, listed_files
from app.files.workdir import FORMAT, check_format, open_workdir


def test_a_new_directory_is_of_the_present_format(tmp_path):
    opened = open_workdir(tmp_path / "a" / "run")
    assert check_format(opened.path) == FORMAT
    assert opened.path == (tmp_path / "a" / "run").resolve()


def test_the_files_that_format_1_listed_keep_their_places(tmp_path):
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv", "/a.csv"]))
    opened = open_workdir(tmp_path)
    manifest = FileManifest(opened.replay_files, NamedFinder(["/a.csv", "/b.csv"]))
    manifest.look()
    assert manifest.files == ["/z.csv", "/a.csv", "/b.csv"]
    open_workdir(tmp_path)
    again = FileManifest(opened.replay_files, NamedFinder([]))
    assert again.files == ["/z.csv", "/a.csv", "/b.csv"]


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    (tmp_path / "format.json").write_text('{"format": 3}')
    (tmp_path / "input.json").write_text("[]")
    with pytest.raises(NewerFormatError, match=r"--workdir: .* is of format 3.* formats 1 to 2"):
        open_workdir(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["format.json", "input.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": "two"}', "7"])
def test_a_format_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "format.json").write_text(content)
    with pytest.raises(UserError, match=r"--workdir: .*format.json cannot be read"):
        open_workdir(tmp_path)


def test_a_file_in_its_place_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="--workdir: .*run cannot be made"):
        open_workdir(tmp_path / "run")


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}'])
def test_a_list_of_format_1_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "input.json").write_text(content)
    with pytest.raises(UserError, match=r"--workdir: .*input.json .*Restore it"):
        open_workdir(tmp_path)


def test_files_that_an_older_release_has_read_since_are_not_passed_over(tmp_path):
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv"]))
    opened = open_workdir(tmp_path)
    FileManifest(opened.replay_files, NamedFinder(["/y.csv"])).look()
    open_workdir(tmp_path)
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv", "/x.csv"]))
    with pytest.raises(UserError, match="an older release has used"):
        open_workdir(tmp_path)


def test_a_list_of_format_1_goes_with_the_checkpoint_that_it_belonged_to(tmp_path):
    (tmp_path / "input.json").write_text(json.dumps(["/z.csv", "/a.csv"]))
    opened = open_workdir(tmp_path)
    opened.forget_replay_files()
    FileManifest(opened.replay_files, NamedFinder(["/a.csv", "/z.csv"])).look()
    assert listed_files(open_workdir(tmp_path).replay_files) == ["/a.csv", "/z.csv"]
