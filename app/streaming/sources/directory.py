"""A Spark data source of directories and Delta tables that grow while they are read.

Rows are handed out as :mod:`app.streaming.sources.replay` does, at most so many a
batch and numbered in file order. New files join the end of the order
(:mod:`app.files.manifest`), and no file stops the stream
(:mod:`app.files.permissive`).

A file may be removed once the batch with its last row is committed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from app.config.connectors import SourceSpec
from app.errors import DataLossError, UserError
from app.files.delta_log import newest_version, open_table, require_deltalake
from app.files.finders import DeltaFinder, DirectoryFinder
from app.files.manifest import FileManifest, Finder
from app.files.permissive import open_permissively
from app.files.sequence import START, FileRows, FileSequence, Position, check_position
from app.streaming.rows.layout import RowLayout, spark_schema
from app.streaming.sources.file_columns import csv_header, json_columns, parquet_schema
from app.streaming.sources.pace import Pace, Pacer
from app.streaming.sources.replay import ArrowRows
from app.streaming.spark.runtime import end_with_the_jvm_quietly

_SECONDS_BETWEEN_LOOKS = 0.1
_LOOK_SHARE = 0.1
"""Of the time, at most this much is spent on looking for files, however many there are."""

_SAMPLE_FILES = 20


def read_directory(
    spark: SparkSession,
    spec: SourceSpec,
    layout: RowLayout,
    *,
    manifest: Path,
    max_rows_per_batch: int,
    pace: Pace | None = None,
) -> DataFrame:
    """Return the stream of a directory's or a Delta table's rows.

    Parameters
    ----------
    spark
    spec
        A directory or a Delta table. Its place may still be missing or empty.
    layout
        In CSV, its columns are what the cells of a line are, whatever the order in a file's
        header.
    manifest
        Where the order of the files is kept, on a filesystem that the driver and
        every executor share. It belongs to the query's checkpoint.
    max_rows_per_batch
    pace
        How it keeps step with another source.

    Returns
    -------
    DataFrame
        ``sequence`` (long, the row's number), then ``text`` or the columns.

    Raises
    ------
    UserError
        When the place is something else, or a typed column has the name of the number.
    """
    check_place(spec)
    # What a file has not is null.
    rows = layout.source_schema(str(spec)).toNullable()
    spark.dataSource.register(DirectorySource)
    stream = (
        spark.readStream.format(DirectorySource.name())
        .option("kind", spec.kind)
        .option("format", spec.format)
        .option("place", str(Path(spec.place).resolve()))
        .option("manifest", str(manifest.resolve()))
        .option("columns", json.dumps(layout.columns))
        .option("schema", rows.json())
        .option("rows_per_batch", max_rows_per_batch)
    )
    if pace is not None:
        stream = stream.option("pace", pace.to_option())
    return stream.load()


def check_place(spec: SourceSpec) -> None:
    """Refuse a place that will not become a source by waiting.

    Raises
    ------
    UserError
        When it is a file, or is to be a Delta table and is another directory.
    """
    place = Path(spec.place)
    if spec.kind == "delta":
        require_deltalake(f"{spec}: a Delta table")
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"{spec}: {place} is a file; name the directory that files appear in")
    if spec.kind == "delta" and newest_version(place) is None and any(place.iterdir()):
        raise UserError(f"{spec}: {place} holds files and is not a Delta table")


def layout_of(spec: SourceSpec) -> RowLayout | None:
    """Return the columns of the rows that are there by now, None when there are none yet.

    Raises
    ------
    UserError
        When files are there and none of the first ones is of the format.
    """
    check_place(spec)
    place = Path(spec.place)
    if spec.kind == "delta":
        if newest_version(place) is None:
            return None
        schema = open_table(place, str(spec)).schema().to_arrow()
        return RowLayout.typed(spark_schema(pa.schema(schema)))
    failure = None
    for path in DirectoryFinder(place).find((), {})[0][:_SAMPLE_FILES]:
        try:
            if spec.format == "parquet":
                return RowLayout.typed(spark_schema(parquet_schema([path])))
            columns = csv_header(path) if spec.format == "csv" else json_columns([path])
            return RowLayout(spec.format, columns)
        except UserError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return None


class DirectorySource(DataSource):
    """Data source ``hedgestream_directory``; its options are those of :func:`read_directory`."""

    @classmethod
    def name(cls) -> str:
        return "hedgestream_directory"

    def schema(self) -> StructType:
        return StructType.fromJson(json.loads(self.options["schema"]))

    def simpleStreamReader(self, schema: StructType) -> DirectoryStreamReader:
        end_with_the_jvm_quietly()
        place = Path(self.options["place"])
        finder: Finder = (
            DeltaFinder(place) if self.options["kind"] == "delta" else DirectoryFinder(place)
        )
        file_format, columns = self.options["format"], json.loads(self.options["columns"])
        return DirectoryStreamReader(
            FileManifest(Path(self.options["manifest"]), finder),
            file_format,
            columns,
            to_arrow_schema(schema, timezone="UTC"),
            int(self.options["rows_per_batch"]),
            Pacer.of(self.options, file_format, columns),
        )


class DirectoryStreamReader(SimpleDataSourceStreamReader, SupportsTriggerAvailableNow):
    """Hands out batches of at most ``rows_per_batch`` rows, and looks for files in between.

    The planner's reader looks; an executor's, which reads a batch again after a
    crash, finds in the manifest what the planner had found.
    """

    def __init__(
        self,
        files: FileManifest,
        file_format: str,
        columns: list[str] | None,
        schema: pa.Schema,
        rows_per_batch: int,
        pacer: Pacer | None = None,
    ) -> None:
        def open_file(path: str) -> FileRows:
            return open_permissively(path, file_format, columns, schema.remove(0))

        self._files = files
        self._sequence = FileSequence(files.files, file_format, schema.names[1:], open_file)
        self._rows = ArrowRows(self._sequence, schema)
        self._rows_per_batch = rows_per_batch
        self._pacer = pacer or Pacer()
        self._is_fixed = False
        self._next_look = 0.0
        self._read_to_end: Position | None = None

    def initialOffset(self) -> Position:
        return dict(START)

    def prepareForTriggerAvailableNow(self) -> None:
        """Take the files that are there now, and no others."""
        self._look()
        self._is_fixed = True
        self._pacer.end_with_backlog(self.initialOffset(), self._rows_per_batch, self._rows.read)

    def read(self, start: Position) -> tuple[Iterator[pa.RecordBatch], Position]:
        if not self._is_fixed and time.monotonic() >= self._next_look:
            self._look()
        # Spark asks 100 times a second whether there is more.
        if start == self._read_to_end:
            return iter(()), start
        batches, end = self._pacer.read(start, self._rows_per_batch, self._rows.read)
        # Files without rows count as read: the end may move by them alone.
        self._read_to_end = end if end == start else None
        # A list's iterator: Spark copies it.
        return iter(batches), end

    def readBetweenOffsets(self, start: Position, end: Position) -> Iterator[pa.RecordBatch]:
        check_position(end, self._files.files)
        batches, reached = self._rows.read(start, end["row"] - start["row"])
        if reached["row"] != end["row"]:
            raise DataLossError(
                f"rows {reached['row']} to {end['row'] - 1} were read once and are gone: a file "
                "was changed. Restore it, or start a new checkpoint"
            )
        return iter(batches)

    def _look(self) -> None:
        started = time.monotonic()
        found = self._files.look()
        ended = time.monotonic()
        self._next_look = ended + max(_SECONDS_BETWEEN_LOOKS, (ended - started) / _LOOK_SHARE)
        if found:
            self._sequence.extend(found)
            self._read_to_end = None
