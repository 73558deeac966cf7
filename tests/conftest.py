"""The Spark session that the tests of one process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from app.errors import JavaMissingError, UserError
from tests.maven import MavenUnavailable, fetch

NO_CONNECTOR = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def spark(request: pytest.FixtureRequest) -> Iterator[SparkSession]:
    """One session for all tests that run in this process, with Kafka where it can be had."""
    # Here and not above: most tests need no Spark.
    from app.streaming.kafka import kafka_package
    from app.streaming.session import spark_session

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
