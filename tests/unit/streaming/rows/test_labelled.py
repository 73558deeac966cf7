"""Labelled rows reach the learner in one order, however Spark hands them over."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from app.registry.feedback_log import FeedbackLog
from app.streaming.rows.labelled import UNKNOWN, LabelledRows

SCHEMA = pa.schema(
    [
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("sequence", pa.int64()),
        ("event_id", pa.string()),
        ("features", pa.list_(pa.float64(), 2)),
        ("label_index", pa.int32()),
        ("reason", pa.string()),
    ]
)
NAMES = SCHEMA.names


def at(second: int | None) -> datetime | None:
    return None if second is None else datetime(2024, 1, 1, 0, 0, second, tzinfo=UTC)


def row(second: int | None, sequence: int, event_id: str = "e", label: int | None = 1, **changes):
    """Return a good row, told apart by its features."""
    values = [at(second), sequence, event_id, [sequence / 3, -sequence], label, None]
    return dict(zip(NAMES, values, strict=True)) | changes


def table(rows: list[dict], chunks: int = 1) -> pa.Table:
    parts = [rows[i::chunks] for i in range(chunks)]
    return pa.concat_tables([pa.Table.from_pylist(part, SCHEMA) for part in parts])


def labelled(rows: list[dict], chunks: int = 1) -> LabelledRows:
    return LabelledRows.from_arrow(table(rows, chunks), n_features=2)


# In the total order: by time, rows without one last, then by number, then by id.
ORDERED = [
    row(1, 30, "z"),
    row(2, 9, "b"),
    row(2, 10, "a", label=0),
    row(2, 11, "10"),
    row(2, 11, "9", label=0),
    row(3, 1, "c"),
    row(None, 2, "d"),
    row(None, 12, "e"),
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("chunks", [1, 3, 8])
def test_rows_come_in_their_total_order_from_any_other(seed, chunks):
    rows = random.Random(seed).sample(ORDERED, len(ORDERED))
    found = labelled(rows, chunks)

    assert found.event_ids == [each["event_id"] for each in ORDERED]
    assert found.sequences.tolist() == [each["sequence"] for each in ORDERED]
    assert found.features.tolist() == [each["features"] for each in ORDERED]
    assert found.labels.tolist() == [each["label_index"] for each in ORDERED]
    assert found.served.tolist() == [UNKNOWN] * len(ORDERED)
    assert len(found) == len(ORDERED)


@pytest.mark.parametrize("chunks", [1, 2])
def test_rows_without_a_label_and_rows_with_a_fault_are_left_out(chunks):
    rows = [
        row(1, 0),
        row(1, 1, label=None),
        row(1, 2, reason="duplicate_id", features=None),
        row(1, 3, reason="unparsable", features=None, label=None),
        row(1, 4),
    ]

    found = labelled(rows, chunks)
    assert found.sequences.tolist() == [0, 4]
    assert found.features.tolist() == [[0.0, 0.0], [4 / 3, -4.0]]


@pytest.mark.parametrize(
    "given",
    [
        table([]),
        table([row(1, 0, label=None)]),
        SCHEMA.empty_table(),
        pa.Table.from_batches([], SCHEMA),
    ],
    ids=["no rows", "no label", "an empty table", "no chunk"],
)
def test_no_labelled_rows_are_rows_all_the_same(given):
    found = LabelledRows.from_arrow(given, n_features=2)

    assert len(found) == 0
    assert found.event_ids == []
    assert found.features.shape == (0, 2)


def test_arrays_have_the_dtypes_of_the_learner():
    found = labelled(ORDERED)

    assert found.features.dtype == np.float64
    assert (found.labels.dtype, found.served.dtype) == (np.int32, np.int32)
    assert found.sequences.dtype == np.int64


def test_rows_may_be_a_slice_of_a_larger_table():
    found = LabelledRows.from_arrow(table(ORDERED).slice(2, 3), n_features=2)

    assert found.features.tolist() == [each["features"] for each in ORDERED[2:5]]


def test_rows_are_recorded_in_the_order_they_are_learned(tmp_path):
    log = FeedbackLog(tmp_path)
    log.write("q", 0, labelled(ORDERED[::-1]))

    assert log.read("q", 0).event_ids == [each["event_id"] for each in ORDERED]
