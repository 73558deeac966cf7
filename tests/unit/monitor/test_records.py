"""The record of a batch counts its rows."""

from __future__ import annotations

from tests.unit.monitor.batches import RECORD, record


def test_rows_in_are_those_scored_and_the_dead_letters():
    assert RECORD.rows_in == 100
    assert record(dead_letters={}).rows_in == 90


def test_diverged_rows_were_scored_and_count_once():
    diverged = record(dead_letters=RECORD.dead_letters | {"diverged": 40})
    assert diverged.rows_in == RECORD.rows_in == 100
    assert record(rows_scored=40, dead_letters={"diverged": 40}).rows_in == 40
