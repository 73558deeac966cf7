"""Write-once Parquet: a batch is written whole, once, however often it is tried."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from app.durable import create_durably, sync_directory
from app.errors import StorageError

_STAGING = "_staging"


def hadoop_path(path: Path) -> str:
    """Return a local path in Hadoop's notation, which is a URI without its escapes."""
    return f"file://{path}"


class WriteOnceParquet:
    """A Parquet dataset with one directory per query and batch.

    ``root/query=<id>/batch=<n>`` appears by one rename of a complete directory.
    Readers of ``root`` skip the staging directory, whose name starts with ``_``.

    Parameters
    ----------
    root : Path
        On a filesystem that the driver and every executor share.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, query: str, batch: int) -> Path:
        return self.root / f"query={query}" / f"batch={batch:08d}"

    def has(self, query: str, batch: int) -> bool:
        """Tell whether the batch is written."""
        return self.path(query, batch).exists()

    def write(
        self, df: DataFrame, query: str, batch: int, before_rename: Callable[[], None]
    ) -> None:
        """Write a batch; if it is there already, from an earlier try, that one stays.

        ``before_rename`` may still refuse the batch by raising.
        """
        staged = self.root / _STAGING / f"{query}-{batch}-{secrets.token_hex(4)}"
        df.write.parquet(hadoop_path(staged))
        before_rename()
        final = self.path(query, batch)
        final.parent.mkdir(exist_ok=True)
        try:
            os.rename(staged, final)
        except OSError as error:
            if not final.exists():
                raise StorageError(f"{final} cannot be written: {error.strerror}") from error
            shutil.rmtree(staged)
        sync_directory(final.parent)

    def write_file(self, table: pa.Table, query: str, batch: int, name: str) -> None:
        """Add a file to a batch; if it is there already, that one stays."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        create_durably(self.path(query, batch) / name, buffer.getvalue())

    def has_file(self, query: str, batch: int, name: str) -> bool:
        return (self.path(query, batch) / name).exists()

    def count_true(self, query: str, batch: int, column: str) -> int:
        """Return how many rows of a written batch have a boolean column true."""
        files = self.path(query, batch).glob("*.parquet")
        tables = (pq.ParquetFile(file).read(columns=[column]) for file in files)
        return sum(pc.sum(table[column]).as_py() or 0 for table in tables)

    def count_rows(self, query: str, batch: int) -> int:
        """Return how many rows a written batch has, from the files' footers."""
        files = self.path(query, batch).glob("*.parquet")
        return sum(pq.read_metadata(file).num_rows for file in files)

    def read(self, spark: SparkSession, query: str, batch: int) -> DataFrame:
        return spark.read.parquet(hadoop_path(self.path(query, batch)))

    def discard_staged(self, query: str) -> None:
        """Remove what earlier runs of a query staged and did not finish."""
        for staged in (self.root / _STAGING).glob(f"{query}-*"):
            shutil.rmtree(staged, ignore_errors=True)
