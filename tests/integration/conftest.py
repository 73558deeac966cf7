from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.conftest import NO_CONNECTOR
from tests.kafka_broker import KafkaBroker
from tests.maven import MavenUnavailable

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is here: a run of the application starts a redis-server of its own."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("redis")


@pytest.fixture(scope="session", autouse=True)
def started(spark: SparkSession) -> None:
    """Have a session before the first test of a process: the application takes what is there."""


@pytest.fixture(scope="session")
def broker(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[KafkaBroker]:
    """One broker for all tests that want Kafka; each makes topics of its own."""
    if reason := request.config.stash.get(NO_CONNECTOR, ""):
        pytest.skip(reason)
    try:
        running = KafkaBroker()
    except MavenUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with running:
        yield running
