"""The rows of a live stream: raw events and labels, and events that met a label.

All are one streaming DataFrame, so that a batch is planned, read and committed as one.
What became of each label is decided by :mod:`app.streaming.feedback.ledger`, from the labels
themselves: a stream-stream join drops late rows, and rows that find no partner, without
a word. The features of an event wait for its label in that ledger or, when asked for, in
Spark's state store: an inner join on the event id within a bound of time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from app.files.sequence import SEQUENCE_COLUMN
from app.parsing.packed_rows import PACKED, ROWS_COLUMN, RowSource, bytes_of
from app.streaming.feedback.join_window import SECOND, JoinWindow, micros

EVENT, LABEL, MATCH = "event", "label", "match"

_TO_1970 = 62_135_596_800 * SECOND
"""From the beginning of year 1 to that of 1970, where Spark's watermark begins."""


@dataclass(frozen=True)
class RawRows:
    """The rows of one source as they came, and how they are parsed.

    Attributes
    ----------
    rows
        ``rows`` (binary), with ``sequence`` (long) in front where they are not packed.
    source
    """

    rows: DataFrame
    source: RowSource

    def of_kind(self, kind: str) -> DataFrame:
        """Return the rows in the columns of ``udfs.score.RAW_SCHEMA``."""
        no_sequence = F.lit(None).cast("long").alias(SEQUENCE_COLUMN)
        sequence = no_sequence if self.source.encoding == PACKED else F.col(SEQUENCE_COLUMN)
        return self.rows.select(F.lit(kind).alias("kind"), sequence, ROWS_COLUMN)


@dataclass(frozen=True)
class JoinState:
    """What Spark keeps of the events that it joins; a query stays with what it began with.

    Attributes
    ----------
    from_year_1
        Whether times go into the join as if year 1 were 1970, before which Spark joins nothing.
    in_float64
        Whether features are kept as the bytes of float64, and not as arrays of float32.
    """

    from_year_1: bool = True
    in_float64: bool = True


def live_rows(
    events: RawRows, feedback: RawRows, join: JoinWindow | None, state: JoinState = JoinState()
) -> DataFrame:
    """Return events, labels and matches as one streaming DataFrame.

    Parameters
    ----------
    events
    feedback
    join
        Within which bounds Spark joins events and labels; without, there are no matches.
    state

    Returns
    -------
    DataFrame
        ``kind`` (event, label or match), ``sequence`` (long) and ``rows`` (binary): raw rows, as
        :class:`app.parsing.packed_rows.RowSource` takes them. With a join also ``event_id`` and
        ``features`` (bytes of float64) of a match, whose ``sequence`` is its event's.
    """
    raw_events, raw_labels = events.of_kind(EVENT), feedback.of_kind(LABEL)
    rows = raw_events.unionByName(raw_labels)
    if join is None:
        return rows
    matches = _matches(
        _good_rows(raw_events, events.source, state),
        _good_rows(raw_labels, feedback.source, state),
        join,
        _TO_1970 if state.from_year_1 else 0,
    )
    return rows.unionByName(
        matches.select(F.lit(MATCH).alias("kind"), SEQUENCE_COLUMN, "event_id", "features"),
        allowMissingColumns=True,
    )


class GoodRows:
    """A function for ``mapInArrow`` from raw rows to what of good ones is joined.

    Parameters
    ----------
    source
    in_float64
        See :class:`JoinState`.
    """

    def __init__(self, source: RowSource, in_float64: bool) -> None:
        self._source = source
        self._in_float64 = in_float64

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for raw in self._source.batches(batch[SEQUENCE_COLUMN], batch[ROWS_COLUMN]):
                rows = self._source.parser.parse(raw)
                rows = rows.filter(pc.is_null(rows["reason"]))
                features = rows["features"]
                if not features.type.list_size:
                    features = pa.nulls(len(rows), pa.binary())
                elif self._in_float64:
                    features = bytes_of(features)
                else:
                    features = features.cast(pa.list_(pa.float32()))
                yield pa.record_batch(
                    [rows[SEQUENCE_COLUMN], rows["event_id"], rows["event_time"], features],
                    [SEQUENCE_COLUMN, "event_id", "event_time", "features"],
                )


def _good_rows(raw: DataFrame, source: RowSource, state: JoinState) -> DataFrame:
    is_array = source.parser.schema.field("features").type.list_size and not state.in_float64
    features = T.ArrayType(T.FloatType()) if is_array else T.BinaryType()
    schema = (
        T.StructType()
        .add(SEQUENCE_COLUMN, T.LongType())
        .add("event_id", T.StringType())
        .add("event_time", T.TimestampType())
        .add("features", features)
    )
    return raw.mapInArrow(GoodRows(source, state.in_float64), schema)


def _matches(events: DataFrame, labels: DataFrame, window: JoinWindow, later: int) -> DataFrame:
    """Return the events that met a label, with times so many microseconds later than they are."""
    delay = f"{window.spark_delay} microseconds"
    time = F.col("event_time")
    if later:
        time = F.timestamp_micros(F.unix_micros(time) + later)
    good_events = (
        events.select(SEQUENCE_COLUMN, "event_id", time.alias("time"), "features")
        .withWatermark("time", delay)
        .alias("e")
    )
    good_labels = (
        labels.select(F.col("event_id").alias("label_id"), time.alias("label_time"))
        .withWatermark("label_time", delay)
        .alias("l")
    )
    within = (
        F.expr("event_id = label_id")
        & (F.col("time") >= F.col("label_time") - _interval(window.label_timeout))
        & (F.col("time") <= F.col("label_time") + _interval(window.lateness))
    )
    return good_labels.join(good_events, within, "inner").select("e.*")


def _interval(seconds: float) -> Column:
    return F.expr(f"interval {micros(seconds)} microseconds")
