"""The hop to the workers: raw rows of a batch there, parsed and scored ones back."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from app.parsing.packed_rows import ROWS_COLUMN, unpacked
from udfs.model_cache import WorkerModel
from udfs.score import SCORED_SCHEMA, KindOfRows, RowScorer


def raw_of_packed(df: DataFrame, kind: str) -> DataFrame:
    """Return packed rows as raw ones of a kind, in the columns of ``udfs.score.RAW_SCHEMA``."""
    no_sequence = F.lit(None).cast("long").alias("sequence")
    return df.select(F.lit(kind).alias("kind"), no_sequence, ROWS_COLUMN)


def scored_rows(
    raw: DataFrame,
    kinds: Mapping[str, KindOfRows],
    wanted: WorkerModel | None,
    as_they_are: Mapping[str, pa.Schema] = MappingProxyType({}),
) -> dict[str, pa.Table]:
    """Return the rows of each kind, parsed, and scored if the kind is and ``wanted`` is given.

    Parameters
    ----------
    raw
        In the columns of :data:`udfs.score.RAW_SCHEMA`.
    kinds
    wanted
    as_they_are
        Columns of the kinds that come back unparsed.
    """
    scorer = RowScorer(kinds, wanted, tuple(as_they_are))
    collected = raw.mapInArrow(scorer, SCORED_SCHEMA).toArrow()
    schemas = {name: kind.schema(wanted is not None) for name, kind in kinds.items()}
    batches: dict[str, list[pa.RecordBatch]] = {name: [] for name in [*kinds, *as_they_are]}
    for name, rows in zip(collected["kind"].to_pylist(), collected["rows"], strict=True):
        batches[name] += unpacked([rows])
    return {
        name: pa.Table.from_batches(batches[name], schema)
        for name, schema in {**schemas, **as_they_are}.items()
    }
