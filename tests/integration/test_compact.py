"""Spark sees the same predictions before and after they are merged, and none that are hidden."""

from __future__ import annotations

import shutil

from app.files.batches.merging import merge_closed
from tests.unit.files.batches.datasets import fill


def test_spark_reads_the_same_rows_before_and_after(spark, tmp_path):
    root = tmp_path / "predictions"
    fill(root, [0, 1, 2, 1000, 1001, 2000])

    def read() -> tuple[list[str], list[tuple]]:
        table = spark.read.parquet(str(root))
        return table.columns, sorted(map(tuple, table.collect()))

    before = read()
    assert {"batch_id", "query"} < set(before[0])
    # What a crash leaves in the middle of it.
    hidden = root / "query=q" / ".batches=00000000.merging"
    shutil.copytree(root / "query=q" / "batches=00000000", hidden)
    assert read() == before
    shutil.rmtree(hidden)
    assert merge_closed(root).files == 5
    assert read() == before
