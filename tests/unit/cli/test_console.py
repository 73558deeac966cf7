"""A command line ends with its exit code, and a mistake with one line that names the option."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import click
import pytest

from app.cli.console import run
from app.errors import (
    DamagedFileError,
    HedgestreamError,
    InvalidParameterError,
    RegistryUnavailableError,
    StoppedEarlyError,
    StorageError,
    TakenOverError,
    UserError,
    WorkdirInUseError,
)
from app.monitor.batch_log import BatchLog
from app.monitor.records import BatchRecord
from tests.unit.command_lines import CSV, replay_with

pytestmark = pytest.mark.usefixtures("here")

ROOT = Path(__file__).resolve().parents[3]
RECORD = BatchRecord("q", 0, 9, 9, {}, 1, 1, 1, [1.0], "2024-01-01T00:00:00+00:00")


def noted(error: Exception, note: str) -> Exception:
    error.add_note(note)
    return error


class TestReport:
    def test_the_image_is_written_and_named(self, call, here):
        BatchLog(here / "w/batches").write(RECORD)
        code, output, errors = call("report", "--workdir", "w", "--output", "r.png", "--drift", "3")
        assert (code, output, errors) == (0, "r.png\n", "")
        assert Path("r.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    @pytest.mark.parametrize("workdir", [".", "gone"])
    def test_nothing_learned(self, complaint, workdir):
        message = complaint("report", "--workdir", workdir, "--output", "r.png")
        assert message.startswith("--workdir: nothing has been learned")
        assert not Path("r.png").exists()

    @pytest.mark.parametrize("drift", ["a", "1;2", "1.5", "1,b"])
    def test_drifts_that_are_no_row_numbers(self, complaint, here, drift):
        BatchLog(here / "w/batches").write(RECORD)
        message = complaint("report", "--workdir", "w", "--output", "r.png", "--drift", drift)
        assert message == f"--drift must be row numbers a,b,c, not '{drift}'"

    @pytest.mark.parametrize("output", ["r.xyz", "gone/r.png", "in.csv/r.png"])
    def test_an_image_that_cannot_be_written(self, complaint, here, output):
        BatchLog(here / "w/batches").write(RECORD)
        message = complaint("report", "--workdir", "w", "--output", output)
        assert message.startswith("--output")


class TestGenerate:
    def test_the_stream_is_written_and_its_drifts_told(self, call):
        code, output, errors = call(
            "generate", "--output", "made/s.csv", "--rows", "90", "--features", "3"
        )
        assert (code, output, errors) == (0, "30,60\n", "")
        lines = Path("made/s.csv").read_text().splitlines()
        assert len(lines) == 91
        assert lines[0].replace('"', "") == "x0,x1,x2,label"

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("--rows", "0"),
            ("--rows", "-5"),
            ("--rows", "many"),
            ("--features", "0"),
            ("--features", "-1"),
            ("--features", "x"),
            ("--seed", "-1"),
            ("--seed", "x"),
            ("--output", "."),
            ("--output", "in.csv/s.csv"),
        ],
    )
    def test_a_value_that_cannot_be_used(self, complaint, option, value):
        given = {"--output": "s.csv", "--rows": "9", "--features": "2"} | {option: value}
        message = complaint("generate", *(part for pair in given.items() for part in pair))
        assert option in message


class TestRun:
    @pytest.mark.parametrize(
        ("raised", "code", "line"),
        [
            (InvalidParameterError("n_hidden_layers", "must be 1"), 2, "--layers must be 1"),
            (InvalidParameterError("redis_url", "is odd"), 2, "--redis-url is odd"),
            (UserError("--input: two\n   lines"), 2, "--input: two lines"),
            (HedgestreamError("no"), 1, "no"),
            (StorageError("full"), 1, "full"),
            (RegistryUnavailableError("gone"), 1, "gone"),
            (
                DamagedFileError("a/b.json", "cut short"),
                1,
                "a/b.json is damaged: cut short. Restore it from a copy",
            ),
            (WorkdirInUseError("in use"), 3, "in use"),
            (TakenOverError("taken over"), 4, "taken over"),
            (StoppedEarlyError("stopped"), 143, "stopped"),
            (noted(StorageError("full"), "in batch 3"), 1, "full; in batch 3"),
            (noted(UserError("gone"), "in batch 3"), 2, "gone; in batch 3"),
            (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
        ],
    )
    def test_an_error_gives_its_code_and_one_line(self, call, raised, code, line):
        @click.command()
        def failing() -> None:
            raise raised

        assert call(cli=failing) == (code, "", f"error: {line}\n")

    @pytest.mark.parametrize("code", [0, 3])
    def test_a_command_may_choose_its_own_code(self, call, code):
        @click.command()
        @click.pass_context
        def choosing(context: click.Context) -> None:
            context.exit(code)

        assert call(cli=choosing) == (code, "", "")

    @pytest.mark.parametrize(
        ("raised", "said"),
        [
            (ZeroDivisionError(), "ZeroDivisionError"),
            (KeyError("query"), "KeyError: 'query'"),
            (sqlite3.DatabaseError("file is not\na database"), "file is not a database"),
            (RecursionError("too deep"), "RecursionError: too deep"),
            (BrokenPipeError(32, "Broken pipe"), "BrokenPipeError: [Errno 32] Broken pipe"),
            (FileNotFoundError(2, "No such file", "a"), "[Errno 2] No such file: 'a'"),
        ],
    )
    def test_a_fault_of_the_program_is_one_line_that_says_so(self, call, raised, said):
        @click.command()
        def broken() -> None:
            raise raised

        code, output, errors = call(cli=broken)
        assert (code, output) == (1, "")
        assert f"{said}. This is a fault of hedgestream; HEDGESTREAM_TRACEBACK=1 shows" in errors
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1

    def test_a_full_disk_is_no_fault_of_the_program(self, call):
        @click.command()
        def writing() -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "/x")

        code, _, errors = call(cli=writing)
        assert (code, errors) == (1, "error: [Errno 28] No space left on device: '/x'\n")

    @pytest.mark.parametrize("kind", [ZeroDivisionError, BrokenPipeError])
    def test_developers_can_have_the_traceback(self, monkeypatch, kind):
        @click.command()
        def broken() -> None:
            raise kind

        monkeypatch.setattr(sys, "argv", ["app"])
        monkeypatch.setenv("HEDGESTREAM_TRACEBACK", "1")
        with pytest.raises(kind):
            run(broken)

    def test_no_command_at_all_shows_the_help_and_no_empty_error(self, call):
        code, output, errors = call()
        assert (code, errors) == (2, "")
        assert "replay" in output

    def test_a_reader_that_has_gone_ends_it_quietly(self):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "app", "replay", "--help"],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, "")


HELP = """
import sys
from app.cli.main import cli
from app.cli.console import run
sys.argv = ["app", *sys.argv[1:]]
try:
    run(cli)
finally:
    print(sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def python(*args, cwd=ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["replay", "--help"],
        ["status", "--help"],
        ["history", "--help"],
        ["rollback", "--workdir", "gone", "--to", "0"],
        ["replay", "--input", "a", "--format", "xml", "--label", "y", "--workdir", "w"],
    ],
    ids=["help", "replay help", "status help", "history help", "no model", "bad option"],
)
def test_help_and_mistakes_do_not_wait_for_spark_or_tensorflow(args):
    done = python("-c", HELP, *args)
    loaded = done.stderr.splitlines()[-1]
    assert "'app'" in loaded
    for package in ("pyspark", "py4j", "tensorflow", "keras", "matplotlib"):
        assert f"'{package}'" not in loaded
    assert done.returncode == (0 if "--help" in args else 2)


@pytest.mark.parametrize("entry", [["-m", "app", "replay"], ["app/replay.py"]])
def test_every_entry_point_starts(entry):
    done = python(*entry, "--help")
    assert done.returncode == 0
    assert "--rows-per-batch" in done.stdout
    assert done.stderr == ""


def test_a_script_below_app_is_run_from_anywhere(tmp_path):
    (tmp_path / "in.csv").write_text(CSV)
    options = replay_with(label="gone", input=str(tmp_path / "in.csv"))[1:]
    done = python(str(ROOT / "app/replay.py"), *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --label: no column 'gone'")
