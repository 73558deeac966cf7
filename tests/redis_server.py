"""A real redis-server that a test can take away and bring back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import redis

from app.redis_io.embedded import server_binary
from tests.waiting import wait_until


class RedisServer:
    """A redis-server that keeps nothing, on a port that stays its own.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}/0"
        self._command = [
            server_binary(), "--bind", "127.0.0.1", "--port", str(port), "--save", "",
            "--dir", str(directory),
        ]  # fmt: skip
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, empty."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        with redis.Redis.from_url(self.url, retry=None) as client:
            wait_until(lambda: _answers(client), "redis-server answers")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again, empty."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Let it answer nothing, with every connection open."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.RedisError:
        return False
