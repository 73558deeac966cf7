"""How the rows of an input come: their columns, and which of those are features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkTypeError
from pyspark.sql import types as T
from pyspark.sql.pandas.types import from_arrow_schema

from app.errors import UserError
from app.files.sequence import SEQUENCE_COLUMN, TEXT_COLUMN

TYPED = "parquet"
"""The row format of typed columns, whatever system they come from."""

_WIDENED = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
}


@dataclass(frozen=True)
class RowLayout:
    """The columns of an input's rows.

    Attributes
    ----------
    row_format : {"csv", "json", "parquet"}
        How a row is written; ``parquet`` stands for typed columns.
    columns
        Every column of a row, in order.
    schema
        Types of the columns; None for text.
    """

    row_format: str
    columns: tuple[str, ...]
    schema: T.StructType | None = None

    @classmethod
    def typed(cls, schema: T.StructType) -> RowLayout:
        """Return the layout of typed columns."""
        return cls(TYPED, tuple(schema.names), schema)

    def source_schema(self, source: str = "--input") -> T.StructType:
        """Return what a source yields: the row's number, then its text or its typed columns.

        Parameters
        ----------
        source
            How a message names where the rows come from.

        Raises
        ------
        UserError
            When a typed column has the name of the row's number.
        """
        fields = [T.StructField(TEXT_COLUMN, T.StringType())]
        if self.schema is not None:
            fields = [self.schema[name] for name in self.columns]
        return numbered(fields, source)


@dataclass(frozen=True)
class FeatureColumns:
    """Which columns the model sees.

    Attributes
    ----------
    names
        The feature columns, or the one column that holds the array of them.
    n_features
        Length D of the row that the model sees.
    is_array
        Whether ``names`` is one array column.
    """

    names: tuple[str, ...]
    n_features: int
    is_array: bool

    @classmethod
    def of_sample(cls, names: tuple[str, ...], sample: Mapping[str, list[Any]]) -> FeatureColumns:
        """Return whether the columns are numbers or one is an array of them, judged by some rows.

        Parameters
        ----------
        names
        sample
            Values of each column.

        Raises
        ------
        UserError
            When a column holds no number, or an array is one of several.
        """
        arrays = [name for name in names if any(isinstance(v, list) for v in sample[name])]
        if not arrays:
            for name in names:
                _check_numeric(name, sample[name])
            return cls(names, len(names), False)
        if len(names) > 1:
            raise UserError(
                f"--features: column '{arrays[0]}' holds arrays, so it must be the only one "
                f"named, not one of {len(names)}"
            )
        lengths = Counter(len(v) for v in sample[arrays[0]] if isinstance(v, list))
        return cls(names, lengths.most_common(1)[0][0], True)


def numbered(fields: Iterable[T.StructField], source: str) -> T.StructType:
    """Return the schema of rows that carry their number in front.

    Raises
    ------
    UserError
        When a column has the number's name.
    """
    fields = list(fields)
    if SEQUENCE_COLUMN in (field.name for field in fields):
        raise UserError(f"{source}: a column may not be named '{SEQUENCE_COLUMN}'")
    return T.StructType([T.StructField(SEQUENCE_COLUMN, T.LongType()), *fields])


def spark_schema(arrow: pa.Schema) -> T.StructType:
    """Return the schema that Spark reads; the types it has not are widened to ones it has."""
    fields = [field.with_type(_WIDENED.get(field.type, field.type)) for field in arrow]
    try:
        return from_arrow_schema(pa.schema(fields))
    except PySparkTypeError as error:
        raise UserError(
            f"--input: a column has a type that Spark does not read: {error}"
        ) from error


def _check_numeric(name: str, values: list[Any]) -> None:
    """Refuse a column of which no value is a number: bad rows exist, but not only bad ones."""
    present = [v for v in values if v is not None and v != ""]
    if present and not any(_is_number(v) for v in present):
        raise UserError(
            f"--features: column '{name}' holds {present[0]!r}, which is not a number; "
            "name the numeric columns"
        )


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
