"""What was predicted for an event is found again in the files that were written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.contract import Contract
from app.streaming.rows.predictions import read_served


@pytest.mark.parametrize(
    ("classes", "labels"),
    [(("0", "1", "7"), [7, 0, 1, 0]), (("a", "b", "c"), ["c", "a", "b", "a"])],
)
def test_each_event_has_the_class_it_was_given_whatever_the_order(
    tmp_path: Path, classes: tuple[str, ...], labels: list
):
    contract = Contract(("x",), ("x",), 1, classes)
    stale = [True, False, True, True]
    table = pa.table({"event_id": ["r", "s", "t", "u"], "prediction": labels, "stale": stale})
    pq.write_table(table.slice(0, 1), tmp_path / "a.parquet")
    pq.write_table(table.slice(1), tmp_path / "b.parquet")
    served = read_served(tmp_path, contract)
    assert served.to(["u", "t", "r"]).tolist() == [0, 1, 2]
    assert served.by_event() == {"r": 2, "s": 0, "t": 1, "u": 0}
    assert (len(served), served.rows_stale) == (4, 3)


def test_a_batch_without_a_file_served_nobody(tmp_path: Path):
    served = read_served(tmp_path / "batch", Contract(("x",), ("x",), 1, ("0", "1")))
    assert (len(served), served.rows_stale, served.by_event()) == (0, 0, {})
