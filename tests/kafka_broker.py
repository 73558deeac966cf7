"""A real Kafka broker that a test can take away and bring back."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from tests.maven import PYSPARK_JARS, fetch
from tests.waiting import wait_until

PACKAGE = "org.apache.kafka:kafka_2.13:4.1.1"

_JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
_START_SECONDS = 60.0

# The shell holds the read end of a pipe whose only writer is the test process. When that ends,
# however it ends, the read returns, and broker and shell are killed.
_WATCHDOG = """
    directory=$1; shift
    "$@" &
    read -r word
    kill -9 $!
    wait
    [ "$word" = keep ] || rm -rf "$directory"
"""

_CONFIGURATION = """
    process.roles=broker,controller
    node.id=1
    controller.quorum.voters=1@127.0.0.1:{controller_port}
    listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
    advertised.listeners=PLAINTEXT://127.0.0.1:{port}
    controller.listener.names=CONTROLLER
    listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
    log.dirs={directory}/data
    auto.create.topics.enable=false
    offsets.topic.num.partitions=1
    offsets.topic.replication.factor=1
    transaction.state.log.num.partitions=1
    transaction.state.log.replication.factor=1
    transaction.state.log.min.isr=1
    group.initial.rebalance.delay.ms=0
    log.cleaner.enable=false
    # A broker that was killed must not be taken for alive when it comes back.
    broker.heartbeat.interval.ms=500
    broker.session.timeout.ms=3000
"""

_METADATA, _CREATE_TOPICS, _DELETE_TOPICS, _DELETE_RECORDS = 3, 19, 20, 21
_REQUEST_SECONDS = 10


class KafkaBroker:
    """One broker on loopback, its own controller, that ends with the test process.

    Its ports and its data stay its own when it is killed and started again.

    Attributes
    ----------
    servers : str
        ``host:port``.
    directory : Path
        What it keeps, until it is closed or the test process ends.

    Raises
    ------
    MavenUnavailable
        When its jars are not at hand and cannot be fetched.
    """

    def __init__(self) -> None:
        self._java = [*_JAVA, "-cp", os.pathsep.join(map(str, self.jars()))]
        self._port, controller_port = _free_ports(2)
        self.servers = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="hedgestream-kafka-"))
        self._configuration = self.directory / "server.properties"
        self._log = self.directory / "broker.log"
        self._configuration.write_text(
            _CONFIGURATION.format(
                port=self._port, controller_port=controller_port, directory=self.directory
            )
        )
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        told = subprocess.run(
            [
                *self._java, "kafka.tools.StorageTool", "format",
                "--cluster-id", f"A{cluster[1:]}", "--config", self._configuration,
            ],
            capture_output=True, text=True, timeout=_START_SECONDS,
        )  # fmt: skip
        if told.returncode:
            shutil.rmtree(self.directory)
            raise AssertionError(f"Kafka's storage tool failed: {told.stdout}{told.stderr}")

    @staticmethod
    def jars() -> list[Path]:
        """Return what it runs from. Raises MavenUnavailable when that cannot be had."""
        return [*_logging_jars(), *fetch(PACKAGE)]

    def start(self) -> None:
        """Start it on the data that it has, and return when it answers."""
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [
                    "/bin/sh", "-c", _WATCHDOG, "sh", self.directory,
                    *self._java, "kafka.Kafka", self._configuration,
                ],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(self._is_up, f"a Kafka broker at {self.servers}", _START_SECONDS)

    def kill(self) -> None:
        """Kill it; its data stays."""
        self._end(b"keep\n")

    def close(self) -> None:
        """Kill it, and remove its data."""
        self._end(b"")
        shutil.rmtree(self.directory, ignore_errors=True)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        topic = _array(_text(name) + struct.pack(">ih", partitions, 1) + _array() + _array())
        answer = self._ask(_CREATE_TOPICS, 2, topic + struct.pack(">i?", 5000, False))
        _check(answer[8 + 2 + len(name.encode()) :], f"create topic {name}")
        wait_until(lambda: self._has_leaders(name, partitions), f"topic {name} has leaders")

    def delete_topic(self, name: str) -> None:
        answer = self._ask(_DELETE_TOPICS, 1, _array(_text(name)) + struct.pack(">i", 5000))
        _check(answer[8 + 2 + len(name.encode()) :], f"delete topic {name}")

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Lose a partition's messages before an offset, as if they had grown too old."""
        records = _array(_text(topic) + _array(struct.pack(">iq", partition, before)))
        answer = self._ask(_DELETE_RECORDS, 0, records + struct.pack(">i", 5000))
        _check(answer[-2:], f"delete records of {topic}")

    def _end(self, word: bytes) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.communicate(word)

    def _is_up(self) -> bool:
        if self._process.poll() is not None or b"FATAL" in self._log.read_bytes():
            raise AssertionError(f"the Kafka broker ended: {self._log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            (brokers,) = struct.unpack_from(">i", self._ask(_METADATA, 0, _array()))
            return brokers > 0
        return False

    def _has_leaders(self, name: str, partitions: int) -> bool:
        answer = self._ask(_METADATA, 0, _array(_text(name)))
        # One broker, one topic: brokers, topics, error, name, partitions[error, …].
        (length,) = struct.unpack_from(">h", answer, 8)
        at = 4 + 4 + 2 + length + 4 + 4
        (error,) = struct.unpack_from(">h", answer, at)
        at += 2 + 2 + len(name.encode())
        (found,) = struct.unpack_from(">i", answer, at)
        # error, number, leader, replicas[1], in sync[1]
        errors = [struct.unpack_from(">h", answer, at + 4 + 26 * i)[0] for i in range(found)]
        return error == 0 and errors == [0] * partitions

    def _ask(self, kind: int, version: int, body: bytes) -> bytes:
        """Send one request of Kafka's protocol and return the body of its answer."""
        request = struct.pack(">hhi", kind, version, 1) + _text("tests") + body
        address = ("127.0.0.1", self._port)
        with socket.create_connection(address, timeout=_REQUEST_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                (length,) = struct.unpack(">i", stream.read(4).ljust(4, b"\0"))
                answer = stream.read(length)
        if len(answer) < max(length, 4):
            raise ConnectionError("the broker ended the connection")
        return answer[4:]

    def __enter__(self) -> KafkaBroker:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def _array(*items: bytes) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


def _check(answer: bytes, what: str) -> None:
    (code,) = struct.unpack_from(">h", answer)
    if code:
        raise AssertionError(f"the Kafka broker did not {what}: error {code}")


def _logging_jars() -> list[Path]:
    """Return what makes the broker say why it fails; its own package brings no logger."""
    names = ("slf4j-api-*.jar", "log4j-slf4j2-impl-*.jar", "log4j-api-*.jar", "log4j-core-*.jar")
    return [next(PYSPARK_JARS.glob(name)) for name in names]


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
