"""Batches of predictions in a small dataset, and what readers see of it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from app.files.batches.dataset import PREDICTED, WriteOnceParquet


def rows(batch: int, n: int = 2) -> pa.Table:
    return pa.table(
        {
            "event_id": [f"{batch}-{i}" for i in range(n)],
            "event_time": pa.array([batch] * n, pa.timestamp("us", "UTC")),
            "probabilities": pa.array([[0.25, 0.75]] * n, pa.list_(pa.float32())),
            "batch_id": pa.array([batch] * n, pa.int64()),
        }
    )


def fill(root: Path, batches, query: str = "q", kind: str = PREDICTED) -> WriteOnceParquet:
    dataset = WriteOnceParquet(root, kind)
    for batch in batches:
        dataset.write(rows(batch), query, batch)
    return dataset


def seen(root: Path) -> pd.DataFrame:
    """Return what a reader sees, in an order of its own."""
    table = pd.read_parquet(root).astype({"probabilities": str})
    return table.sort_values(["query", "batch_id", "event_id"], ignore_index=True)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
