"""The validation of each row before the model sees it.

Text rows are parsed by Spark's own CSV and JSON parsers, line by line and with
every field as text, so that a value that does not fit is seen and named rather
than turned into a null.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from app.contract import (
    DUPLICATE_ID,
    FUTURE_TIME,
    INFINITE_FEATURE,
    NAN_FEATURE,
    NULL_FEATURE,
    NULL_ID,
    NULL_LABEL,
    NULL_TIME,
    UNKNOWN_LABEL,
    UNPARSABLE,
    WHOLE_NUMBER,
    WRONG_LENGTH,
    Contract,
)
from app.files.sequence import SEQUENCE_COLUMN, TEXT_COLUMN

RAW_COLUMN = "raw"
CORRUPT_COLUMN = "_corrupt_line"
_CSV_QUOTES = {"quote": '"', "escape": '"'}
_KEEP_NULLS = {"ignoreNullFields": "false"}

# A clock may be wrong by a time zone. A time beyond that would carry the watermark of a live
# stream along, and every row after it would be late.
_AHEAD = "interval 1 day"
_YEAR_1, _YEAR_9999 = -62_135_596_800, 253_402_300_799


def canonical_label(label: Column) -> Column:
    """Return a label as :func:`app.contract.canonical_label` does, an empty one as null."""
    text = F.trim(label.cast("string"))
    whole = F.regexp_replace(text, WHOLE_NUMBER + r"\z", "$1")
    return F.when(text != "", whole)


def parse(
    df: DataFrame, file_format: str, columns: tuple[str, ...], array: str | None
) -> DataFrame:
    """Return ``sequence``, ``raw`` (a struct of the input's columns) and ``_corrupt_line``.

    Parameters
    ----------
    df
        ``sequence`` and ``text``, or typed columns.
    file_format : {"csv", "json", "parquet"}
    columns
    array
        The column that holds arrays, when the format is JSON.
    """
    sequence = F.col(SEQUENCE_COLUMN)
    if file_format == "parquet":
        raw = F.struct(*(quoted(name) for name in columns))
        return df.select(
            sequence, raw.alias(RAW_COLUMN), F.lit(None).cast("string").alias(CORRUPT_COLUMN)
        )
    fields = [
        T.StructField(name, T.ArrayType(T.StringType()) if name == array else T.StringType())
        for name in columns
    ]
    corrupt = CORRUPT_COLUMN
    while corrupt in columns:
        corrupt = "_" + corrupt
    schema = T.StructType([*fields, T.StructField(corrupt, T.StringType())])
    options = {"columnNameOfCorruptRecord": corrupt}
    if file_format == "csv":
        # from_csv takes its schema as text only.
        fields_of_line = F.from_csv(TEXT_COLUMN, _ddl(schema), options | _CSV_QUOTES)
    else:
        fields_of_line = F.from_json(TEXT_COLUMN, schema, options)
    parsed = df.select(sequence, fields_of_line.alias("parsed"))
    raw = F.struct(*(F.col("parsed")[name].alias(name) for name in columns))
    return parsed.select(
        sequence, raw.alias(RAW_COLUMN), F.col("parsed")[corrupt].alias(CORRUPT_COLUMN)
    )


def validate(
    parsed: DataFrame,
    contract: Contract,
    file_format: str,
    *,
    rejects_future: bool = False,
    is_interpreted: bool = False,
) -> DataFrame:
    """Return each row with what the model needs of it, or the reason it cannot be used.

    Parameters
    ----------
    parsed
        From :func:`parse`.
    contract
        Without features, the rows are feedback, and of no use without a label.
    file_format : {"csv", "json", "parquet"}
    rejects_future
        Whether a row dated more than a day ahead of the clock is of no use.
    is_interpreted
        Whether Spark is to interpret the plan, and not to generate code for it. Only how
        fast it is depends on that.

    Returns
    -------
    DataFrame
        ``sequence`` (long), ``event_id`` (string), ``event_time`` (timestamp),
        ``features`` (array of float, null in a bad row and in feedback), ``label_index``
        (int, null without a label), ``reason`` (string, null in a good row), ``row``
        (the input row as JSON, null in a good row), ``raw`` (struct, the input row).
    """
    raw = F.col(RAW_COLUMN)
    label = as_label(parsed, contract.label) if contract.label else F.lit(None)
    time_text = as_text(raw[contract.time]) if contract.time else F.lit(None)
    features = _as_floats(_numbers(parsed, contract)) if contract.features else _no_features()
    read = parsed.select(
        SEQUENCE_COLUMN,
        RAW_COLUMN,
        CORRUPT_COLUMN,
        as_text(raw[contract.id] if contract.id else F.col(SEQUENCE_COLUMN)).alias("event_id"),
        time_text.cast("string").alias("time_text"),
        as_time(parsed, contract.time).alias("event_time"),
        features.alias("features"),
        label.cast("string").alias("label"),
    )
    number = class_number(F.col("label"), contract.classes)
    malformed = WRONG_LENGTH if file_format == "csv" else UNPARSABLE
    reason = F.when(F.col(CORRUPT_COLUMN).isNotNull(), malformed)
    reason = reason.when(F.col("event_id").isNull(), NULL_ID)
    if contract.is_array:
        array = raw[contract.features[0]]
        reason = reason.when(array.isNull(), NULL_FEATURE)
        reason = reason.when(F.size(array) != contract.n_features, WRONG_LENGTH)
    if contract.features:
        sound = _are_finite_in_one_pass if is_interpreted else _are_finite
        # Which fault it is matters only in a bad row.
        fault = _feature_fault(parsed, contract, file_format)
        reason = reason.when(~sound(F.col("features")), fault)
    if contract.time:
        reason = reason.when(F.col("time_text").isNull(), NULL_TIME)
        reason = reason.when(F.col("event_time").isNull(), UNPARSABLE)
    if rejects_future:
        reason = reason.when(_is_ahead(F.col("event_time")), FUTURE_TIME)
    if not contract.features:
        reason = reason.when(F.col("label").isNull(), NULL_LABEL)
    reason = reason.when(number == 0, UNKNOWN_LABEL)

    return read.select(
        "*", reason.alias("reason"), (number - 1).cast("int").alias("label_index")
    ).select(
        SEQUENCE_COLUMN,
        "event_id",
        "event_time",
        F.when(F.col("reason").isNull(), F.col("features")).alias("features"),
        "label_index",
        "reason",
        F.when(F.col("reason").isNotNull(), original_as_json()).alias("row"),
        # Of good rows too: they may still turn out to be duplicates, or diverge.
        RAW_COLUMN,
    )


def parse_and_validate(
    df: DataFrame, contract: Contract, file_format: str, **options: Any
) -> DataFrame:
    """Do :func:`parse`, then :func:`validate`."""
    array = contract.features[0] if contract.is_array else None
    parsed = parse(df, file_format, contract.columns, array)
    return validate(parsed, contract, file_format, **options)


def class_number(label: Column, classes: tuple[str, ...]) -> Column:
    """Return a canonical label's place among the classes from 1 on, 0 when it is none of them."""
    return F.array_position(F.array(*map(F.lit, classes)), label)


def original_as_json() -> Column:
    """Return the input row as JSON, or the text that could not be parsed."""
    corrupt = F.col(CORRUPT_COLUMN)
    as_json = F.to_json(F.struct(corrupt.alias(CORRUPT_COLUMN)))
    return F.when(corrupt.isNotNull(), as_json).otherwise(raw_as_json())


def raw_as_json() -> Column:
    """Return the input row as JSON, its nulls too."""
    return F.to_json(RAW_COLUMN, _KEEP_NULLS)


def mark_duplicates(validated: DataFrame, sequences: list[int]) -> DataFrame:
    """Turn the good rows with these sequence numbers into ``duplicate_id`` dead letters."""
    if not sequences:
        return validated.drop(RAW_COLUMN)
    duplicate = F.col(SEQUENCE_COLUMN).isin(sequences)
    columns = {
        "reason": F.when(duplicate, DUPLICATE_ID).otherwise(F.col("reason")),
        "features": F.when(~duplicate, F.col("features")),
        "row": F.when(duplicate, raw_as_json()).otherwise(F.col("row")),
    }
    return validated.withColumns(columns).drop(RAW_COLUMN)


def _are_finite(features: Column) -> Column:
    """Return whether an array of floats is there, and has neither a null, a NaN nor an infinity.

    Not by a function with a lambda: Spark always interprets those, and then looks its
    settings up for each element, which took most of the time of a batch.
    """
    infinity = F.lit(float("inf")).cast("float")
    # Null, and not false, when there is a null. A NaN is the greatest of all.
    has_infinity = F.array_contains(features, infinity)
    finite = (F.array_max(features) < infinity) & (F.array_min(features) > -infinity)
    return F.coalesce(~has_infinity & finite, F.lit(False))


def _are_finite_in_one_pass(features: Column) -> Column:
    """Return the same where Spark interprets every function."""
    total = F.aggregate(features, F.lit(0.0), lambda sum_, x: sum_ + x)
    return total.isNotNull() & ~F.isnan(total - total)


def _feature_fault(parsed: DataFrame, contract: Contract, file_format: str) -> Column:
    """Return the reason for features that are not all finite numbers."""
    values = _numbers(parsed, contract)
    if file_format != "parquet" or _are_written(parsed, contract):
        # Distinguished only here: what is empty, and the bare tokens NaN and Infinity of JSON.
        values = F.transform(values, as_text)
    features = _as_floats(values)
    return (
        F.when(F.exists(values, lambda x: x.isNull()), NULL_FEATURE)
        .when(F.exists(features, lambda x: x.isNull()), UNPARSABLE)
        .when(F.exists(features, lambda x: F.isnan(x)), NAN_FEATURE)
        .otherwise(INFINITE_FEATURE)
    )


def _no_features() -> Column:
    return F.lit(None).cast("array<float>")


def _numbers(parsed: DataFrame, contract: Contract) -> Column:
    """Return the features as an array of numbers, or of text where numbers may be written so."""
    raw = F.col(RAW_COLUMN)
    if contract.is_array:
        return raw[contract.features[0]]
    kind = "string" if _are_written(parsed, contract) else "double"
    return F.array(*(raw[name].cast(kind) for name in contract.features))


def _as_floats(numbers: Column) -> Column:
    return numbers.try_cast("array<double>").try_cast("array<float>")


def _are_written(parsed: DataFrame, contract: Contract) -> bool:
    """Return whether some features are text."""
    return any(isinstance(_type_of(parsed, name), T.StringType) for name in contract.features)


def as_label(parsed: DataFrame, name: str) -> Column:
    """Return a label in canonical form, null when there is none."""
    label = F.col(RAW_COLUMN)[name]
    if isinstance(_type_of(parsed, name), (T.FloatType, T.DoubleType)):
        # How a missing label looks in a column of numbers.
        label = F.when(~F.isnan(label), label)
    return canonical_label(label)


def as_time(parsed: DataFrame, name: str | None) -> Column:
    """Return an event time: a typed timestamp, ISO 8601 text, or seconds since 1970."""
    if name is None:
        return F.lit(None).cast("timestamp")
    column = F.col(RAW_COLUMN)[name]
    if isinstance(_type_of(parsed, name), (T.TimestampType, T.TimestampNTZType, T.DateType)):
        return column.cast("timestamp")
    text = as_text(column)
    # Without the date a time of day would be read as of today.
    iso = F.when(text.rlike(r"^\d{4}-\d\d-\d\d"), text.try_cast("timestamp"))
    seconds = text.try_cast("double")
    known = F.when(seconds.between(_YEAR_1, _YEAR_9999), seconds)
    return F.coalesce(iso, F.timestamp_seconds(known))


def _is_ahead(time: Column) -> Column:
    # In a streaming query this is the time of the batch, the same when it is tried again.
    return time > F.current_timestamp() + F.expr(_AHEAD)


def _type_of(parsed: DataFrame, name: str) -> T.DataType:
    raw = parsed.schema[RAW_COLUMN].dataType
    assert isinstance(raw, T.StructType)
    return raw[name].dataType


def as_text(column: Column) -> Column:
    """Return a value as trimmed text, null when empty."""
    return F.nullif(F.trim(_unquoted(column.cast("string"))), F.lit(""))


def _unquoted(text: Column) -> Column:
    # from_json gives the bare tokens NaN and Infinity as text with quotes.
    return F.btrim(text.cast("string"), F.lit('"'))


def quoted(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _ddl(schema: T.StructType) -> str:
    return ", ".join(
        f"`{field.name.replace('`', '``')}` {field.dataType.simpleString()}" for field in schema
    )
