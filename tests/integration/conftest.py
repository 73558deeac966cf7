from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from app.streaming.session import spark_session


@pytest.fixture(scope="session", autouse=True)
def spark() -> Iterator[SparkSession]:
    """One session for all replays that run in this process."""
    session = spark_session("hedgestream tests")
    yield session
    session.stop()
