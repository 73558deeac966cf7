"""An input that another query has learned is known again, and no other input is."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import DamagedFileError, NewerFormatError, UserError
from app.registry.version import ModelVersion
from app.streaming import lineage
from app.streaming.lineage import FeedbackInput, FileInput, Lineage, fingerprint

HEADER = "x0,x1,label\n"
OLD, NEW = "old-query", "new-query"
BEGINNING = 64 * 1024


@pytest.fixture
def fed(tmp_path) -> Lineage:
    return Lineage(tmp_path / "snapshots" / "inputs")


def version(**applied: int) -> ModelVersion:
    """Return a version; without more, of a model that the old query taught up to batch 7."""
    applied = applied or {OLD: 7}
    return ModelVersion(8, "ab", "v8.safetensors", "2024-01-01", "c8", applied=applied)


def csv(path: Path, rows: int, seed: int = 0) -> str:
    lines = np.random.default_rng(seed).integers(0, 9, (rows, 3))
    path.write_text(HEADER + "".join(f"{a},{b},{c % 2}\n" for a, b, c in lines))
    return str(path)


def parquet(path: Path, rows: int, seed: int = 0) -> str:
    values = np.random.default_rng(seed).normal(size=rows)
    pq.write_table(pa.table({"x0": values, "label": (values > 0).astype(int)}), path)
    return str(path)


def register(fed: Lineage, *files: str, query: str = OLD, has_header: bool = True) -> None:
    fed.register(query, FileInput(files, has_header))


def is_refused(fed: Lineage, *files: str, query: str | None = NEW, record=None) -> bool:
    try:
        fed.refuse_learned(FileInput(files, has_header=True), query, record or version())
    except UserError:
        return True
    return False


SIZES = [1, 100, 20_000]


class TestText:
    @pytest.mark.parametrize("rows", SIZES)
    def test_same_file_is_refused(self, fed, tmp_path, rows):
        path = csv(tmp_path / "a.csv", rows)
        register(fed, path)

        assert is_refused(fed, path)

    @pytest.mark.parametrize("rows", SIZES)
    def test_copy_of_another_name_is_refused(self, fed, tmp_path, rows):
        register(fed, csv(tmp_path / "a.csv", rows))
        copy = shutil.move(tmp_path / "a.csv", tmp_path / "b.csv")

        assert is_refused(fed, str(copy))

    @pytest.mark.parametrize("rows", SIZES)
    def test_file_that_has_grown_since_is_refused(self, fed, tmp_path, rows):
        path = csv(tmp_path / "a.csv", rows)
        register(fed, path)
        with open(path, "a") as file:
            file.write("1,2,0\n" * 30_000)

        assert is_refused(fed, path)

    @pytest.mark.parametrize("rows", SIZES)
    def test_other_file_of_the_same_header_is_not_refused(self, fed, tmp_path, rows):
        register(fed, csv(tmp_path / "a.csv", rows))

        assert not is_refused(fed, csv(tmp_path / "b.csv", rows, seed=1))
        assert not is_refused(fed, csv(tmp_path / "c.csv", rows + 50, seed=1))

    @pytest.mark.parametrize("content", ["", HEADER, HEADER.strip(), HEADER + "\n \n"])
    def test_file_without_rows_is_no_file_to_know_again(self, fed, tmp_path, content):
        (tmp_path / "a.csv").write_text(content)
        register(fed, str(tmp_path / "a.csv"))

        assert not is_refused(fed, str(tmp_path / "a.csv"))
        assert not is_refused(fed, csv(tmp_path / "b.csv", 100))
        assert not fed.directory.exists()

    def test_rows_below_a_long_header_are_looked_at(self, fed, tmp_path):
        header = ",".join(f"feature-{i}" for i in range(20_000)) + "\n"
        for name in "ab":
            (tmp_path / f"{name}.csv").write_text(header + f"{name},1,2\n")
        register(fed, str(tmp_path / "a.csv"))

        assert is_refused(fed, str(tmp_path / "a.csv"))
        assert not is_refused(fed, str(tmp_path / "b.csv"))

    def test_first_line_is_a_row_where_there_is_no_header(self, fed, tmp_path):
        path = tmp_path / "a.json"
        path.write_text('{"x0": 1, "label": 0}\n')
        register(fed, str(path), has_header=False)

        assert fingerprint(str(path), has_header=True) is None
        assert is_refused(fed, str(path))

    def test_one_of_many_files_is_enough(self, fed, tmp_path):
        files = [csv(tmp_path / f"{i}.csv", 50, seed=i) for i in range(12)]
        register(fed, *files[:9])

        assert not is_refused(fed, *files[9:])
        assert is_refused(fed, *files[9:], files[8])

    def test_no_byte_of_many_small_files_is_hashed_twice(self, fed, tmp_path, monkeypatch):
        rng = np.random.default_rng(0)

        def files(name: str) -> list[str]:
            paths = [tmp_path / f"{name}-{i}.csv" for i in range(50)]
            for i, path in enumerate(paths):
                path.write_bytes(HEADER.encode() + rng.bytes(BEGINNING - 1000 + i))
            return [str(path) for path in paths]

        register(fed, *files("old"))
        new = files("new")
        hashed = []

        class Counting:
            def __init__(self, data: bytes = b"") -> None:
                self._digest = hashlib.sha256(data)
                hashed.append(len(data))

            def update(self, data: bytes) -> None:
                self._digest.update(data)
                hashed.append(len(data))

            def hexdigest(self) -> str:
                return self._digest.hexdigest()

        monkeypatch.setattr(lineage, "hashlib", SimpleNamespace(sha256=Counting))
        assert not is_refused(fed, *new)
        assert 0 < sum(hashed) <= sum(Path(path).stat().st_size for path in new)


class TestParquet:
    @pytest.mark.parametrize("rows", SIZES)
    def test_same_rows_in_any_file_are_refused(self, fed, tmp_path, rows):
        path = parquet(tmp_path / "a.parquet", rows)
        register(fed, path, has_header=False)
        copy = shutil.copy(path, tmp_path / "part-0.parquet")

        assert is_refused(fed, path)
        assert is_refused(fed, str(copy))

    @pytest.mark.parametrize("rows", SIZES)
    def test_other_rows_are_not_refused(self, fed, tmp_path, rows):
        register(fed, parquet(tmp_path / "a.parquet", rows), has_header=False)

        assert not is_refused(fed, parquet(tmp_path / "b.parquet", rows, seed=1))

    def test_part_without_rows_is_no_file_to_know_again(self, fed, tmp_path):
        register(fed, parquet(tmp_path / "a.parquet", 0), has_header=False)

        assert not is_refused(fed, parquet(tmp_path / "b.parquet", 0))

    @pytest.mark.parametrize("content", [b"PAR1,x1,label\n1,2,0\n", b"PAR1 and no more\n"])
    def test_text_that_begins_like_parquet_is_text(self, fed, tmp_path, content):
        (tmp_path / "a.csv").write_bytes(content)
        register(fed, str(tmp_path / "a.csv"), has_header=False)

        assert is_refused(fed, str(tmp_path / "a.csv"))


class TestQueries:
    def test_own_query_goes_on_with_its_file(self, fed, tmp_path):
        path = csv(tmp_path / "a.csv", 100)
        register(fed, path)

        assert not is_refused(fed, path, query=OLD)
        assert is_refused(fed, path, query=None)

    def test_query_that_has_learned_nothing_is_no_matter(self, fed, tmp_path):
        path = csv(tmp_path / "a.csv", 100)
        register(fed, path)

        assert not is_refused(fed, path, record=version(other=3))

    def test_message_names_file_query_and_batch(self, fed, tmp_path):
        path = csv(tmp_path / "a.csv", 100)
        register(fed, path)

        with pytest.raises(UserError, match=rf"{path} .* by query {OLD} up to batch 7, .*relearn"):
            fed.refuse_learned(FileInput((path,), has_header=True), NEW, version())

    def test_every_file_that_a_query_was_ever_fed_is_known(self, fed, tmp_path):
        files = [csv(tmp_path / f"{i}.csv", 50, seed=i) for i in range(4)]
        register(fed, files[0])
        register(fed, files[1], files[2])
        register(fed, files[2])

        assert [is_refused(fed, path) for path in files] == [True, True, True, False]

    def test_file_is_known_at_every_length_it_had(self, fed, tmp_path):
        path, early = csv(tmp_path / "a.csv", 10), tmp_path / "early.csv"
        register(fed, path)
        shutil.copy(path, early)
        with open(path, "a") as file:
            file.write("1,2,0\n" * 10)
        register(fed, path)

        assert is_refused(fed, path)
        assert is_refused(fed, str(early))

    def test_nothing_is_written_when_nothing_is_new(self, fed, tmp_path):
        path = csv(tmp_path / "a.csv", 100)
        register(fed, path)
        [written] = fed.directory.iterdir()
        before = written.stat().st_ino
        register(fed, path)

        assert written.stat().st_ino == before

    def test_file_that_is_gone_is_passed_over(self, fed, tmp_path):
        gone, path = str(tmp_path / "gone.csv"), csv(tmp_path / "a.csv", 100)
        register(fed, gone, path)

        assert is_refused(fed, gone, path)
        assert not is_refused(fed, gone)


class TestFeedback:
    SOURCE = FeedbackInput("redis:feedback")

    def test_a_source_that_another_query_was_fed_is_refused(self, fed):
        fed.register(OLD, self.SOURCE)

        with pytest.raises(UserError, match=rf"--feedback: redis:feedback .* by query {OLD} up to"):
            fed.refuse_learned(self.SOURCE, NEW, version())

    def test_another_source_and_the_query_itself_are_not(self, fed):
        fed.register(OLD, self.SOURCE)

        fed.refuse_learned(FeedbackInput("redis:other"), NEW, version())
        fed.refuse_learned(self.SOURCE, OLD, version())

    def test_files_and_sources_of_one_query_are_both_known(self, fed, tmp_path):
        path = csv(tmp_path / "a.csv", 100)
        register(fed, path)
        fed.register(OLD, self.SOURCE)

        assert is_refused(fed, path)
        with pytest.raises(UserError):
            fed.refuse_learned(self.SOURCE, NEW, version())


class TestFormats:
    def test_files_and_sources_of_format_1_are_known(self, fed, tmp_path):
        path = csv(tmp_path / "a.csv", 100)
        mark = fingerprint(path, has_header=True)
        fed.directory.mkdir(parents=True)
        (fed.directory / f"{OLD}.json").write_text(json.dumps([[mark.length, mark.sha256]]))
        (fed.directory / f"{OLD}.stream.json").write_text('{"feedback": "redis:feedback"}')

        assert is_refused(fed, path)
        with pytest.raises(UserError):
            fed.refuse_learned(FeedbackInput("redis:feedback"), NEW, version())

    def test_a_newer_format_is_refused(self, fed, tmp_path):
        fed.directory.mkdir(parents=True)
        (fed.directory / f"{OLD}.json").write_text('{"format": 3}')

        with pytest.raises(NewerFormatError, match=f"{OLD}.json is of format 3"):
            fed.refuse_learned(FeedbackInput("redis:feedback"), NEW, version())

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            *(
                (f"{OLD}.json", c)
                for c in ("[", "{}", '{"format": 2, "files": [1], "sources": []}')
            ),
            *((f"{OLD}.stream.json", c) for c in ("[", "{}", '{"feedback": 1}')),
        ],
    )
    def test_a_damaged_list_is_refused_in_one_line(self, fed, name, content):
        fed.directory.mkdir(parents=True)
        (fed.directory / name).write_text(content)

        with pytest.raises(DamagedFileError, match=f"{name} is damaged"):
            fed.refuse_learned(FeedbackInput("redis:feedback"), NEW, version())
