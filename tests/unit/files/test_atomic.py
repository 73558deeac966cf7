"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import StorageError
from app.files.atomic import create_durably, write_durably

OLD, NEW = b"old " * 5000, b"new"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "HEAD.json"
    path.write_bytes(OLD)
    return path


def assert_only_file(path, content):
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == content


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """Record what the filesystem is asked for: each sync, with what was synced, and each name."""
    recorded: list[str] = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def recorded_fsync(descriptor):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        if name.endswith(".tmp"):
            assert os.fstat(descriptor).st_size == len(NEW)
            name = "content"
        recorded.append(f"sync {name}")
        fsync(descriptor)

    def naming(call):
        def recorded_naming(source, target):
            recorded.append("name")
            call(source, target)

        return recorded_naming

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", naming(replace))
    monkeypatch.setattr(os, "link", naming(link))
    return recorded


both = pytest.mark.parametrize("write", [write_durably, create_durably])


@both
class TestBoth:
    def test_new_file_is_written(self, tmp_path, write):
        write(tmp_path / "new", NEW)

        assert_only_file(tmp_path / "new", NEW)

    def test_missing_directories_are_made(self, tmp_path, write):
        write(tmp_path / "a" / "b" / "new", NEW)

        assert_only_file(tmp_path / "a" / "b" / "new", NEW)

    def test_content_reaches_the_disk_before_the_name_and_the_name_before_the_return(
        self, tmp_path, write, calls
    ):
        write(tmp_path / "new", NEW)

        assert calls == ["sync content", "name", f"sync {tmp_path.name}"]

    def test_directories_that_were_made_reach_the_disk_too(self, tmp_path, write, calls):
        write(tmp_path / "a" / "b" / "new", NEW)

        assert {f"sync {tmp_path.name}", "sync a"} <= set(calls)
        assert calls[-3:] == ["sync content", "name", "sync b"]

    @pytest.mark.parametrize("call", ["os.fsync", "builtins.open"])
    def test_file_that_cannot_be_written_is_told_by_name(self, tmp_path, monkeypatch, write, call):
        def refuse(*_, **__):
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(call, refuse)
            message = f"{tmp_path / 'new'} cannot be written: Input/output error"
            with pytest.raises(StorageError, match=message):
                write(tmp_path / "new", NEW)

        assert list(tmp_path.iterdir()) == []

    def test_full_disk_leaves_nothing_behind(self, tmp_path, write):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StorageError, match="new cannot be written: File too large"):
                write(tmp_path / "new", b"x" * 200_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert list(tmp_path.iterdir()) == []

    def test_directory_that_is_a_file_is_told(self, path, write):
        with pytest.raises(StorageError, match="HEAD.json/below cannot be written: "):
            write(path / "below", NEW)

        assert_only_file(path, OLD)

    def test_error_of_the_caller_is_none_of_storage(self, tmp_path, write):
        with pytest.raises(TypeError):
            write(tmp_path / "new", "text")

        assert list(tmp_path.iterdir()) == []


class TestWrite:
    def test_file_is_replaced_whole(self, path):
        write_durably(path, NEW)

        assert_only_file(path, NEW)

    @pytest.mark.parametrize(
        ("error", "told"),
        [(OSError("disk"), StorageError), (KeyboardInterrupt(), KeyboardInterrupt)],
        ids=["error", "ctrl-c"],
    )
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_failed_write_keeps_the_old_content(self, path, monkeypatch, call, error, told):
        def fail(*_):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(told):
                write_durably(path, NEW)

        assert_only_file(path, OLD)

    def test_full_disk_keeps_the_old_content(self, path):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(StorageError, match="File too large"):
                write_durably(path, b"x" * 200_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert_only_file(path, OLD)

    def test_reader_sees_one_content_or_another_while_two_write(self, path):
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


class TestCreate:
    def test_created_file_is_told_from_one_that_was_there(self, tmp_path):
        assert create_durably(tmp_path / "new", NEW) is True
        assert create_durably(tmp_path / "new", b"other") is False

        assert_only_file(tmp_path / "new", NEW)

    @pytest.mark.parametrize("there", [OLD, b""], ids=["whole", "empty"])
    def test_file_that_exists_is_left_as_it_is(self, path, there):
        path.write_bytes(there)
        before = path.stat()

        assert not create_durably(path, NEW)
        assert_only_file(path, there)
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_one_of_many_that_race_creates_the_file(self, tmp_path):
        for number in range(20):
            path = tmp_path / str(number) / "new"
            contents = [f"{number} by {racer}".encode() * 1000 for racer in range(8)]
            barrier = threading.Barrier(len(contents))

            def race(content, path=path, barrier=barrier) -> bool:
                barrier.wait(10)
                return create_durably(path, content)

            with ThreadPoolExecutor(len(contents)) as racers:
                won = list(racers.map(race, contents))

            assert won.count(True) == 1
            assert_only_file(path, contents[won.index(True)])

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (OSError(errno.EPERM, "Operation not permitted"), StorageError),
            (KeyboardInterrupt(), KeyboardInterrupt),
        ],
        ids=["no hard links", "ctrl-c"],
    )
    def test_failed_creation_leaves_nothing(self, tmp_path, monkeypatch, error, told):
        def fail(*_):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, "link", fail)
            with pytest.raises(told):
                create_durably(tmp_path / "new", NEW)

        assert list(tmp_path.iterdir()) == []
        assert create_durably(tmp_path / "new", NEW)
