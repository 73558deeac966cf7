from __future__ import annotations

import json
import struct
import zlib

import pytest

from app.errors import DamagedFileError, HedgestreamError, UserError
from app.files.resuming.checkpoint import Checkpoint, inspect_checkpoint

QUERY = "375d64ce-545c-4ecc-a04c-8a8e5647c823"


def write(path, text, chunk=512):
    """Write a file as Hadoop does, with its checksums beside."""
    content = text.encode()
    path.write_bytes(content)
    chunks = [content[start : start + chunk] for start in range(0, len(content), chunk)]
    sums = b"".join(struct.pack(">I", zlib.crc32(each)) for each in chunks)
    path.with_name(f".{path.name}.crc").write_bytes(b"crc\0" + struct.pack(">I", chunk) + sums)


def make(path, planned, committed, first=0):
    """Write a checkpoint as Spark does."""
    for name in ("offsets", "commits"):
        (path / name).mkdir(parents=True)
    write(path / "metadata", json.dumps({"id": QUERY}))
    for batch in range(first, planned + 1):
        position = json.dumps({"file": 0, "unit": batch, "row": batch, "ended": 0})
        write(path / "offsets" / str(batch), f'v1\n{{"conf":{{}}}}\n{position}\n-')
    for batch in range(first, committed + 1):
        write(path / "commits" / str(batch), 'v1\n{"nextBatchWatermarkMs":0}')
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint"


class TestWhole:
    def test_a_query_that_was_not_started_has_none(self, path):
        assert inspect_checkpoint(path) == Checkpoint(path)
        path.mkdir()
        assert inspect_checkpoint(path) == Checkpoint(path)

    def test_a_query_that_died_before_its_first_batch(self, path):
        path.mkdir()
        (path / "metadata").write_text(json.dumps({"id": QUERY}))
        assert inspect_checkpoint(path) == Checkpoint(path, QUERY)

    @pytest.mark.parametrize(("planned", "committed"), [(0, -1), (0, 0), (5, 4), (5, 5)])
    @pytest.mark.parametrize("first", [0, 4])
    def test_batches_begun_and_done(self, path, planned, committed, first):
        found = inspect_checkpoint(make(path, planned, committed, min(first, planned)))
        expected = None if committed < 0 else committed
        assert (found.query, found.planned, found.committed) == (QUERY, planned, expected)
        assert found.offsets() == [{"file": 0, "unit": planned, "row": planned, "ended": 0}, None]


class TestLearned:
    @pytest.mark.parametrize(
        ("committed", "learned", "done"), [(None, None, None), (None, 0, 0), (4, 5, 5), (5, 5, 5)]
    )
    def test_a_batch_that_was_learned_is_done(self, path, committed, learned, done):
        checkpoint = Checkpoint(path, QUERY, 5, committed)
        assert checkpoint.with_learned(learned) == Checkpoint(path, QUERY, 5, done)


class TestNotWhole:
    @pytest.mark.parametrize(
        ("missing", "committed"),
        [("metadata", 5), ("offsets/5", 5), ("offsets/4", 5), ("commits/4", 4), ("offsets/4", 4)],
    )
    def test_a_part_that_is_gone_is_named(self, path, missing, committed):
        make(path, 5, committed)
        (path / missing).unlink()

        with pytest.raises(UserError, match=f"{path / missing} is missing, and the rest"):
            inspect_checkpoint(path)

    @pytest.mark.parametrize("name", ["metadata", "offsets/5", "offsets/4", "commits/5"])
    @pytest.mark.parametrize(
        "content", [b"", b"v1", b"{", b"\xff\xfe", b"v1\n{\n", b"[" * 100_000, b"[]"]
    )
    def test_a_damaged_part_is_named(self, path, name, content):
        make(path, 5, 5)
        (path / name).write_bytes(content)

        with pytest.raises(DamagedFileError, match=f"{path / name} is damaged: ") as raised:
            inspect_checkpoint(path)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("name", ["metadata", "offsets/5", "offsets/4", "commits/5"])
    @pytest.mark.parametrize("flipped", ["file", "sums"])
    def test_a_bit_that_leaves_it_readable_is_found_by_the_checksum(self, path, name, flipped):
        make(path, 5, 5)
        place = path / name
        if flipped == "sums":
            place = place.with_name(f".{place.name}.crc")
        content = bytearray(place.read_bytes())
        content[-2] ^= 1
        place.write_bytes(content)

        with pytest.raises(DamagedFileError, match=f"{path / name} is damaged: "):
            inspect_checkpoint(path)

    def test_checksums_are_those_of_chunks_and_may_be_missing(self, path):
        make(path, 5, 5)
        text = "v1\n{}\n" + json.dumps({"row": "x" * 2000}) + "\n-"
        for chunk in (7, 512, 4096):
            write(path / "offsets" / "5", text, chunk)
            assert inspect_checkpoint(path).planned == 5
        (path / "offsets" / ".5.crc").unlink()
        assert inspect_checkpoint(path).planned == 5

    def test_all_commits_gone(self, path):
        make(path, 5, -1)

        with pytest.raises(UserError, match="commits/4 is missing"):
            inspect_checkpoint(path)

    @pytest.mark.parametrize("content", ["{}", '{"id": 3}', '{"id": ""}'])
    def test_metadata_without_a_query(self, path, content):
        make(path, 1, 1)
        (path / "metadata").write_text(content)

        with pytest.raises(HedgestreamError, match="metadata is damaged"):
            inspect_checkpoint(path)

    def test_nothing_is_changed(self, path):
        make(path, 5, 5)
        (path / "metadata").unlink()
        before = sorted(path.rglob("*"))
        with pytest.raises(UserError):
            inspect_checkpoint(path)
        assert sorted(path.rglob("*")) == before
