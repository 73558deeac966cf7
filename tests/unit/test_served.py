"""What was predicted for an event is found again in the files that were written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.streaming.predictions import served_to
from app.streaming.schema import Contract


@pytest.mark.parametrize(
    ("classes", "labels"),
    [(("0", "1", "7"), [7, 0, 1, 0]), (("a", "b", "c"), ["c", "a", "b", "a"])],
)
def test_each_event_has_the_class_it_was_given_whatever_the_order(
    tmp_path: Path, classes: tuple[str, ...], labels: list
):
    contract = Contract(("x",), ("x",), 1, classes)
    table = pa.table({"event_id": ["r", "s", "t", "u"], "prediction": labels})
    pq.write_table(table.slice(0, 1), tmp_path / "a.parquet")
    pq.write_table(table.slice(1), tmp_path / "b.parquet")
    assert served_to(tmp_path, contract, ["u", "t", "r"]).tolist() == [0, 1, 2]
