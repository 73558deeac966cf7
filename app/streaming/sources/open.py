"""Opening the two sources of a live stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark.errors import ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T

from app.config.connectors import SourceSpec
from app.errors import DamagedFileError, UserError
from app.files.atomic import write_durably
from app.files.documents import read_json
from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.parsing.packed_rows import ARROW, JSON, PACKED
from app.streaming.rows.layout import RowLayout
from app.streaming.sources.directory import layout_of, read_directory
from app.streaming.sources.file_columns import listed
from app.streaming.sources.kafka import check_topic, read_kafka
from app.streaming.sources.pace import Pace
from app.streaming.sources.redis import read_redis_stream


@dataclass(frozen=True)
class LiveSource:
    """A source, the columns of its rows, and what a user is to know of those."""

    spec: SourceSpec
    layout: RowLayout
    notes: tuple[str, ...] = ()


def describe_source(
    spec: SourceSpec,
    option: str,
    ddl: str | None,
    needed: tuple[str, ...],
    text: TextFormat = AS_USUAL,
) -> LiveSource:
    """Return a source with the columns of its rows, which must have the ones needed.

    Parameters
    ----------
    spec
    option
        Its name on the command line, without dashes.
    ddl
        Typed columns as SQL DDL.
    needed
    text
        How text files are written.

    Raises
    ------
    UserError
        When the columns are not known, or one is missing.
    """
    notes: list[str] = []
    if ddl:
        layout: RowLayout | None = _declared(spec, _schema(option, ddl))
    else:
        layout = _found(spec, needed, text, notes.append)
    if layout is None:
        raise UserError(
            f"--{option}: {spec} does not say the columns of its rows; name them and their types "
            f"with --{option}-schema, for example 'event_id string, event_time timestamp, x double'"
        )
    _refuse_missing(option, spec, layout, needed)
    return LiveSource(spec, layout, tuple(notes))


def remember_sources(path: Path, sources: dict[str, LiveSource]) -> None:
    """Write down what the sources of a query are, for its next start."""
    content = {
        name: {
            "source": str(source.spec),
            "columns": source.layout.columns,
        }
        for name, source in sources.items()
    }
    write_durably(path, json.dumps(content, indent=1).encode())


def remembered_source(
    path: Path, option: str, spec: SourceSpec, needed: tuple[str, ...]
) -> LiveSource | None:
    """Return what a source was at the query's first start, None before that.

    Its files may have been cleared away since.

    Raises
    ------
    UserError
        When the query reads another one: its offsets would mean nothing there. When it had not
        the columns that are needed now.
    DamagedFileError
        When what was written down cannot be read.
    """
    try:
        known = read_json(path)[option]
        source, columns = known["source"], tuple(known["columns"])
        layout = RowLayout(spec.format, columns)
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(path, f"it does not describe {option}") from error
    if source != str(spec):
        raise UserError(
            f"--{option} is {spec}, but the checkpoint of this work directory reads "
            f"{source}; give another --workdir to another stream"
        )
    _refuse_missing(option, spec, layout, needed)
    return LiveSource(spec, layout)


def open_source(
    spark: SparkSession,
    source: LiveSource,
    *,
    manifest: Path,
    redis_url: str,
    max_rows_per_batch: int,
    fail_on_data_loss: bool,
    columns: Sequence[str],
    pace: Pace | None = None,
    text: TextFormat = AS_USUAL,
) -> DataFrame:
    """Return a streaming DataFrame of the source's raw rows.

    They are in ``rows`` (binary), encoded as :func:`encoding_of` says, with ``sequence`` (long) in
    front where they are not packed.

    Parameters
    ----------
    spark
    source
    manifest
        Where a directory's or a table's files are listed in the order they are read.
    redis_url
        The Redis that Redis streams are read from.
    max_rows_per_batch
    fail_on_data_loss
    columns
        Those that are needed.
    pace
        How it keeps step with the other source. The reader of Kafka is Spark's own, and does not.
    text
        How text files are written.

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
            pace=pace,
        )
    if spec.kind == "kafka":
        check_topic(spark, spec)
        return read_kafka(
            spark,
            spec,
            max_rows_per_batch=max_rows_per_batch,
            fail_on_data_loss=fail_on_data_loss,
        )
    return read_directory(
        spark,
        spec,
        columns,
        manifest=manifest,
        max_rows_per_batch=max_rows_per_batch,
        pace=pace,
        text=text,
    )


def encoding_of(spec: SourceSpec) -> str:
    """Return how the rows of a source come, see :mod:`app.parsing.packed_rows`."""
    if spec.kind != "kafka":
        return PACKED
    return ARROW if spec.format == "arrow" else JSON


def _refuse_missing(
    option: str, spec: SourceSpec, layout: RowLayout, needed: tuple[str, ...]
) -> None:
    for name in needed:
        if name not in layout.columns:
            raise UserError(
                f"--{option}: no column '{name}' in {spec}; there are: {listed(layout.columns)}"
            )


def _schema(option: str, ddl: str) -> T.StructType:
    try:
        schema = T.StructType.fromDDL(ddl)
    except ParseException as error:
        message = str(error).strip().splitlines()[0]
        raise UserError(f"--{option}-schema: {ddl!r} is no list of columns: {message}") from error
    # A lone type is a schema of that type to Spark.
    if not isinstance(schema, T.StructType):
        raise UserError(f"--{option}-schema: {ddl!r} is no list of columns")
    return schema


def _declared(spec: SourceSpec, schema: T.StructType) -> RowLayout:
    return RowLayout(spec.format, tuple(schema.names))


def _found(
    spec: SourceSpec, needed: tuple[str, ...], text: TextFormat, warn: Callable[[str], None]
) -> RowLayout | None:
    """Return what the source itself says of its rows."""
    if spec.format == "json":
        # An object has its own names; those that are not needed are of no interest.
        return RowLayout("json", needed)
    return layout_of(spec, text, warn) if spec.kind in ("directory", "delta") else None
