"""A Spark data source that reads a Redis stream.

Its offsets are positions of :mod:`app.redis_io.stream`. As in the replay source,
the planner, one Python process of the driver, reads and hands each batch to the
JVM as Arrow; a batch that is tried again after a crash is read by an executor.

A Redis URL may hold a password, and Spark shows a source's options in plans, logs
and its UI. So a URL travels as an attribute of a class that is made for it, which
Spark serializes and shows nothing of.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from typing import ClassVar, TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from app.parsing.packed_rows import JSON_SCHEMA, packed_batches
from app.redis_io.retry import OutageRetry
from app.redis_io.stream import START, Position, RedisStream
from app.redis_io.url import check_redis_url
from app.streaming.rows.layout import PACKED_ROWS
from app.streaming.sources.pace import Pace, Pacer
from app.streaming.spark.runtime import end_with_the_jvm_quietly

DEFAULT_PATIENCE_SECONDS = 60.0

_ROWS_PER_VALUE = 10_000

T = TypeVar("T")

logger = logging.getLogger(__name__)


def read_redis_stream(
    spark: SparkSession,
    url: str,
    key: str,
    *,
    max_rows_per_batch: int,
    fail_on_data_loss: bool = True,
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
    pace: Pace | None = None,
) -> DataFrame:
    """Return a Redis stream, from its oldest entry on, as a streaming DataFrame.

    Parameters
    ----------
    spark
    url
        Where Redis is. It is shown nowhere.
    key
        The stream's.
    max_rows_per_batch
    fail_on_data_loss
        Whether to fail when entries that were not read are gone, or may be. Otherwise
        a warning is logged and the stream goes on without them.
    patience_seconds
        How long Redis may be away before the query fails.
    pace
        How it keeps step with another source.

    Returns
    -------
    DataFrame
        ``rows`` (binary), packed: one JSON object each, or whatever an entry holds in the field
        ``json``.

    Raises
    ------
    InvalidParameterError
        When the URL is none.
    """
    check_redis_url(url)
    source = _source_of(url)
    spark.dataSource.register(source)
    stream = (
        spark.readStream.format(source.name())
        .option("key", key)
        .option("max_rows_per_batch", max_rows_per_batch)
        .option("fail_on_data_loss", fail_on_data_loss)
        .option("patience_seconds", patience_seconds)
    )
    if pace is not None:
        stream = stream.option("pace", pace.to_option())
    return stream.load()


def _source_of(url: str) -> type[RedisSource]:
    # A name of its own: registering is session-wide, and a second one of a name replaces the first.
    name = f"hedgestream_redis_{uuid.uuid4().hex[:12]}"
    return type(name, (RedisSource,), {"__module__": __name__, "url": url, "registered_as": name})


class RedisSource(DataSource):
    """Data source of one URL. See :func:`read_redis_stream` for its options."""

    url: ClassVar[str]
    registered_as: ClassVar[str]

    @classmethod
    def name(cls) -> str:
        return cls.registered_as

    def schema(self) -> StructType:
        return PACKED_ROWS

    def simpleStreamReader(self, schema: StructType) -> RedisStreamReader:
        end_with_the_jvm_quietly()
        return RedisStreamReader(
            self.url,
            self.options["key"],
            int(self.options["max_rows_per_batch"]),
            self.options["fail_on_data_loss"].lower() == "true",
            float(self.options["patience_seconds"]),
            Pacer.of(self.options),
        )


class RedisStreamReader(SimpleDataSourceStreamReader, SupportsTriggerAvailableNow):
    """Hands out batches of at most ``max_rows_per_batch`` entries."""

    def __init__(
        self,
        url: str,
        key: str,
        max_rows_per_batch: int,
        fail_on_data_loss: bool,
        patience_seconds: float,
        pacer: Pacer | None = None,
    ) -> None:
        self._url = url
        self._key = key
        self._max_rows_per_batch = max_rows_per_batch
        self._fail_on_data_loss = fail_on_data_loss
        self._patience_seconds = patience_seconds
        self._pacer = pacer or Pacer()
        self._last = "+"
        # Made on first use: a reader is sent to the executors, and a connection cannot be.
        self._open: RedisStream | None = None

    def initialOffset(self) -> Position:
        return dict(START)

    def prepareForTriggerAvailableNow(self) -> None:
        self._last = self._patiently(lambda: self._stream.last_id())
        self._pacer.end_with_backlog(self.initialOffset(), self._max_rows_per_batch, self._take)

    def read(self, start: Position) -> tuple[Iterator[pa.RecordBatch], Position]:
        batches, end = self._pacer.read(start, self._max_rows_per_batch, self._take)
        # A list's iterator: Spark copies it.
        return iter(packed_batches(batches, _ROWS_PER_VALUE)), end

    def readBetweenOffsets(self, start: Position, end: Position) -> Iterator[pa.RecordBatch]:
        texts = self._patiently(lambda: self._stream.between(start, end))
        return iter(packed_batches(_arrow(texts, end["row"] - len(texts)), _ROWS_PER_VALUE))

    def _take(self, start: Position, n: int) -> tuple[list[pa.RecordBatch], Position]:
        texts, end = self._patiently(lambda: self._stream.read(start, n, self._last))
        return _arrow(texts, start["row"]), end

    @property
    def _stream(self) -> RedisStream:
        if self._open is None:
            self._open = RedisStream(
                self._url, self._key, fail_on_data_loss=self._fail_on_data_loss
            )
        return self._open

    def _patiently(self, action: Callable[[], T]) -> T:
        return OutageRetry(self._patience_seconds, logger.warning)(action)


def _arrow(texts: list[bytes], first: int) -> list[pa.RecordBatch]:
    """Return rows numbered from ``first`` on."""
    numbers = pa.array(range(first, first + len(texts)), pa.int64())
    columns = [numbers, pa.array(texts, pa.binary())]
    return [pa.RecordBatch.from_arrays(columns, schema=JSON_SCHEMA)] if texts else []
