"""A run whose labels came late, at a price, is told what would have learned for that."""

from __future__ import annotations

import dataclasses

import pytest

from app.monitor.lateness import horizon_note
from app.monitor.metrics import RunSummary, Totals
from tests.unit.monitor.batches import record

LATE = record(rows_scored=5000, rows_learned=5000, served_errors=1500, prequential_errors=500)


def summary(*records, **changes) -> RunSummary:
    run = dataclasses.replace(Totals.of(records), **changes)
    return RunSummary(run, run, version=1, state_sha256="ab" * 32, seconds=100.0)


def test_the_horizon_is_the_rows_of_a_batch():
    note = horizon_note(summary(LATE, LATE))
    assert "0.3000 of what was served was wrong, and 0.1000 had" in note
    assert "labels came some 5,000 rows late" in note
    assert "--horizon 5000 learns for that" in note


def test_rows_that_were_scored_while_a_label_was_waited_for_are_added():
    note = horizon_note(summary(LATE, LATE, mean_delay_seconds=20.0))
    assert "--horizon 7000" in note


@pytest.mark.parametrize(
    "run",
    [
        record(rows_scored=5000, rows_learned=0, served_errors=0, prequential_errors=0),
        record(rows_scored=1999, rows_learned=1999, served_errors=900, prequential_errors=1),
        record(rows_scored=5000, rows_learned=5000, served_errors=540, prequential_errors=500),
        record(rows_scored=5000, rows_learned=5000, served_errors=400, prequential_errors=500),
    ],
    ids=["nothing learned", "too few rows", "as good", "better"],
)
def test_nothing_is_said_where_it_cost_nothing(run):
    assert horizon_note(summary(run)) is None
