"""The rows of a live stream: events to score, labels that came, and events that met a label.

All are one streaming DataFrame, so that a batch is planned, read and committed as one.
What became of each label is decided by :mod:`app.streaming.feedback.ledger`, from the labels
themselves: a stream-stream join drops late rows, and rows that find no partner, without
a word. The features of an event wait for its label in that ledger or, when asked for, in
Spark's state store: an inner join on the event id within a bound of time.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from app.contract import Contract
from app.files.sequence import SEQUENCE_COLUMN
from app.streaming.feedback.join_window import SECOND, JoinWindow, micros
from app.streaming.rows.validation import RAW_COLUMN, parse_and_validate, raw_as_json

EVENT, LABEL, MATCH = "event", "label", "match"

_TO_1970 = 62_135_596_800 * SECOND
"""From the beginning of year 1 to that of 1970, where Spark's watermark begins."""


@dataclass(frozen=True)
class RawRows:
    """The rows of one source as they came, and what they are to be.

    Attributes
    ----------
    rows
        ``sequence`` and ``text``, or typed columns.
    row_format : {"csv", "json", "parquet"}
        ``parquet`` stands for typed columns.
    contract
        With id and time.
    """

    rows: DataFrame
    row_format: str
    contract: Contract

    def validated(self) -> DataFrame:
        """Return the rows of :func:`app.streaming.rows.validation.validate`."""
        return parse_and_validate(
            self.rows, self.contract, self.row_format, rejects_future=True, is_interpreted=True
        )


def live_rows(
    events: RawRows, feedback: RawRows, join: JoinWindow | None, *, from_year_1: bool = True
) -> DataFrame:
    """Return events, labels and matches as one streaming DataFrame.

    Parameters
    ----------
    events
    feedback
    join
        Within which bounds Spark joins events and labels; without, there are no matches.
    from_year_1
        Whether times go into the join as if year 1 were 1970, before which Spark joins nothing.
        A query stays with what its state began with.

    Returns
    -------
    DataFrame
        ``kind`` (event, label or match), ``sequence`` (long; a match has its event's),
        ``event_id``, ``time`` (of the event or of the label; a match has none),
        ``features`` (array of float, null in a bad event and in a label), ``label_index``
        (int, of a good label), ``reason`` (null in a good row), ``row`` (JSON of a bad event
        and of every label), ``raw`` (struct, an event's input row).
    """
    scored, labels = events.validated(), feedback.validated()
    no_raw = F.lit(None).cast(scored.schema[RAW_COLUMN].dataType).alias(RAW_COLUMN)
    rows = scored.select(
        F.lit(EVENT).alias("kind"),
        SEQUENCE_COLUMN,
        "event_id",
        F.col("event_time").alias("time"),
        "features",
        "label_index",
        "reason",
        "row",
        RAW_COLUMN,
    ).unionByName(
        labels.select(
            F.lit(LABEL).alias("kind"),
            SEQUENCE_COLUMN,
            "event_id",
            F.col("event_time").alias("time"),
            "features",
            "label_index",
            "reason",
            F.coalesce("row", raw_as_json()).alias("row"),
            no_raw,
        )
    )
    if join is None:
        return rows
    return rows.unionByName(
        _matches(scored, labels, join, _TO_1970 if from_year_1 else 0).select(
            F.lit(MATCH).alias("kind"),
            SEQUENCE_COLUMN,
            "event_id",
            F.lit(None).cast("timestamp").alias("time"),
            "features",
            F.lit(None).cast("int").alias("label_index"),
            F.lit(None).cast("string").alias("reason"),
            F.lit(None).cast("string").alias("row"),
            no_raw,
        )
    )


def _matches(events: DataFrame, labels: DataFrame, window: JoinWindow, later: int) -> DataFrame:
    """Return the events that met a label, with times so many microseconds later than they are."""
    delay = f"{window.spark_delay} microseconds"
    time = F.col("event_time")
    if later:
        time = F.timestamp_micros(F.unix_micros(time) + later)
    good_events = (
        events.filter("reason IS NULL")
        .select(SEQUENCE_COLUMN, "event_id", time.alias("time"), "features")
        .withWatermark("time", delay)
        .alias("e")
    )
    good_labels = (
        labels.filter("reason IS NULL")
        .select(F.col("event_id").alias("label_id"), time.alias("label_time"))
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
