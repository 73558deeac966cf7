"""What is done to a work directory between two runs is refused in one line, and nothing changes."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from app.errors import DamagedFileError, DataLossError, HedgestreamError, UserError
from tests.integration.live_streams import LiveStream, live_run, live_stream, outcome, write_json
from tests.integration.streams import small_csv, small_replay

pytestmark = pytest.mark.spark

ROWS = 200


def contents(workdir: Path) -> dict[str, str]:
    """Return the digest of each file, but for who is at work."""
    return {
        str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in workdir.rglob("*")
        if path.is_file() and ".runs" not in path.parts
    }


def add_rows(path: Path, n: int) -> None:
    """Append the rows of a stream of another seed to a file."""
    more = small_csv(path.with_name("more.csv"), n, seed=5).read_text()
    path.write_text(path.read_text() + more.partition("\n")[2])


@pytest.fixture(scope="module")
def replayed(spark, tmp_path_factory) -> Path:
    """Return a directory with the files z.csv and a.csv, and the work directory of both."""
    root = tmp_path_factory.mktemp("replayed")
    for seed, name in enumerate("za"):
        small_replay(small_csv(root / f"{name}.csv", ROWS, seed), root / "w", id=None)
    return root


@pytest.fixture
def root(replayed, tmp_path) -> Path:
    """Return a copy of it, in whose lists of files are those of the copy's origin."""
    shutil.copytree(replayed / "w", tmp_path / "w", symlinks=True)
    return tmp_path


class TestReplay:
    def refuse(self, replayed, root, error, message, **changes):
        """Run once more, and check that it is refused and has changed nothing."""
        before = contents(root / "w")
        with pytest.raises(error, match=message) as raised:
            small_replay(replayed / "a.csv", root / "w", **changes)
        assert "\n" not in str(raised.value)
        assert contents(root / "w") == before

    def test_a_checkpoint_moved_away_and_put_back_goes_on_where_it_was(self, spark, tmp_path):
        for seed, name in enumerate("za"):
            small_replay(small_csv(tmp_path / f"{name}.csv", ROWS, seed), tmp_path / "w")
        (tmp_path / "w" / "checkpoint").rename(tmp_path / "checkpoint")
        self.refuse(tmp_path, tmp_path, UserError, "was fed to this model before")
        (tmp_path / "checkpoint").rename(tmp_path / "w" / "checkpoint")
        add_rows(tmp_path / "a.csv", ROWS)

        summary = small_replay(tmp_path / "a.csv", tmp_path / "w")
        assert summary.run.rows_learned == ROWS
        assert summary.total.rows_learned == 3 * ROWS

    def test_a_list_of_files_in_another_order_is_refused(self, replayed, root):
        manifest = root / "w" / "input.files"
        lines = manifest.read_bytes().splitlines(keepends=True)
        manifest.write_bytes(b"".join(reversed(lines)))

        self.refuse(replayed, root, DataLossError, "are others, or in another order")

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("checkpoint/metadata", UserError, "metadata is missing"),
            ("checkpoint/offsets/3", UserError, "offsets/3 is missing"),
            ("checkpoint/offsets/2", UserError, "offsets/2 is missing"),
            ("input.files", DataLossError, "read 2 files, and .*input.files has 0"),
        ],
    )
    def test_a_part_that_is_gone_is_refused(self, replayed, root, name, error, message):
        (root / "w" / name).unlink()

        self.refuse(replayed, root, error, message)

    @pytest.mark.parametrize("content", [b'{"a": \n', b"[" * 100_000 + b"\n", b"\xff\xfe\n\n"])
    @pytest.mark.parametrize(
        "name",
        [
            "checkpoint/metadata",
            "checkpoint/offsets/3",
            "checkpoint/commits/3",
            "replay.json",
            "format.json",
            "snapshots/inputs/*.json",
            "input.files",
        ],
    )
    def test_a_damaged_file_is_refused(self, replayed, root, name, content):
        (path,) = (root / "w").glob(name)
        path.write_bytes(content)

        self.refuse(replayed, root, HedgestreamError, path.name)

    def test_an_input_that_was_cut_is_refused(self, spark, tmp_path):
        path = small_csv(tmp_path / "rows.csv", ROWS)
        small_replay(path, tmp_path / "w")
        path.write_bytes(path.read_bytes()[:1000])
        before = contents(tmp_path / "w")
        with pytest.raises(DataLossError, match=r"rows\.csv has 1,000 bytes, and .* were read"):
            small_replay(path, tmp_path / "w")
        assert contents(tmp_path / "w") == before

    def test_damaged_statistics_stop_nothing(self, replayed, root):
        (path,) = (root / "w").glob("batches/*/*.jsonl")
        path.write_bytes(b"{\n" + path.read_bytes()[:-20])

        assert small_replay(replayed / "a.csv", root / "w").run.rows_in == 0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"label": "x0"}, "--label is 'x0', but .* was begun with 'label'"),
            ({"id": "x0"}, "--id is 'x0', but .* was begun with not given"),
            ({"format": "json", "input": None}, "--format is 'json'"),
            ({"encoding": "cp1252"}, "--encoding is 'cp1252', but .* was begun with 'utf-8'"),
            ({"escapes": True}, "--escapes is given, but .* was begun with not given"),
        ],
    )
    def test_a_setting_that_says_how_rows_are_read_stays(self, replayed, root, changes, message):
        if "input" in changes:
            path = root / "rows.json"
            path.write_text('{"x0": 1, "x1": 1, "x2": 1, "x3": 1, "label": 1}\n')
            changes = changes | {"input": path}
        self.refuse(replayed, root, UserError, message, **changes)

    def test_an_older_copy_of_the_checkpoint_is_refused(self, replayed, root):
        for kind in ("offsets", "commits"):
            (root / "w" / "checkpoint" / kind / "3").unlink()

        self.refuse(replayed, root, UserError, "up to batch 3, and the checkpoint .* after 2")

    def test_without_its_checkpoint_a_replay_begins_anew_when_told_to(self, replayed, root):
        shutil.rmtree(root / "w" / "checkpoint")

        summary = small_replay(replayed / "a.csv", root / "w", allow_relearn=True)
        assert summary.run.rows_learned == ROWS
        assert (root / "w" / "input.files.aside-1").exists()


class TestStream:
    N = 300

    @pytest.fixture
    def rows(self) -> LiveStream:
        return live_stream(self.N)

    @pytest.fixture
    def sources(self, rows, tmp_path) -> tuple[str, str]:
        """Return two sources that hold their first file."""
        self.add(rows, tmp_path, slice(0, self.N // 2), "a")
        return f"json:{tmp_path}/events", f"json:{tmp_path}/feedback"

    def add(self, rows, root, part, name):
        write_json(root / "events", rows.events[part], name)
        write_json(root / "feedback", rows.feedback[part], name)

    def test_faults_between_two_runs_are_refused_and_then_mended(
        self, spark, rows, sources, tmp_path
    ):
        workdir = tmp_path / "w"
        live_run(workdir, *sources)
        faults = {
            "live/checkpoint/metadata": "metadata is missing",
            "live/sources.json": "sources.json is missing",
            "live/events.files": "read 1 files, and those in .*files are others",
            "ledgers/*.sqlite": "ledger",
        }
        for name, message in faults.items():
            (path,) = workdir.glob(name)
            kept = path.rename(tmp_path / "kept")
            before = contents(workdir)
            with pytest.raises(HedgestreamError, match=message) as raised:
                live_run(workdir, *sources)
            assert "\n" not in str(raised.value)
            assert contents(workdir) == before
            kept.rename(path)
        for name in ("live/sources.json", "live/settings.json", "live/feedback.files"):
            path = workdir / name
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2] + b"\n\n")
            with pytest.raises((DamagedFileError, UserError), match=path.name):
                live_run(workdir, *sources)
            path.write_bytes(whole)
        for change, message in (
            ({"label": "truth"}, "--label is 'truth'"),
            ({"state_store": "rocksdb"}, "--state-store is 'rocksdb'"),
        ):
            with pytest.raises(UserError, match=message):
                live_run(workdir, *sources, **change)
        self.add(rows, tmp_path, slice(self.N // 2, None), "b")

        assert outcome(live_run(workdir, *sources)) == rows.expected
