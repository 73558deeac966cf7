"""A password of Redis is shown nowhere: not by a run, not by an error, not by a command line."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import socket
import string
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from pyspark.sql import SparkSession

from app.cli.console import run
from app.cli.main import cli
from app.config.model import ModelConfig
from app.errors import HedgestreamError, RegistryError
from app.model import HBPClassifier
from app.model.state import config_to_metadata
from app.redis_io.embedded import EmbeddedRedis
from app.registry.redis_store import RedisVersionStore
from app.registry.registry import ModelRegistry
from app.scoring.live_model import InitialModel, LiveModel, ModelSource
from tests.integration.redis_servers import Authority, add_user, tls_in_front_of, url_as
from tests.integration.streams import small_csv, small_replay, small_settings

ROOT = Path(__file__).resolve().parents[2]

# Found as it is in any encoding of what is around it.
SECRET = "hunter2hunter2"
PASSWORD = f"{SECRET}{string.punctuation} é%41"

USERS = ("learner", "scorer")

_LOOK_SECONDS = 0.05


@contextlib.contextmanager
def server_with_users() -> Iterator[EmbeddedRedis]:
    """Yield a server on which the users of model ``default`` have passwords of all characters."""
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as admin:
        for user in USERS:
            add_user(admin, user, PASSWORD, "default")
        yield server


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with server_with_users() as server:
        yield server


@pytest.fixture
def urls(server) -> list[str]:
    """Return the URLs of the learner and of the scorer."""
    return [url_as(server.url, user, PASSWORD) for user in USERS]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch) -> None:
    for name in ("REDIS_URL", "EXECUTOR_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command line in this process: code, output, errors."""

    def call_cli(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["app", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run(cli)
        return stopped.value.code, *capsys.readouterr()

    return call_cli


def replay_options(path: Path, workdir: Path) -> list[str]:
    return [
        "replay", "--input", str(path), "--format", "csv", "--label", "label",
        "--workdir", str(workdir), "--rows-per-batch", "100", "--layers", "3", "--units", "8",
    ]  # fmt: skip


def as_reached_on(url: str, address: str) -> str:
    """Return the URL of the same user and password at another place."""
    return f"{url.rpartition('@')[0]}@{address}"


class Spy:
    """Looks at all that the processes of a session show, and at every file they write.

    Attributes
    ----------
    programs : set of bytes
        All command lines seen.
    files : set
        All files read, each with its size at that time.
    leaks : list
        Where the secret was found.
    """

    def __init__(self, session: int, directory: Path) -> None:
        self._session = session
        self._directory = directory
        self.programs: set[bytes] = set()
        self.files: set[tuple[Path, int]] = set()
        self.leaks: list[object] = []

    def look(self) -> None:
        lines = set(self._command_lines()) - self.programs
        self.programs |= lines
        self.leaks += [line for line in lines if SECRET.encode() in line]
        for directory, _, names in os.walk(self._directory):
            for path in (Path(directory, name) for name in names):
                # Files come and go meanwhile.
                with contextlib.suppress(OSError):
                    seen = (path, path.stat().st_size)
                    if seen not in self.files:
                        self.leaks += [path] if SECRET.encode() in path.read_bytes() else []
                        self.files.add(seen)

    def _command_lines(self) -> Iterator[bytes]:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                session = (process / "stat").read_text().rpartition(")")[2].split()[3]
                if int(session) == self._session:
                    yield (process / "cmdline").read_bytes()


def test_a_run_shows_no_password_while_it_runs_and_leaves_none(server, urls, tmp_path):
    authority = Authority(tmp_path / "ca.pem")
    conf, seen = tmp_path / "conf", tmp_path / "seen"
    for directory in (conf, seen / "events", seen / "local"):
        directory.mkdir(parents=True)
    # The event log has what the pages of Spark's UI are made of.
    (conf / "spark-defaults.conf").write_text(
        f"spark.eventLog.enabled true\nspark.eventLog.dir file:{seen}/events\n"
        "spark.eventLog.compress false\nspark.eventLog.rolling.enabled false\n"
    )
    command = replay_options(small_csv(tmp_path / "rows.csv", 200), seen / "workdir")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK_", "SPARK_"))}
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(
            tls_in_front_of(server.url, authority.server_context("127.0.0.1"))
        )
        learner, scorer = (
            as_reached_on(url, f"127.0.0.1:{port}/0?ssl_ca_certs={authority.path}").replace(
                "redis://", "rediss://"
            )
            for url in urls
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "app", *command, "--on-registry-outage", "fail", "--json"],
            cwd=ROOT,
            env=clean
            | {"REDIS_URL": learner, "EXECUTOR_REDIS_URL": scorer}
            | {"SPARK_CONF_DIR": str(conf), "SPARK_LOCAL_DIRS": str(seen / "local")},
            stdout=stack.enter_context(open(seen / "stdout", "w")),
            stderr=stack.enter_context(open(seen / "stderr", "w")),
            start_new_session=True,
        )
        spy = Spy(process.pid, seen)
        try:
            while process.poll() is None:
                spy.look()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    spy.look()

    assert process.returncode == 0, (seen / "stderr").read_text()
    summary = json.loads((seen / "stdout").read_text())
    assert (summary["rows_learned"], summary["rows_stale"]) == (200, 0)
    for program in (b"-m\0app\0", b"java\0", b"pyspark.daemon"):
        assert any(program in line for line in spy.programs), program
    (events,) = (seen / "events").iterdir()
    for shown in ("SparkListenerEnvironmentUpdate", "sun.java.command", "MapInArrow"):
        assert shown in events.read_text(), shown
    places = {path.relative_to(seen).parts[0] for path, _ in spy.files}
    assert places == {"workdir", "events", "local", "stdout", "stderr"}
    assert spy.leaks == []


@pytest.fixture(scope="module")
def failure(tmp_path_factory) -> RegistryError:
    """Return the error of a run whose scorer is not let in, after one where both are."""
    directory = tmp_path_factory.mktemp("failure")
    stream = small_csv(directory / "rows.csv", 200)
    with server_with_users() as server:
        learner = {"redis_url": url_as(server.url, "learner", PASSWORD)}
        scorer = url_as(server.url, "scorer", PASSWORD)
        small_replay(stream, directory / "w", **learner, executor_redis_url=scorer)
        refused = url_as(server.url, "scorer", f"{PASSWORD}x")
        with pytest.raises(RegistryError) as caught:
            small_replay(stream, directory / "w", **learner, executor_redis_url=refused)
    return caught.value


def test_a_scorer_that_is_not_let_in_ends_the_run_in_one_line(failure):
    assert str(failure).startswith("Redis at redis://127.0.0.1")
    assert len(str(failure).splitlines()) == 1
    assert "password" in str(failure)
    assert SECRET not in "".join(traceback.format_exception(failure))


def test_spark_is_told_no_password(failure, spark: SparkSession):
    context = spark.sparkContext
    shown = [*context.getConf().getAll(), *spark.conf.getAll.items()]
    shown += context._jvm.System.getProperties().items()
    assert {"spark.app.id", "spark.sql.session.timeZone", "java.home"} <= dict(shown).keys()
    assert [pair for pair in shown if SECRET in str(pair)] == []


def test_a_password_may_have_any_character_when_it_is_percent_encoded(server, urls):
    for url in urls:
        with contextlib.closing(RedisVersionStore(url, "default")) as heads:
            assert heads.read() is None


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


UNUSABLE = [
    f"http://learner:{SECRET}@cache",
    f"redis://learner:{SECRET}@",
    f"redis://learner:{SECRET}@cache:port",
    f"redis://learner:{SECRET}@cache..example",
    f"redis://learner:{SECRET}[@cache",
    f"redis://learner:{SECRET}/@cache",
    # The password's digits would be the port, and what follows them a part of the URL.
    f"redis://learner:12/{SECRET}@cache",
    f"redis://learner:12#{SECRET}@cache",
    f"redis://learner:12?{SECRET}=x@cache",
    f"redis://learner:12?db={SECRET}@cache",
    f"unix://learner:12/{SECRET}@/run/redis.sock",
    f"redis://learner:{SECRET}@cache?nonsense=1",
    f"redis://learner:{SECRET}@cache?socket_timeout=soon",
    f"rediss://learner:{SECRET}@cache?ssl_cert_reqs=nonsense",
]
REFUSED = {
    "wrong password": (f"redis://learner:{SECRET}@127.0.0.1:{{port}}", "refused: .*password"),
    "unknown user": (f"redis://{SECRET}:{SECRET}@127.0.0.1:{{port}}", "refused: .*password"),
    "without TLS": (f"rediss://learner:{SECRET}@127.0.0.1:{{port}}?socket_timeout=0.2", "reached"),
    "unreachable": (f"redis://learner:{SECRET}@127.0.0.1:{{unused}}", "cannot be reached"),
    "no socket": (f"unix://learner:{SECRET}@/no/such.sock", "unix:///no/such.sock cannot"),
}


class TestErrors:
    @pytest.mark.parametrize("url", UNUSABLE)
    @pytest.mark.parametrize("variable", ["REDIS_URL", "EXECUTOR_REDIS_URL"])
    def test_an_unusable_url_ends_with_code_2_and_one_line(
        self, url, variable, call, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
        monkeypatch.setenv(variable, url)
        options = replay_options(small_csv(tmp_path / "rows.csv", 10), tmp_path / "w")
        code, output, errors = call(*options)
        option = "--" + variable.lower().replace("_", "-")
        assert (code, output) == (2, "")
        assert errors.startswith(f"error: {option} ") and errors.count("\n") == 1
        assert SECRET not in errors

    @pytest.mark.parametrize("url", UNUSABLE)
    def test_an_unusable_url_is_in_no_traceback(self, url):
        with pytest.raises(HedgestreamError) as caught:
            RedisVersionStore(url, "m")
        assert SECRET not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize(("url", "told"), REFUSED.values(), ids=REFUSED)
    def test_a_server_that_does_not_let_in_ends_with_code_1_and_one_line(
        self, url, told, server, call, tmp_path, monkeypatch
    ):
        port = urlsplit(server.url).port
        monkeypatch.setenv("REDIS_URL", url.format(port=port, unused=unused_port()))
        path = small_csv(tmp_path / "rows.csv", 10)
        for options in (["status"], replay_options(path, tmp_path / "w")):
            code, output, errors = call(*options)
            assert (code, output) == (1, "")
            assert errors.startswith("error: Redis at ") and errors.count("\n") == 1
            assert re.search(told, errors)
            assert SECRET not in errors

    def test_a_scorer_that_is_not_let_in_logs_no_password(self, server, urls, tmp_path, caplog):
        config = ModelConfig(n_features=2, n_classes=2, n_hidden_layers=1, n_hidden_units=2)
        state = HBPClassifier.from_config(config).get_state()
        with contextlib.closing(RedisVersionStore(urls[0], "default")) as heads:
            registry = ModelRegistry(heads, tmp_path)
            first = registry.create(state, config_to_metadata(config))
            source = ModelSource(
                redis_url=url_as(server.url, "scorer", f"{PASSWORD}x"),
                model="default",
                min_version=first,
                snapshots=str(tmp_path),
                fail_on_outage=False,
            )
            initial = InitialModel(first, registry.read(first).data)
        scorer = contextlib.closing(LiveModel(source, initial))
        with caplog.at_level(logging.WARNING), scorer as live:
            assert live.refresh(source)
        assert "refused: " in caplog.text
        assert SECRET not in caplog.text + repr(source)

    def test_a_bug_shows_no_url(self, tmp_path, monkeypatch, capsys):
        def bug(*args: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setenv("HEDGESTREAM_TRACEBACK", "1")
        monkeypatch.setattr("app.streaming.replay.replay", bug)
        monkeypatch.setattr(sys, "argv", ["app", *replay_options(tmp_path, tmp_path / "w")])
        monkeypatch.setenv("REDIS_URL", f"redis://learner:{SECRET}@cache")
        with pytest.raises(ZeroDivisionError) as caught:
            run(cli)
        sys.excepthook(caught.type, caught.value, caught.tb)
        shown = capsys.readouterr().err
        assert "ZeroDivisionError" in shown
        assert SECRET not in shown

    def test_settings_show_no_url(self, tmp_path):
        url = f"redis://learner:{SECRET}@cache"
        settings = small_settings(tmp_path, tmp_path, redis_url=url, executor_redis_url=url)
        assert "workdir" in repr(settings)
        assert SECRET not in repr(settings)


class TestCommandLine:
    @pytest.mark.parametrize(
        "url",
        [
            f"redis://learner:{SECRET}@cache",
            f"redis://:{SECRET}@cache:6380/1",
            f"rediss://cache?username=learner&password={SECRET}",
            f"unix://learner:{SECRET}@/run/redis.sock",
            f"unix:///run/redis.sock?password={SECRET}",
        ],
    )
    @pytest.mark.parametrize(
        ("command", "option"),
        [
            ("replay", "redis-url"),
            ("replay", "executor-redis-url"),
            ("status", "redis-url"),
            ("rollback", "redis-url"),
        ],
    )
    def test_a_password_is_refused_with_code_2(self, command, option, url, call, tmp_path):
        options = {
            "replay": replay_options(small_csv(tmp_path / "rows.csv", 10), tmp_path / "w"),
            "status": ["status"],
            "rollback": ["rollback", "--workdir", tmp_path, "--to", "0"],
        }
        code, output, errors = call(*options[command], f"--{option}", url)
        assert (code, output) == (2, "")
        assert errors.startswith("error: ") and errors.count("\n") == 1
        assert f"--{option}" in errors and "must not hold a password" in errors
        assert option.upper().replace("-", "_") in errors
        assert SECRET not in errors
        assert not (tmp_path / "w").exists()

    def test_a_url_without_a_password_is_taken(self, call):
        code, _, errors = call("status", "--redis-url", f"redis://127.0.0.1:{unused_port()}")
        assert code == 1
        assert "cannot be reached" in errors
