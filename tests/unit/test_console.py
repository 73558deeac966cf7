"""A command line ends with its exit code, and a mistake with one line that names the option."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app.__main__ import cli
from app.console import integer, number, run
from app.errors import (
    DivergedError,
    HedgestreamError,
    InvalidParameterError,
    RegistryUnavailableError,
    UserError,
)
from app.monitor.batch_log import BatchLog, BatchRecord
from app.registry.head import HeadRecord
from app.registry.snapshots import DurableHead, SnapshotStore

ROOT = Path(__file__).resolve().parents[2]
CSV = "id,x0,x1,y\na,1,2,0\nb,3,4,1\n"
HEAD = HeadRecord(3, "ab" * 32, "v3.safetensors", "2024-01-01T00:00:00+00:00", {"q": 7})
RECORD = BatchRecord("q", 0, 9, 9, {}, 1, 1, 1, [1.0], "2024-01-01T00:00:00+00:00")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Run in a directory with a readable input and nothing else that matters."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDIS_URL", raising=False)
    Path("in.csv").write_text(CSV)
    return tmp_path


@pytest.fixture
def call(monkeypatch, capsys):
    """Return a function that runs a command line in this process: code, output, errors."""

    def call_cli(*args, cli=cli):
        monkeypatch.setattr(sys, "argv", ["app", *args])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run(cli)
        return stopped.value.code, *capsys.readouterr()

    return call_cli


@pytest.fixture
def complaint(call):
    """Return a function that gives the one line with which a command line is refused."""

    def refused(*args, code=2):
        found, output, errors = call(*args)
        assert (found, output) == (code, "")
        assert errors.startswith("error: ") and errors.count("\n") == 1
        return errors.removeprefix("error: ").rstrip("\n")

    return refused


def replay_with(**options) -> list[str]:
    given = {"input": "in.csv", "format": "csv", "label": "y", "workdir": "w"} | options
    pairs = ((f"--{name.replace('_', '-')}", value) for name, value in given.items())
    return ["replay", *(part for pair in pairs for part in pair if pair[1] is not None)]


class TestReplayOptions:
    @pytest.mark.parametrize("option", ["input", "format", "label", "workdir"])
    def test_a_missing_option_is_named(self, complaint, option):
        assert complaint(*replay_with(**{option: None})) == f"Missing option '--{option}'."

    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [
            ("format", "xml", "one of csv, json, parquet, delta, not 'xml'"),
            ("rows_per_batch", "0", "an integer of at least 1, not 0"),
            ("rows_per_batch", "-5", "an integer of at least 1, not -5"),
            ("model", "a b", "a name of letters, digits, '-', '_' and '.', not 'a b'"),
            ("model", "", "a name of letters"),
            ("classes", "a", "at least two labels"),
            ("classes", "a,a", "different names, none of them empty"),
            ("classes", "a,,b", "different names, none of them empty"),
            ("features", "x0,x0", "different names, none of them empty"),
            ("features", "", "different names, none of them empty"),
            ("layers", "0", "an integer of at least 1, not 0"),
            ("units", "0", "an integer of at least 1, not 0"),
            ("learning_rate", "0", "a number above 0, not 0.0"),
            ("learning_rate", "nan", "a number above 0, not nan"),
            ("learning_rate", "inf", "a number above 0, not inf"),
            ("beta", "1", "between 0 and 1, not 1.0"),
            ("beta", "0", "between 0 and 1, not 0.0"),
            ("smoothing", "1.5", "from 0 to 1, not 1.5"),
            ("hedge_loss", "max", "one of minmax, raw, not 'max'"),
            ("gradient_clip_norm", "-1", "a number above 0 or None, not -1.0"),
            ("update_batch_size", "0", "an integer of at least 1, not 0"),
            ("seed", "-1", "an integer of at least 0, not -1"),
        ],
    )
    def test_a_value_outside_its_range(self, complaint, option, value, expected):
        message = complaint(*replay_with(**{option: value}))
        assert message.startswith(f"--{option.replace('_', '-')} must be {expected}")

    @pytest.mark.parametrize(
        "option",
        [
            "rows_per_batch",
            "layers",
            "units",
            "update_batch_size",
            "seed",
        ],
    )
    @pytest.mark.parametrize("value", ["many", "1.5", "", "1e3"])
    def test_a_value_that_is_no_integer(self, complaint, option, value):
        name = f"--{option.replace('_', '-')}"
        expected = f"Invalid value for '{name}': must be an integer, not '{value}'"
        assert complaint(*replay_with(**{option: value})) == expected

    @pytest.mark.parametrize("option", ["learning_rate", "beta", "smoothing", "gradient_clip_norm"])
    @pytest.mark.parametrize("value", ["fast", "0,1", ""])
    def test_a_value_that_is_no_number(self, complaint, option, value):
        name = f"--{option.replace('_', '-')}"
        expected = f"Invalid value for '{name}': must be a number, not '{value}'"
        assert complaint(*replay_with(**{option: value})) == expected

    @pytest.mark.parametrize(
        ("options", "option"),
        [
            ({"input": "gone.csv"}, "--input"),
            ({"format": "parquet"}, "--input"),
            ({"format": "json"}, "--input"),
            ({"input": "gone", "format": "delta"}, "--input"),
            ({"label": "gone"}, "--label"),
            ({"id": "gone"}, "--id"),
            ({"time": "gone"}, "--time"),
            ({"features": "x0,gone"}, "--features"),
            ({"features": "x0,y"}, "--features"),
            ({"features": "id"}, "--features"),
            ({}, "--features"),
            ({"id": "id", "workdir": "in.csv"}, "--workdir"),
            ({"id": "id", "workdir": "in.csv/below"}, "--workdir"),
            ({"id": "id", "redis_url": "localhost"}, "--redis-url"),
            ({"id": "id", "redis_url": "http://localhost"}, "--redis-url"),
            ({"id": "id", "redis_url": "redis://localhost:port"}, "--redis-url"),
        ],
    )
    def test_a_file_or_a_column_that_cannot_be_used(self, complaint, options, option):
        assert complaint(*replay_with(**options)).startswith(option)

    def test_a_work_directory_in_use(self, complaint, here):
        (here / "w").mkdir()
        with open(here / "w/.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            message = complaint(*replay_with(id="id"))
        assert message == f"--workdir: another run is using {here}/w"

    def test_a_redis_that_is_not_there_is_no_mistake_of_the_options(self, complaint):
        message = complaint(*replay_with(id="id", redis_url="redis://u:secret@127.0.0.1:1"), code=1)
        assert "redis://127.0.0.1:1 cannot be reached" in message and "secret" not in message

    def test_options_are_checked_before_anything_is_made(self, complaint, here):
        complaint(*replay_with(beta="2"))
        complaint(*replay_with(label="gone"))
        assert [path.name for path in here.iterdir()] == ["in.csv"]

    def test_an_unknown_option_or_command_is_named(self, complaint):
        assert "--speed" in complaint(*replay_with(speed="9"))
        assert "reply" in complaint("reply")


class TestStatus:
    @pytest.fixture
    def workdir(self, here):
        SnapshotStore(here / "w/snapshots").write_head(DurableHead("default", HEAD, {}))
        return "w"

    def test_every_field_of_the_head_is_shown(self, call, workdir):
        code, output, errors = call("status", "--workdir", workdir)
        assert (code, errors) == (0, "")
        assert [line.split(maxsplit=1) for line in output.splitlines()[:2]] == [
            ["model", "default"],
            ["version", "3"],
        ]
        assert "query q up to batch 7" in output and HEAD.state_sha256 in output

    def test_json_holds_the_head(self, call, workdir):
        code, output, _ = call("status", "--workdir", workdir, "--json")
        assert code == 0
        assert json.loads(output) == {"model": "default"} | dataclasses.asdict(HEAD)

    def test_a_model_that_applied_nothing_says_none(self, call, here):
        head = DurableHead("default", dataclasses.replace(HEAD, applied={}), {})
        SnapshotStore(here / "w/snapshots").write_head(head)
        _, output, _ = call("status", "--workdir", "w")
        assert ["applied", "none"] in [line.split() for line in output.splitlines()]

    @pytest.mark.parametrize("name", [".", "gone", "in.csv"])
    def test_a_directory_without_a_model(self, complaint, here, name):
        message = complaint("status", "--workdir", name)
        assert message == f"--workdir: {name} holds no model"
        assert not (here / name / "snapshots").exists()

    def test_a_model_of_another_name(self, complaint, workdir):
        message = complaint("status", "--workdir", workdir, "--model", "other")
        assert message == "--workdir: w holds no model 'other'"

    @pytest.mark.parametrize("both", [[], ["--workdir", "w", "--redis-url", "redis://localhost"]])
    def test_neither_or_both_places(self, complaint, both):
        message = complaint("status", *both)
        assert "--workdir" in message and "--redis-url" in message

    def test_a_head_file_that_is_none_is_named(self, complaint, workdir):
        Path("w/snapshots/HEAD.json").write_text("{}")
        assert "w/snapshots/HEAD.json" in complaint("status", "--workdir", workdir, code=1)

    @pytest.mark.parametrize("url", ["localhost", "http://localhost", "redis://localhost:x"])
    def test_a_url_that_is_none(self, complaint, url):
        assert complaint("status", "--redis-url", url).startswith("--redis-url must look like")


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
            (DivergedError("NaN"), 1, "NaN"),
            (RegistryUnavailableError("gone"), 1, "gone"),
            (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
            (typer.Abort(), 130, "interrupted; run the same command again to go on"),
        ],
    )
    def test_an_error_gives_its_code_and_one_line(self, call, raised, code, line):
        failing = typer.Typer()

        @failing.command()
        def fail() -> None:
            raise raised

        assert call(cli=failing) == (code, "", f"error: {line}\n")

    @pytest.mark.parametrize("code", [0, 3])
    def test_a_command_may_choose_its_own_code(self, call, code):
        choosing = typer.Typer()

        @choosing.command()
        def choose() -> None:
            raise typer.Exit(code)

        assert call(cli=choosing) == (code, "", "")

    def test_an_error_of_the_program_keeps_its_traceback(self, monkeypatch):
        broken = typer.Typer()

        @broken.command()
        def fail() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(sys, "argv", ["app"])
        with pytest.raises(ZeroDivisionError):
            run(broken)

    def test_no_command_at_all_shows_the_help_and_no_empty_error(self, call):
        code, output, errors = call()
        assert code in (0, 2)
        assert "replay" in output + errors
        assert errors.strip() != "error:"


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [(integer, "12", 12), (integer, " -3 ", -3), (number, "1e-3", 1e-3), (number, "2", 2.0)],
)
def test_a_number_is_parsed(parse, text, value):
    assert parse(text) == value
    assert type(parse(text)) is type(value)


HELP = """
import sys
from app.__main__ import cli
from app.console import run
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
        ["replay", "--input", "a", "--format", "xml", "--label", "y", "--workdir", "w"],
    ],
    ids=["help", "replay help", "status help", "bad option"],
)
def test_help_and_mistakes_do_not_wait_for_spark_or_tensorflow(args):
    done = python("-c", HELP, *args)
    loaded = done.stderr.splitlines()[-1]
    assert "'app'" in loaded
    for package in ("pyspark", "py4j", "tensorflow", "keras", "matplotlib"):
        assert f"'{package}'" not in loaded
    assert done.returncode == (2 if "xml" in args else 0)


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
