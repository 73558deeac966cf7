from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from app.errors import JavaMissingError, UserError
from app.streaming.kafka import kafka_package
from app.streaming.session import spark_session
from tests.kafka_broker import KafkaBroker
from tests.maven import MavenUnavailable, fetch

_NO_CONNECTOR = pytest.StashKey[str]()


@pytest.fixture(scope="session", autouse=True)
def spark(request: pytest.FixtureRequest) -> Iterator[SparkSession]:
    """One session for all replays that run in this process, with Kafka where it can be had."""
    name = "hedgestream tests"
    try:
        session = spark_session(name, packages=[kafka_package()])
    except JavaMissingError:
        raise
    except UserError:
        try:
            fetch(kafka_package())
        except MavenUnavailable as unavailable:
            request.config.stash[_NO_CONNECTOR] = str(unavailable)
        else:
            raise
        session = spark_session(name)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def broker(spark: SparkSession, request: pytest.FixtureRequest) -> Iterator[KafkaBroker]:
    """One broker for all tests that want Kafka; each makes topics of its own."""
    if reason := request.config.stash.get(_NO_CONNECTOR, ""):
        pytest.skip(reason)
    try:
        running = KafkaBroker()
    except MavenUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with running:
        yield running
