"""What was predicted for an event is found again in the files that were written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from app.contract import Contract
from app.files.batches.dataset import PREDICTED, WriteOnceParquet
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
    predictions = WriteOnceParquet(tmp_path, PREDICTED)
    predictions.write(table, "q", 3)
    served = read_served(predictions, "q", 3, contract)
    assert served.to(["u", "t", "r"]).tolist() == [0, 1, 2]
    assert served.by_event() == {"r": 2, "s": 0, "t": 1, "u": 0}
    assert (len(served), served.rows_stale) == (4, 3)


def test_a_batch_without_a_file_served_nobody(tmp_path: Path):
    predictions = WriteOnceParquet(tmp_path, PREDICTED)
    served = read_served(predictions, "q", 3, Contract(("x",), ("x",), 1, ("0", "1")))
    assert (len(served), served.rows_stale, served.by_event()) == (0, 0, {})
