"""The Spark session that the tests of one process share, and the marks of tests that start servers.

A test that starts a redis-server, Spark or Kafka carries the mark of that name. Whoever asks for a
fixture that starts one is given the mark; the others name it. A test that starts a server without
the mark fails, so that the fast suite stays one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from app.errors import JavaMissingError, UserError
from tests.maven import MavenUnavailable, fetch

NO_CONNECTOR = pytest.StashKey[str]()

_MARK_OF_FIXTURE = {"server": "redis", "spark": "spark", "broker": "kafka"}
_MARK_OF_PROGRAM = {"redis-server": "redis", "java": "spark", "spark-submit": "spark"}
_running: list[pytest.Item] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, mark in _MARK_OF_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


def _refuse_servers_without_mark(event: str, args: tuple[object, ...]) -> None:
    if event != "subprocess.Popen" or not _running:
        return
    words = {Path(str(word)).name for word in args[1]}
    if "-version" in words:
        return
    for program, mark in _MARK_OF_PROGRAM.items():
        if program in words and not any(_running[-1].iter_markers(mark)):
            raise AssertionError(f"a test that starts {program} carries the mark '{mark}'")


sys.addaudithook(_refuse_servers_without_mark)


@pytest.fixture(scope="session")
def spark(request: pytest.FixtureRequest) -> Iterator[SparkSession]:
    """One session for all tests that run in this process, with Kafka where it can be had."""
    # Here and not above: most tests need no Spark.
    from app.streaming.spark.packages import kafka_package
    from app.streaming.spark.session import spark_session

    name = "hedgestream tests"
    try:
        session = spark_session(name, packages=[kafka_package()])
    except JavaMissingError:
        raise
    except UserError:
        try:
            fetch(kafka_package())
        except MavenUnavailable as unavailable:
            request.config.stash[NO_CONNECTOR] = str(unavailable)
        else:
            raise
        session = spark_session(name)
    yield session
    session.stop()
