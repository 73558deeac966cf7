"""The broker that tests use ends with them, whatever ends them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import maven
from tests.kafka_broker import KafkaBroker
from tests.maven import MavenUnavailable, fetch
from tests.waiting import wait_until

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

_OWNER = """
import sys
from tests.kafka_broker import KafkaBroker
with KafkaBroker() as broker:
    print(broker.servers, broker.directory, flush=True)
    sys.stdin.read()
"""


def answers(servers: str) -> bool:
    host, port = servers.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_a_killed_owner_leaves_no_broker_and_no_data_behind():
    try:
        KafkaBroker.jars()
    except MavenUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        cwd=Path(__file__).resolve().parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        try:
            servers, directory = owner.stdout.readline().split()
            assert answers(servers)
        finally:
            os.kill(owner.pid, signal.SIGKILL)
    wait_until(lambda: not answers(servers), "the broker has ended")
    wait_until(lambda: not Path(directory).exists(), "its data is gone")


@pytest.fixture
def nothing_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(maven, "_IVY", tmp_path)


def test_a_maven_central_that_cannot_be_reached_is_told_with_the_reason(
    nothing_cached, monkeypatch
):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        proxy = f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={deaf.getsockname()[1]}"
        monkeypatch.setenv("JAVA_TOOL_OPTIONS", proxy)
        with pytest.raises(MavenUnavailable, match="cannot be reached: .*Connection refused$"):
            fetch("org.slf4j:slf4j-api:1.7.36")


def test_a_package_that_does_not_exist_is_no_reason_to_skip(nothing_cached):
    try:
        fetch("org.slf4j:slf4j-api:1.7.36")
    except MavenUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with pytest.raises(RuntimeError, match="cannot be resolved"):
        fetch("org.slf4j:slf4j-api:0.0.0")
