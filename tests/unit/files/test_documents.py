from __future__ import annotations

import pytest

from app.errors import DamagedFileError
from app.files.documents import read_json


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "Expecting value"),
        (b'{"a": ', "Expecting value"),
        (b"\xff", "can't decode"),
        (b"[]", "it holds list"),
        (b'{"a":' * 100_000, "it is nested too deeply"),
    ],
)
def test_what_is_no_such_document_is_refused_in_one_line(tmp_path, content, problem):
    path = tmp_path / "x.json"
    path.write_bytes(content)

    with pytest.raises(DamagedFileError, match=problem) as raised:
        read_json(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_directory_in_its_place_is_refused(tmp_path):
    with pytest.raises(DamagedFileError, match="Is a directory"):
        read_json(tmp_path)


def test_a_missing_one_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "x.json")


def test_what_it_holds_is_returned(tmp_path):
    (tmp_path / "x.json").write_text('{"a": [1]}')
    assert read_json(tmp_path / "x.json") == {"a": [1]}
