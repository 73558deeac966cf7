"""A Spark data source of directories and Delta tables that grow while they are read.

Rows are handed out as :mod:`app.streaming.sources.replay` does, at most so many a
batch and numbered in file order. New files join the end of the order
(:mod:`app.files.manifest`), and no file stops the stream
(:func:`app.files.reading.readers.open_arrived`).

A file may be removed once the batch with its last row is committed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from app.config.connectors import SourceSpec
from app.errors import DataLossError, UserError
from app.files.delta_log import newest_version, open_table, require_deltalake
from app.files.finders import DeltaFinder, DirectoryFinder
from app.files.manifest import FileManifest, Finder
from app.files.reading.readers import open_arrived
from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.files.sequence import START, FileSequence, Position, check_position
from app.parsing.packed_rows import packed_batches
from app.streaming.rows.layout import PACKED_ROWS, TYPED, RowLayout
from app.streaming.sources.file_columns import (
    columns_of_file,
    note_on_partitions,
    with_partitions,
)
from app.streaming.sources.pace import Pace, Pacer
from app.streaming.sources.replay import MOST_ROWS_AT_ONCE
from app.streaming.spark.runtime import end_with_the_jvm_quietly

_SECONDS_BETWEEN_LOOKS = 0.1
_LOOK_SHARE = 0.1
"""Of the time, at most this much is spent on looking for files, however many there are."""

_SAMPLE_FILES = 20


def read_directory(
    spark: SparkSession,
    spec: SourceSpec,
    columns: Sequence[str],
    *,
    manifest: Path,
    max_rows_per_batch: int,
    pace: Pace | None = None,
    text: TextFormat = AS_USUAL,
) -> DataFrame:
    """Return the stream of a directory's or a Delta table's rows.

    Parameters
    ----------
    spark
    spec
        A directory or a Delta table. Its place may still be missing or empty.
    columns
        Those that are needed. Each file's own header or schema says where they are.
    manifest
        Where the order of the files is kept, on a filesystem that the driver and
        every executor share. It belongs to the query's checkpoint.
    max_rows_per_batch
    pace
        How it keeps step with another source.
    text
        How text is written.

    Returns
    -------
    DataFrame
        ``rows`` (binary), packed.

    Raises
    ------
    UserError
        When the place is something else.
    """
    check_place(spec)
    spark.dataSource.register(DirectorySource)
    stream = (
        spark.readStream.format(DirectorySource.name())
        .option("kind", spec.kind)
        .option("format", spec.format)
        .option("place", str(Path(spec.place).resolve()))
        .option("manifest", str(manifest.resolve()))
        .option("columns", json.dumps(columns))
        .option("text", text.to_option())
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


def layout_of(
    spec: SourceSpec, text: TextFormat = AS_USUAL, warn: Callable[[str], None] = lambda said: None
) -> RowLayout | None:
    """Return the columns of the rows that are there by now, None when there are none yet.

    Parameters
    ----------
    spec
    text
        How text files are written.
    warn
        Given a message about columns that are there twice.

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
        return RowLayout(
            TYPED, tuple(field.name for field in open_table(place, str(spec)).schema().fields)
        )
    failure = None
    for path in DirectoryFinder(place).find((), {})[0][:_SAMPLE_FILES]:
        try:
            own = columns_of_file(path, spec.format, text)
        except UserError as error:
            failure = failure or error
            continue
        for note in note_on_partitions(own, [os.path.relpath(path, place.resolve())]):
            warn(note)
        return RowLayout(spec.format, with_partitions(own, [path]))
    if failure is not None:
        raise failure
    return None


class DirectorySource(DataSource):
    """Data source ``hedgestream_directory``; its options are those of :func:`read_directory`."""

    @classmethod
    def name(cls) -> str:
        return "hedgestream_directory"

    def schema(self) -> StructType:
        return PACKED_ROWS

    def simpleStreamReader(self, schema: StructType) -> DirectoryStreamReader:
        end_with_the_jvm_quietly()
        place = Path(self.options["place"])
        finder: Finder = (
            DeltaFinder(place) if self.options["kind"] == "delta" else DirectoryFinder(place)
        )
        return DirectoryStreamReader(
            FileManifest(Path(self.options["manifest"]), finder),
            self.options["format"],
            json.loads(self.options["columns"]),
            int(self.options["rows_per_batch"]),
            Pacer.of(self.options),
            TextFormat.from_option(self.options["text"]),
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
        columns: list[str],
        rows_per_batch: int,
        pacer: Pacer | None = None,
        text: TextFormat = AS_USUAL,
    ) -> None:
        self._files = files
        self._rows = FileSequence(files.files, file_format, columns, open_arrived, text)
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
        return iter(packed_batches(batches, MOST_ROWS_AT_ONCE)), end

    def readBetweenOffsets(self, start: Position, end: Position) -> Iterator[pa.RecordBatch]:
        check_position(end, self._files.files)
        batches, reached = self._rows.read(start, end["row"] - start["row"])
        if reached["row"] != end["row"]:
            raise DataLossError(
                f"rows {reached['row']} to {end['row'] - 1} were read once and are gone: a file "
                "was changed. Restore it, or start a new checkpoint"
            )
        return iter(packed_batches(batches, MOST_ROWS_AT_ONCE))

    def _look(self) -> None:
        started = time.monotonic()
        found = self._files.look()
        ended = time.monotonic()
        self._next_look = ended + max(_SECONDS_BETWEEN_LOOKS, (ended - started) / _LOOK_SHARE)
        if found:
            self._rows.extend(found)
            self._read_to_end = None
