"""The sums over batches add up."""

from __future__ import annotations

import pytest

from app.monitor.metrics import Totals
from tests.unit.monitor.batches import RECORD, record


def test_everything_is_summed():
    second = record(
        rows_scored=10,
        rows_learned=20,
        dead_letters={"nan_feature": 1, "unparsable": 4},
        served_errors=30,
        prequential_errors=9,
        seconds={"score": 0.5, "learn": 0.25, "publish": 0.5},
        rows_stale=4,
    )
    assert Totals.of([RECORD, second]) == Totals(
        batches=2,
        rows_in=115,
        rows_scored=100,
        rows_learned=100,
        rows_stale=34,
        dead_letters=15,
        dead_letters_by_reason={"nan_feature": 1, "null_feature": 7, "unparsable": 7},
        served_error=0.5,
        prequential_error=0.25,
        score_seconds=2.0,
        learn_seconds=0.5,
        publish_seconds=0.625,
        phases={"score": 2.0, "publish": 0.625},
    )


def test_diverged_rows_are_dead_letters_and_come_in_once():
    totals = Totals.of([RECORD, record(dead_letters={"diverged": 40, "unparsable": 1})])
    assert (totals.rows_in, totals.rows_scored) == (100 + 91, 180)
    assert totals.dead_letters == 10 + 41
    assert totals.dead_letters_by_reason["diverged"] == 40


def test_reasons_come_in_alphabetical_order():
    totals = Totals.of([record(dead_letters={"z": 1, "b": 1}), record(dead_letters={"a": 1})])
    assert list(totals.dead_letters_by_reason) == ["a", "b", "z"]


@pytest.mark.parametrize(
    "records", [[], [record(rows_learned=0, served_errors=0, prequential_errors=0)]]
)
def test_there_is_no_error_without_learned_rows(records):
    totals = Totals.of(records)
    assert (totals.served_error, totals.prequential_error) == (None, None)


def test_a_batch_that_learned_nothing_took_no_time_to_learn():
    totals = Totals.of([record(seconds={"score": 0.5})])
    assert (totals.score_seconds, totals.learn_seconds, totals.publish_seconds) == (0.5, 0, 0)
