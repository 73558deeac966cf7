"""A batch that the tests of the monitor log and add up."""

from __future__ import annotations

import dataclasses

from app.monitor.records import BatchRecord

RECORD = BatchRecord(
    query="q",
    batch=0,
    rows_scored=90,
    rows_learned=80,
    dead_letters={"null_feature": 7, "unparsable": 3},
    served_errors=20,
    prequential_errors=16,
    version=1,
    alpha=[0.25, 0.75],
    finished_at="2024-01-01T00:00:00.000+00:00",
    seconds={"score": 1.5, "learn": 0.25, "publish": 0.125},
    rows_stale=30,
)


def record(**changes) -> BatchRecord:
    return dataclasses.replace(RECORD, **changes)
