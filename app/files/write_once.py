"""Write-once Parquet: a batch is written whole, once, however often it is tried."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.files.atomic import create_durably


class WriteOnceParquet:
    """A Parquet dataset with one directory per query and batch.

    Each file in ``root/query=<id>/batch=<n>`` appears whole, in one step.

    Parameters
    ----------
    root
        Made if it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, query: str, batch: int) -> Path:
        return self.root / f"query={query}" / f"batch={batch:08d}"

    def write_file(self, table: pa.Table, query: str, batch: int, name: str) -> None:
        """Add a file to a batch; if it is there already, that one stays."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        create_durably(self.path(query, batch) / name, buffer.getvalue())

    def has_file(self, query: str, batch: int, name: str) -> bool:
        return (self.path(query, batch) / name).exists()
