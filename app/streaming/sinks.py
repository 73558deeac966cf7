"""Write-once Parquet: a batch is written whole, once, however often it is tried."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from app.durable import sync_directory

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

    def write(self, df: DataFrame, query: str, batch: int) -> None:
        """Write a batch; if it is there already, from an earlier try, that one stays."""
        staged = self.root / _STAGING / f"{query}-{batch}-{secrets.token_hex(4)}"
        df.write.parquet(hadoop_path(staged))
        final = self.path(query, batch)
        final.parent.mkdir(exist_ok=True)
        try:
            os.rename(staged, final)
        except OSError:
            if not final.exists():
                raise
            shutil.rmtree(staged)
        sync_directory(final.parent)

    def count_rows(self, query: str, batch: int) -> int:
        """Return how many rows a written batch has, from the files' footers."""
        files = self.path(query, batch).glob("*.parquet")
        return sum(pq.read_metadata(file).num_rows for file in files)

    def read(self, spark: SparkSession, query: str, batch: int) -> DataFrame:
        return spark.read.parquet(hadoop_path(self.path(query, batch)))

    def discard_staged(self) -> None:
        """Remove what earlier runs staged and did not finish."""
        shutil.rmtree(self.root / _STAGING, ignore_errors=True)
