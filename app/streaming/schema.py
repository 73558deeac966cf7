"""The contract of a row, and the validation of each one before the model sees it.

Text rows are parsed by Spark's own CSV and JSON parsers, line by line and with
every field as text, so that a value that does not fit is seen and named rather
than turned into a null.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from app.streaming.files import SEQUENCE_COLUMN, TEXT_COLUMN

NULL_ID = "null_id"
DUPLICATE_ID = "duplicate_id"
NULL_TIME = "null_time"
NULL_FEATURE = "null_feature"
NAN_FEATURE = "nan_feature"
INFINITE_FEATURE = "infinite_feature"
WRONG_LENGTH = "wrong_length"
UNPARSABLE = "unparsable"
UNKNOWN_LABEL = "unknown_label"
DIVERGED = "diverged"

REASONS = (
    NULL_ID,
    DUPLICATE_ID,
    NULL_TIME,
    NULL_FEATURE,
    NAN_FEATURE,
    INFINITE_FEATURE,
    WRONG_LENGTH,
    UNPARSABLE,
    UNKNOWN_LABEL,
    DIVERGED,
)
"""Why a row became a dead letter. A row with several faults has the first found.
A diverged row was scored, and could not be learned."""

RAW_COLUMN = "raw"
CORRUPT_COLUMN = "_corrupt_line"
_CSV_QUOTES = {"quote": '"', "escape": '"'}
_KEEP_NULLS = {"ignoreNullFields": "false"}
_YEAR_1, _YEAR_9999 = -62_135_596_800, 253_402_300_799


@dataclass(frozen=True)
class Contract:
    """Which columns of a row mean what.

    Parameters
    ----------
    columns : tuple of str
        Every column of the input, in file order.
    features : tuple of str
        The feature columns, or the one column that holds the array of them.
    n_features : int
    classes : tuple of str
        Labels in canonical form (see :func:`canonical_label`), in class order.
    label, id, time : str or None
        Without ``id`` the row number is the id; without ``time`` rows have none.
    is_array : bool
        Whether ``features`` names one array column.
    """

    columns: tuple[str, ...]
    features: tuple[str, ...]
    n_features: int
    classes: tuple[str, ...]
    label: str | None = None
    id: str | None = None
    time: str | None = None
    is_array: bool = False

    @property
    def label_type(self) -> T.DataType:
        """Type of a predicted label: long when every class is an integer, else string."""
        integers = all(name.lstrip("-").isdigit() for name in self.classes)
        return T.LongType() if integers else T.StringType()

    def to_metadata(self) -> dict[str, str]:
        """Return what a model's state must say of its rows."""
        fixed = {"features": self.features, "classes": self.classes}
        return {"contract": json.dumps(fixed)}


def contract_from_metadata(metadata: dict[str, str]) -> dict[str, Any]:
    """Return the ``features`` and ``classes`` of the model that a state belongs to."""
    fixed = json.loads(metadata.get("contract", "{}"))
    return {name: tuple(value) for name, value in fixed.items()}


def canonical_label(label: Column) -> Column:
    """Return a label as trimmed text, ``1.0`` as ``1``, empty as null."""
    text = F.trim(label.cast("string"))
    whole = F.regexp_replace(text, r"^(-?[0-9]+)\.0+\z", "$1")
    return F.when(text != "", whole)


def parse(
    df: DataFrame, file_format: str, columns: tuple[str, ...], array: str | None
) -> DataFrame:
    """Return ``sequence``, ``raw`` (a struct of the input's columns) and ``_corrupt_line``.

    Parameters
    ----------
    df : DataFrame
        Of the replay source.
    file_format : {"csv", "json", "parquet"}
    columns : tuple of str
    array : str or None
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
        parsed = F.from_csv(TEXT_COLUMN, _ddl(schema), options | _CSV_QUOTES)
    else:
        parsed = F.from_json(TEXT_COLUMN, schema, options)
    parsed = df.select(sequence, parsed.alias("parsed"))
    raw = F.struct(*(F.col("parsed")[name].alias(name) for name in columns))
    return parsed.select(
        sequence, raw.alias(RAW_COLUMN), F.col("parsed")[corrupt].alias(CORRUPT_COLUMN)
    )


def validate(
    parsed: DataFrame,
    contract: Contract,
    file_format: str,
    time_fault: Callable[[Column], Column] = lambda time: F.lit(None).cast("string"),
    is_interpreted: bool = False,
) -> DataFrame:
    """Return each row with what the model needs of it, or the reason it cannot be used.

    Parameters
    ----------
    parsed : DataFrame
        From :func:`parse`.
    contract : Contract
    file_format : {"csv", "json", "parquet"}
    time_fault : callable
        Gives the reason that a row cannot be used for its event time, or null.
    is_interpreted : bool
        Whether Spark is to interpret the plan, and not to generate code for it. Only how
        fast it is depends on that.

    Returns
    -------
    DataFrame
        ``sequence`` (long), ``event_id`` (string), ``event_time`` (timestamp),
        ``features`` (array of float, null in a bad row), ``label_index`` (int,
        null without a label), ``reason`` (string, null in a good row), ``row``
        (the input row as JSON, null in a good row), ``raw`` (struct, the input row).
    """
    raw = F.col(RAW_COLUMN)
    corrupt = F.col(CORRUPT_COLUMN)
    label = as_label(parsed, contract.label) if contract.label else F.lit(None)
    time_text = as_text(raw[contract.time]) if contract.time else F.lit(None)
    read = parsed.select(
        SEQUENCE_COLUMN,
        RAW_COLUMN,
        CORRUPT_COLUMN,
        (as_text(raw[contract.id]) if contract.id else as_text(F.col(SEQUENCE_COLUMN))).alias(
            "event_id"
        ),
        time_text.cast("string").alias("time_text"),
        as_time(parsed, contract.time).alias("event_time"),
        _as_floats(_numbers(parsed, contract)).alias("features"),
        label.cast("string").alias("label"),
    )
    reason = F.when(corrupt.isNotNull(), WRONG_LENGTH if file_format == "csv" else UNPARSABLE).when(
        F.col("event_id").isNull(), NULL_ID
    )
    if contract.is_array:
        array = raw[contract.features[0]]
        reason = reason.when(array.isNull(), NULL_FEATURE)
        reason = reason.when(F.size(array) != contract.n_features, WRONG_LENGTH)
    sound = _are_finite_in_one_pass if is_interpreted else _are_finite
    # Which fault it is matters only in a bad row.
    reason = reason.when(~sound(F.col("features")), _feature_fault(parsed, contract, file_format))
    if contract.time:
        reason = reason.when(F.col("time_text").isNull(), NULL_TIME)
        reason = reason.when(F.col("event_time").isNull(), UNPARSABLE)
    number = class_number(F.col("label"), contract.classes)
    reason = reason.when(number == 0, UNKNOWN_LABEL).otherwise(time_fault(F.col("event_time")))

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
    """Tell whether an array of floats is there, and has neither a null, a NaN nor an infinity.

    Not by a function with a lambda: Spark always interprets those, and then looks its
    settings up for each element, which took most of the time of a batch.
    """
    infinity = F.lit(float("inf")).cast("float")
    # Null, and not false, when there is a null. A NaN is the greatest of all.
    has_infinity = F.array_contains(features, infinity)
    finite = (F.array_max(features) < infinity) & (F.array_min(features) > -infinity)
    return F.coalesce(~has_infinity & finite, F.lit(False))


def _are_finite_in_one_pass(features: Column) -> Column:
    """Tell the same where Spark interprets every function."""
    total = F.aggregate(features, F.lit(0.0), lambda sum_, x: sum_ + x)
    return total.isNotNull() & ~F.isnan(total - total)


def _feature_fault(parsed: DataFrame, contract: Contract, file_format: str) -> Column:
    """Return the reason for features that are not all finite numbers."""
    values = _numbers(parsed, contract)
    if file_format != "parquet" or _are_written(parsed, contract):
        # Told apart only here: what is empty, and the bare tokens NaN and Infinity of JSON.
        values = F.transform(values, as_text)
    features = _as_floats(values)
    return (
        F.when(F.exists(values, lambda x: x.isNull()), NULL_FEATURE)
        .when(F.exists(features, lambda x: x.isNull()), UNPARSABLE)
        .when(F.exists(features, lambda x: F.isnan(x)), NAN_FEATURE)
        .otherwise(INFINITE_FEATURE)
    )


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
    """Tell whether some features are text."""
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


def _type_of(parsed: DataFrame, name: str) -> T.DataType:
    return parsed.schema[RAW_COLUMN].dataType[name].dataType


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
