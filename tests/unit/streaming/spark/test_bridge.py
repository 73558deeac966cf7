"""What is left of the bridge to a JVM that has ended does not get in the way, or print."""

from __future__ import annotations

import logging
import socket
from types import SimpleNamespace

import pytest
from py4j.protocol import Py4JNetworkError
from pyspark import SparkContext

from app.streaming.spark.bridge import has_ended, quiet_bridge, stop_query, unless_lost
from app.streaming.spark.scorers import in_background


class Gateway:
    def __init__(self, port: int, code: int | None = None, proc: object = SimpleNamespace) -> None:
        self.proc = proc and SimpleNamespace(poll=lambda: code)
        self.gateway_parameters = SimpleNamespace(address="127.0.0.1", port=port)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("proc", [None, SimpleNamespace], ids=["submitted", "launched"])
class TestHasEnded:
    def test_a_jvm_that_listens_has_not(self, monkeypatch, listener, proc):
        gateway = Gateway(listener.getsockname()[1], proc=proc)
        monkeypatch.setattr(SparkContext, "_gateway", gateway)
        assert not has_ended()

    def test_one_that_does_not_has(self, monkeypatch, listener, proc):
        gateway = Gateway(listener.getsockname()[1], proc=proc)
        monkeypatch.setattr(SparkContext, "_gateway", gateway)
        listener.close()
        assert has_ended()


def test_a_process_that_has_exited_has_ended_whoever_listens_on_its_port(monkeypatch, listener):
    monkeypatch.setattr(SparkContext, "_gateway", Gateway(listener.getsockname()[1], code=-9))
    assert has_ended()


def test_where_none_was_started_none_has_ended(monkeypatch):
    monkeypatch.setattr(SparkContext, "_gateway", None)
    assert not has_ended()


def test_nothing_is_put_right_in_a_jvm_that_has_ended():
    with unless_lost():
        raise Py4JNetworkError("Answer from Java side is empty")
    with pytest.raises(ZeroDivisionError), unless_lost():
        raise ZeroDivisionError


class TestStopQuery:
    def test_spark_stops_a_query_that_it_runs(self):
        done = []
        stop_query(SimpleNamespace(stop=lambda: done.append("stop")), lambda: done.append("wait"))
        assert done == ["stop"]

    def test_the_batch_in_hand_is_waited_for_when_spark_is_gone(self):
        def stop() -> None:
            raise Py4JNetworkError("Answer from Java side is empty")

        done = []
        stop_query(SimpleNamespace(stop=stop), lambda: done.append("wait"))
        assert done == ["wait"]


def test_the_bridge_is_quiet_within_the_block_and_others_are_not(caplog):
    bridge, root = logging.getLogger("py4j.clientserver"), logging.getLogger()

    def log(message: str) -> None:
        for logger in (bridge, root):
            record = logger.makeRecord(
                logger.name, logging.ERROR, "/py4j/java_gateway.py", 1, message, (), None
            )
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        logging.getLogger("other").error("other %s", message)
        root.error("root %s", message)

    with quiet_bridge():
        log("within")
    log("after")
    assert caplog.messages == [
        "other within", "root within", "after", "after", "other after", "root after",
    ]  # fmt: skip


def test_what_fails_in_the_background_is_left_to_the_step_that_needs_it(capfd):
    def fail() -> None:
        raise ConnectionRefusedError

    in_background(fail).join()
    assert capfd.readouterr() == ("", "")
