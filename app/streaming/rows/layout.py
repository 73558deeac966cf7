"""How the rows of an input come: their columns, and which of those are features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyspark.sql import types as T

from app.errors import UserError
from app.parsing.packed_rows import ROWS_COLUMN

TYPED = "parquet"
"""The row format of typed columns, whatever system they come from."""

PACKED_ROWS = T.StructType([T.StructField(ROWS_COLUMN, T.BinaryType())])
"""What a source of packed rows yields, see :mod:`app.parsing.packed_rows`."""


@dataclass(frozen=True)
class RowLayout:
    """The columns of an input's rows.

    Attributes
    ----------
    row_format : {"csv", "json", "parquet"}
        How a row is written; ``parquet`` stands for typed columns.
    columns
        Every column of a row, in order.
    """

    row_format: str
    columns: tuple[str, ...]


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
    def of_sample(cls, names: tuple[str, ...], sample: Mapping[str, pa.Array]) -> FeatureColumns:
        """Return whether one of the columns is an array of numbers, judged by some rows.

        Parameters
        ----------
        names
        sample
            Some rows of each column.

        Raises
        ------
        UserError
            When an array is one of several.
        """
        arrays = [name for name in names if _is_list(sample[name].type)]
        if not arrays:
            return cls(names, len(names), False)
        if len(names) > 1:
            raise UserError(
                f"--features: column '{arrays[0]}' holds arrays, so it must be the only one "
                f"named, not one of {len(names)}"
            )
        lengths = Counter(len(v) for v in sample[arrays[0]].to_pylist() if v is not None)
        return cls(names, lengths.most_common(1)[0][0], True)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
