"""A run says once that many rows died, and has failed when too many did."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from app.config.rows import RowSettings
from app.contract import Contract
from app.monitor.metrics import Totals
from app.monitor.records import LabelCounts
from app.parsing.row_parser import RowParser
from app.streaming.batch_writer import ROW
from app.streaming.feedback.rows import EVENT, LABEL
from app.streaming.rows.dead_letters import DeadLetterWatch
from tests.unit.monitor.batches import record
from tests.unit.rows import KEYED

FEEDBACK = Contract.of_feedback(("id", "t", "y"), ("no", "yes"), id="id", time="t", label="y")
EXAMPLE = {"id": "a", "t": "2024-01-01", "x0": "1,5", "x1": "abc", "y": "0"}
NO_NUMBER = "column x0 = '1,5' is not a number; --decimal , reads it as one"


def run(scored: int, reasons: dict[str, int], learned: int = 0, **labels) -> Totals:
    batch = record(
        rows_scored=scored, dead_letters=reasons, rows_learned=learned, labels=LabelCounts(**labels)
    )
    return Totals.of([batch])


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def watch(notes):
    """Return a function that makes the watch of a replay, or of a live stream."""

    def make(*, is_live: bool = False, **settings) -> DeadLetterWatch:
        parsers = {ROW: RowParser(KEYED)}
        if is_live:
            parsers = {EVENT: RowParser(KEYED), LABEL: RowParser(FEEDBACK)}
        examples = {(kind, "unparsable"): json.dumps(EXAMPLE) for kind in parsers}
        writer = SimpleNamespace(parsers=parsers, files=SimpleNamespace(examples=examples))
        return DeadLetterWatch(writer, RowSettings(**settings), notes.append)

    return make


def problem(watch: DeadLetterWatch, totals: Totals) -> str | None:
    found = watch.problem(totals)
    assert found is None or found.exit_code == 5
    return found and str(found)


def test_a_tenth_is_told_once_with_an_example(watch, notes):
    watching = watch()
    watching.look(run(90, {"unparsable": 10}))
    assert notes == []
    for dead in (1_100, 1_200):
        watching.look(run(9_000, {"unparsable": dead}))
    assert notes == [f"1,100 of 10,100 rows are dead letters, first: {NO_NUMBER}"]


def test_each_reason_has_an_example_or_its_count_the_most_frequent_first(watch, notes):
    dead = {"null_id": 3, "unparsable": 5, "diverged": 4, "null_time": 2, "null_feature": 1}
    watch().look(run(10, dead))
    assert notes == [
        f"15 of 21 rows are dead letters, first of each kind: {NO_NUMBER}; diverged (4); "
        "null_id (3); null_time (2)"
    ]


def test_cells_are_told_as_the_settings_read_them(watch, notes):
    watch(decimal=",").look(run(0, {"unparsable": 1}))
    assert notes == ["1 of 1 rows are dead letters, first: column x1 = 'abc' is not a number"]


@pytest.mark.parametrize(
    ("limit", "scored", "dead", "is_too_many"),
    [
        (1.0, 1, 99, False),
        (1.0, 0, 1, True),
        (0.1, 90, 10, False),
        (0.1, 90, 11, True),
        (0.0, 1000, 1, True),
        (0.0, 1000, 0, False),
        (0.0, 0, 0, False),
    ],
)
def test_more_than_the_limit_or_all_are_too_many(watch, limit, scored, dead, is_too_many):
    watching = watch(max_dead_letters=limit)
    found = problem(watching, run(scored, {"unparsable": dead} if dead else {}))
    assert (found is not None) == is_too_many


@pytest.mark.parametrize(
    ("received", "learned", "dead", "said"),
    [
        (10, 8, 2, None),
        (10, 0, 6, "6 of 10 labels"),
        (10, 4, 6, "6 of 10 labels"),
        # Some were given to an earlier run.
        (2, 8, 12, "12 of 20 labels"),
        (0, 0, 5, None),
    ],
)
def test_labels_are_counted_apart_from_events(watch, received, learned, dead, said):
    watching = watch(is_live=True, max_dead_letters=0.5)
    totals = run(100, {}, learned, received=received, dead={"late_feedback": dead})
    found = problem(watching, totals)
    assert found == (said and f"{said} are dead letters, first: late_feedback ({dead})")


def test_events_and_labels_are_told_together(watch):
    watching = watch(is_live=True)
    totals = run(0, {"unparsable": 2}, received=1, dead={"orphan_feedback": 1})
    assert problem(watching, totals) == (
        f"2 of 2 rows are dead letters, first: {NO_NUMBER}; "
        "1 of 1 labels are dead letters, first: orphan_feedback (1)"
    )
