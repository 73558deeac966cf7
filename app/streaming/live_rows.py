"""The rows of a live stream: events to score, labels that came, and events that met a label.

All are one streaming DataFrame, so that a batch is planned, read and committed as one.
What became of each label is decided by :mod:`app.streaming.ledger`, from the labels
themselves: a stream-stream join drops late rows, and rows that find no partner, without
a word. The features of an event wait for its label in that ledger or, when asked for, in
Spark's state store: an inner join on the event id within a bound of time.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from app.streaming.files import SEQUENCE_COLUMN
from app.streaming.matching import MatchRules
from app.streaming.schema import (
    CORRUPT_COLUMN,
    NULL_ID,
    NULL_TIME,
    RAW_COLUMN,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WRONG_LENGTH,
    Contract,
    as_label,
    as_text,
    as_time,
    class_number,
    original_as_json,
    parse,
    parse_and_validate,
)
from app.streaming.session import QUERY_CONF

NULL_LABEL = "null_label"
FUTURE_TIME = "future_time"

EVENT, LABEL, MATCH = "event", "label", "match"

# A clock may be wrong by a time zone. A time beyond that would carry the watermark along,
# and every row after it would be late.
_AHEAD = "interval 1 day"

STREAM_CONF = QUERY_CONF | {
    # A batch is small, and generating code for it takes longer than interpreting its plan.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
"""How Spark is to run a live stream."""

JOIN_CONF = {
    # RocksDB keeps state off the JVM's heap, a batch writes only what it changed, and version 3
    # keeps one store a partition, not four.
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    "spark.sql.streaming.join.stateFormatVersion": "3",
    # Which rows are late is decided by the ledger; see MatchRules.spark_delay.
    "spark.sql.streaming.multipleWatermarkPolicy": "max",
}
"""How Spark is to keep what it joins, where it does."""


@dataclass(frozen=True)
class FeedbackContract:
    """Which columns of a label's row mean what.

    Parameters
    ----------
    columns : tuple of str
        Every column of the input.
    id, time, label : str
    classes : tuple of str
        In canonical form, in class order.
    """

    columns: tuple[str, ...]
    id: str
    time: str
    label: str
    classes: tuple[str, ...]


def live_rows(
    events: DataFrame,
    event_format: str,
    contract: Contract,
    feedback: DataFrame,
    feedback_format: str,
    feedback_contract: FeedbackContract,
    join: MatchRules | None,
) -> DataFrame:
    """Return events, labels and matches as one streaming DataFrame.

    Parameters
    ----------
    events, feedback : DataFrame
        Raw rows: ``sequence`` and ``text`` or typed columns.
    event_format, feedback_format : {"csv", "json", "parquet"}
        ``parquet`` stands for typed columns.
    contract : Contract
        With id and time.
    feedback_contract : FeedbackContract
    join : MatchRules or None
        Within which bounds Spark joins events and labels; without, there are no matches.

    Returns
    -------
    DataFrame
        ``kind`` (event, label or match), ``sequence`` (long; a match has its event's),
        ``event_id``, ``time`` (of the event or of the label), ``features`` (array of
        float, null in a bad event and in a label), ``label_index`` (int, of a good
        label), ``reason`` (null in a good row), ``row`` (JSON of a bad event and of
        every label), ``raw`` (struct, an event's input row).
    """
    scored = parse_and_validate(
        events, contract, event_format, time_fault=_future, is_interpreted=True
    )
    labels = _checked_labels(feedback, feedback_contract, feedback_format)
    no_raw = F.lit(None).cast(scored.schema[RAW_COLUMN].dataType).alias(RAW_COLUMN)
    no_features = F.lit(None).cast("array<float>").alias("features")
    event_time = F.col("event_time").alias("time")
    rows = scored.select(
        F.lit(EVENT).alias("kind"),
        SEQUENCE_COLUMN,
        "event_id",
        event_time,
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
            "time",
            no_features,
            "label_index",
            "reason",
            "row",
            no_raw,
        )  # fmt: skip
    )
    if join is None:
        return rows
    return rows.unionByName(
        _matches(scored, labels, join).select(
            F.lit(MATCH).alias("kind"),
            SEQUENCE_COLUMN,
            "event_id",
            "time",
            "features",
            F.lit(None).cast("int").alias("label_index"),
            F.lit(None).cast("string").alias("reason"),
            F.lit(None).cast("string").alias("row"),
            no_raw,
        )  # fmt: skip
    )


def _matches(events: DataFrame, labels: DataFrame, rules: MatchRules) -> DataFrame:
    delay = f"{rules.spark_delay} microseconds"
    good_events = (
        events.filter("reason IS NULL")
        .select(SEQUENCE_COLUMN, "event_id", F.col("event_time").alias("time"), "features")
        .withWatermark("time", delay)
        .alias("e")
    )
    good_labels = (
        labels.filter("reason IS NULL")
        .select(F.col("event_id").alias("label_id"), F.col("time").alias("label_time"))
        .withWatermark("label_time", delay)
        .alias("l")
    )
    within = (
        F.expr("event_id = label_id")
        & (F.col("time") >= F.col("label_time") - _seconds(rules.label_timeout))
        & (F.col("time") <= F.col("label_time") + _seconds(rules.lateness))
    )
    return good_labels.join(good_events, within, "inner").select("e.*")


def _future(time: Column) -> Column:
    return F.when(_is_ahead(time), FUTURE_TIME)


def _checked_labels(df: DataFrame, contract: FeedbackContract, file_format: str) -> DataFrame:
    parsed = parse(df, file_format, contract.columns, None)
    raw = F.col(RAW_COLUMN)
    read = parsed.select(
        SEQUENCE_COLUMN,
        RAW_COLUMN,
        CORRUPT_COLUMN,
        as_text(raw[contract.id]).alias("event_id"),
        as_text(raw[contract.time]).cast("string").alias("time_text"),
        as_time(parsed, contract.time).alias("time"),
        as_label(parsed, contract.label).cast("string").alias("label"),
    )
    number = class_number(F.col("label"), contract.classes)
    malformed = WRONG_LENGTH if file_format == "csv" else UNPARSABLE
    reason = (
        F.when(F.col(CORRUPT_COLUMN).isNotNull(), malformed)
        .when(F.col("event_id").isNull(), NULL_ID)
        .when(F.col("time_text").isNull(), NULL_TIME)
        .when(F.col("time").isNull(), UNPARSABLE)
        .when(_is_ahead(F.col("time")), FUTURE_TIME)
        .when(F.col("label").isNull(), NULL_LABEL)
        .when(number == 0, UNKNOWN_LABEL)
    )
    return read.select(
        SEQUENCE_COLUMN,
        "event_id",
        "time",
        (number - 1).cast("int").alias("label_index"),
        reason.alias("reason"),
        original_as_json().alias("row"),
    )


def _is_ahead(time: Column) -> Column:
    # In a streaming query this is the time of the batch, the same when it is tried again.
    return time > F.current_timestamp() + F.expr(_AHEAD)


def _seconds(seconds: float) -> Column:
    return F.expr(f"interval {round(seconds * 1_000_000)} microseconds")
