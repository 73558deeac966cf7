"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import resource
import threading

import pytest

from app.durable import write_durably

OLD, NEW = b"old " * 5000, b"new"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "HEAD.json"
    path.write_bytes(OLD)
    return path


def assert_only_file(path, content):
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == content


def test_new_file_is_written(tmp_path):
    write_durably(tmp_path / "new", NEW)

    assert_only_file(tmp_path / "new", NEW)


def test_file_is_replaced_whole(path):
    write_durably(path, NEW)

    assert_only_file(path, NEW)


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_write_keeps_the_old_content(path, monkeypatch, call, error):
    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(type(error)):
            write_durably(path, NEW)

    assert_only_file(path, OLD)


def test_full_disk_keeps_the_old_content(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_durably(path, b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert_only_file(path, OLD)


def test_missing_directory_is_told_and_not_made(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "absent" / "file", NEW)

    assert list(tmp_path.iterdir()) == []


def test_content_reaches_the_disk_before_the_name_and_the_name_before_the_return(path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        file = os.readlink(f"/proc/self/fd/{descriptor}")
        calls.append("directory" if file == str(path.parent) else "file")
        if calls[-1] == "file":
            assert os.fstat(descriptor).st_size == len(NEW)
        fsync(descriptor)

    def recorded_replace(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_durably(path, NEW)

    assert calls == ["file", "rename", "directory"]


def test_reader_sees_one_content_or_another_while_two_write(path):
    contents = [OLD, b"a" * 300_000, b"b" * 300_000]
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(path.read_bytes())

    def write(content):
        for _ in range(30):
            write_durably(path, content)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=[content]) for content in contents[1:]]
    for thread in (reader, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()

    assert seen <= set(contents)
    assert_only_file(path, path.read_bytes())
    assert path.read_bytes() in contents[1:]
