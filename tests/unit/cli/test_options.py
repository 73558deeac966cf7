"""An option that cannot be used is refused by name, before anything is made."""

from __future__ import annotations

import os

import pytest

from app.config.run import EXIT
from app.files.runs import claimed
from tests.unit.command_lines import replay_with

pytestmark = pytest.mark.usefixtures("here")


class TestReplayOptions:
    @pytest.mark.parametrize("option", ["input", "format", "workdir"])
    def test_a_missing_option_is_named(self, complaint, option):
        assert complaint(*replay_with(**{option: None})) == f"Missing option '--{option}'."

    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [
            ("format", "xml", "one of csv, json, arff, libsvm, parquet, delta, not 'xml'"),
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
            ("variant", "slow", "one of stacked, fast, paper, backprop, not 'slow'"),
            ("head_rate", "0", "a number above 0, not 0.0"),
            ("input_head", "yes", "one of recursive, sgd, none, not 'yes'"),
            ("hedge_loss", "max", "one of bounded, minmax, raw, not 'max'"),
            ("gradient_clip_norm", "-1", "a number of at least 0, not -1.0"),
            ("update_batch_size", "0", "an integer of at least 1, not 0"),
            ("seed", "-1", "an integer of at least 0, not -1"),
            ("keep_snapshots", "0", "an integer of at least 1, not 0"),
            ("keep_every", "-1", "an integer of at least 0, not -1"),
            ("on_registry_outage", "wait", "one of stale, fail, not 'wait'"),
            ("registry_patience", "-1", "at least 0, not -1.0"),
            ("registry_patience", "inf", "at least 0, not inf"),
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
            "keep_snapshots",
            "keep_every",
        ],
    )
    @pytest.mark.parametrize("value", ["many", "1.5", "", "1e3"])
    def test_a_value_that_is_no_integer(self, complaint, option, value):
        name = f"--{option.replace('_', '-')}"
        expected = f"Invalid value for '{name}': must be an integer, not '{value}'"
        assert complaint(*replay_with(**{option: value})) == expected

    @pytest.mark.parametrize(
        "option",
        ["learning_rate", "beta", "smoothing", "gradient_clip_norm", "registry_patience"],
    )
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
            ({"id": "id", "workdir": "in.csv"}, "--workdir"),
            ({"id": "id", "workdir": "in.csv/below"}, "--workdir"),
            ({"id": "id", "redis_url": "localhost"}, "--redis-url"),
            ({"id": "id", "redis_url": "http://localhost"}, "--redis-url"),
            ({"id": "id", "redis_url": "redis://localhost:port"}, "--redis-url"),
            ({"id": "id", "executor_redis_url": "localhost"}, "--executor-redis-url"),
            ({"id": "id", "executor_redis_url": "redis://a?b=1"}, "--executor-redis-url"),
        ],
    )
    def test_a_file_or_a_column_that_cannot_be_used(self, complaint, options, option):
        assert complaint(*replay_with(**options)).startswith(option)

    def test_a_work_directory_in_use(self, complaint, here):
        (here / "w").mkdir()
        with claimed(here / "w", EXIT):
            message = complaint(*replay_with(id="id"), code=3)
        assert f"another run (process {os.getpid()}) is using {here}/w" in message

    def test_a_redis_that_is_not_there_is_no_mistake_of_the_options(self, complaint, monkeypatch):
        monkeypatch.setenv("REDIS_URL", "redis://u:secret@127.0.0.1:1")
        message = complaint(*replay_with(id="id"), code=1)
        assert "redis://127.0.0.1:1 cannot be reached" in message and "secret" not in message

    def test_options_are_checked_before_anything_is_made(self, complaint, here):
        complaint(*replay_with(beta="2"))
        complaint(*replay_with(label="gone"))
        assert [path.name for path in here.iterdir()] == ["in.csv"]

    def test_an_unknown_option_or_command_is_named(self, complaint):
        assert "--speed" in complaint(*replay_with(speed="9"))
        assert "reply" in complaint("reply")


COMMANDS = {
    "replay": (replay_with(id="id"), "redis-url"),
    "replay, workers": (replay_with(id="id"), "executor-redis-url"),
    "status": (["status"], "redis-url"),
    "rollback": (["rollback", "--workdir", "w", "--to", "0"], "redis-url"),
}
every_command = pytest.mark.parametrize(("command", "option"), COMMANDS.values(), ids=COMMANDS)


class TestPasswords:
    """Every user of a machine sees its command lines, and only one sees its environment."""

    @pytest.mark.parametrize(
        "url",
        [
            "redis://u:secret@127.0.0.1:1",
            "redis://:secret@127.0.0.1:1/3",
            "rediss://127.0.0.1:1?password=secret",
            "unix://u:secret@/no/such.sock",
        ],
    )
    @every_command
    def test_a_password_on_the_command_line_is_refused(self, complaint, here, command, option, url):
        message = complaint(*command, f"--{option}", url)
        variable = option.upper().replace("-", "_")
        assert message.startswith(f"Invalid value for '--{option}'")
        assert ": must not hold a password" in message
        assert message.endswith(f"environment variable {variable}")
        assert "secret" not in message
        assert [path.name for path in here.iterdir()] == ["in.csv"]

    @pytest.mark.parametrize(
        "command", [replay_with(id="id"), ["status"]], ids=["replay", "status"]
    )
    def test_a_password_in_the_environment_is_taken(self, complaint, monkeypatch, command):
        monkeypatch.setenv("REDIS_URL", "redis://u:secret@127.0.0.1:1")
        message = complaint(*command, code=1)
        assert "redis://127.0.0.1:1 cannot be reached" in message and "secret" not in message

    def test_a_url_without_a_password_is_taken_before_that_of_the_environment(
        self, complaint, monkeypatch
    ):
        monkeypatch.setenv("REDIS_URL", "redis://u:secret@127.0.0.1:1")
        message = complaint("status", "--redis-url", "redis://127.0.0.1:2", code=1)
        assert "redis://127.0.0.1:2 cannot be reached" in message

    @pytest.mark.parametrize("variable", ["REDIS_URL", "EXECUTOR_REDIS_URL"])
    def test_an_unusable_url_of_the_environment_is_told_as_the_option(
        self, complaint, monkeypatch, variable
    ):
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
        monkeypatch.setenv(variable, "redis://u:secret@127.0.0.1:port")
        message = complaint(*replay_with(id="id"))
        option = "--" + variable.lower().replace("_", "-")
        assert message.startswith(f"{option} must look like") and "secret" not in message


class TestVersions:
    @pytest.mark.parametrize("command", ["history", "rollback", "rebuild"])
    @pytest.mark.parametrize("workdir", [".", "gone", "in.csv"])
    def test_a_directory_without_a_model(self, complaint, here, command, workdir):
        to = [] if command == "history" else ["--to", "0"]
        message = complaint(command, "--workdir", workdir, *to)
        assert message == f"--workdir: {workdir} holds no model"
        assert [path.name for path in here.iterdir()] == ["in.csv"]

    @pytest.mark.parametrize("command", ["rollback", "rebuild"])
    @pytest.mark.parametrize("version", ["first", "1.5", ""])
    def test_a_version_that_is_no_integer(self, complaint, command, version):
        message = complaint(command, "--workdir", "w", "--to", version)
        assert message == f"Invalid value for '--to': must be an integer, not '{version}'"

    @pytest.mark.parametrize("command", ["history", "rollback", "rebuild"])
    def test_a_missing_work_directory_is_named(self, complaint, command):
        to = [] if command == "history" else ["--to", "0"]
        assert complaint(command, *to) == "Missing option '--workdir'."
