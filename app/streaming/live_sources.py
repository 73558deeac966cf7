"""Opening the two sources of a live stream."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pyspark.errors import ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from app.durable import write_durably
from app.errors import UserError
from app.source_spec import SourceSpec
from app.streaming.growing_source import layout_of, read_growing
from app.streaming.kafka import check_topic, read_kafka
from app.streaming.redis_source import read_redis_stream

TYPED = "parquet"
"""What validation calls rows of typed columns."""


@dataclass(frozen=True)
class LiveSource:
    """A source, and the columns of its rows.

    Attributes
    ----------
    spec : SourceSpec
    columns : tuple of str
        Every column of a row, in order.
    schema : StructType or None
        Of typed columns; None for text.
    """

    spec: SourceSpec
    columns: tuple[str, ...]
    schema: T.StructType | None

    @property
    def row_format(self) -> str:
        """What :func:`app.streaming.schema.parse` is to expect."""
        return TYPED if self.schema is not None else self.spec.format


def describe_source(
    spec: SourceSpec, option: str, ddl: str | None, needed: tuple[str, ...]
) -> LiveSource:
    """Return a source with the columns of its rows, which must have the ones needed.

    Parameters
    ----------
    spec : SourceSpec
    option : str
        Its name on the command line, without dashes.
    ddl : str, optional
        Typed columns as SQL DDL.
    needed : tuple of str

    Raises
    ------
    UserError
        When the columns are not known, or one is missing.
    """
    schema = _schema(option, ddl) if ddl else None
    columns: tuple[str, ...] | None = tuple(schema.names) if schema else None
    if columns is None:
        columns, schema = _told_by_source(spec, needed)
    if columns is None:
        raise UserError(
            f"--{option}: {spec} does not tell the columns of its rows; name them and their types "
            f"with --{option}-schema, for example 'event_id string, event_time timestamp, x double'"
        )
    for name in needed:
        if name not in columns:
            raise UserError(
                f"--{option}: no column '{name}' in {spec}; there are: {', '.join(columns)}"
            )
    typed = spec.format in ("parquet", "arrow")
    return LiveSource(spec, columns, schema if typed else None)


def remember_sources(path: Path, sources: dict[str, LiveSource]) -> None:
    """Write down what the sources of a query are, for its next start."""
    told = {
        name: {
            "source": str(source.spec),
            "columns": source.columns,
            "schema": source.schema and source.schema.jsonValue(),
        }
        for name, source in sources.items()
    }
    write_durably(path, json.dumps(told, indent=1).encode())


def remembered_source(path: Path, option: str, spec: SourceSpec) -> LiveSource | None:
    """Return what a source was at the query's first start, None before that.

    Its files may have been cleared away since.

    Raises
    ------
    UserError
        When the query reads another one: its offsets would mean nothing there.
    """
    if not path.exists():
        return None
    told = json.loads(path.read_bytes())[option]
    if told["source"] != str(spec):
        raise UserError(
            f"--{option} is {spec}, but the checkpoint of this work directory reads "
            f"{told['source']}; give another --workdir to another stream"
        )
    schema = told["schema"] and T.StructType.fromJson(told["schema"])
    return LiveSource(spec, tuple(told["columns"]), schema or None)


def open_source(
    spark: SparkSession,
    source: LiveSource,
    *,
    manifest: Path,
    redis_url: str,
    max_rows_per_batch: int,
    fail_on_data_loss: bool,
) -> DataFrame:
    """Return a streaming DataFrame of the source's raw rows.

    Parameters
    ----------
    spark : SparkSession
    source : LiveSource
    manifest : Path
        Where a directory's or a table's files are listed in the order they are read.
    redis_url : str
        Of Redis streams.
    max_rows_per_batch : int
    fail_on_data_loss : bool

    Raises
    ------
    UserError
        When the place is no such source, or no broker has the topic.
    """
    spec = source.spec
    if spec.kind == "redis":
        return read_redis_stream(
            spark,
            redis_url,
            spec.place,
            max_rows_per_batch=max_rows_per_batch,
            fail_on_data_loss=fail_on_data_loss,
        )
    if spec.kind == "kafka":
        check_topic(spark, spec)
        return read_kafka(
            spark,
            spec,
            max_rows_per_batch=max_rows_per_batch,
            schema=source.schema,
            fail_on_data_loss=fail_on_data_loss,
        )
    return read_growing(
        spark,
        spec,
        manifest=manifest,
        columns=source.columns,
        schema=source.schema,
        max_rows_per_batch=max_rows_per_batch,
    )


def _schema(option: str, ddl: str) -> T.StructType:
    try:
        return T.StructType.fromDDL(ddl)
    except ParseException as error:
        message = str(error).strip().splitlines()[0]
        raise UserError(f"--{option}-schema: {ddl!r} is no list of columns: {message}") from error


def _told_by_source(
    spec: SourceSpec, needed: tuple[str, ...]
) -> tuple[tuple[str, ...] | None, T.StructType | None]:
    """Return the columns and, of typed rows, the schema that the source itself tells."""
    if spec.format == "json":
        # An object has its own names; those that are not needed are of no interest.
        return needed, None
    if spec.kind in ("directory", "delta"):
        layout = layout_of(spec)
        if layout is not None:
            return layout.columns, layout.schema
    return None, None
