"""The operator's walk without Spark: its plan, its model of the truth, and undoing of faults."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.chaos.operator.faults import FileFault, contents, damage_file, lose_part, restore_part
from tests.chaos.operator.moves import MOVES
from tests.chaos.operator.step import kind_of
from tests.chaos.operator.truth import Found, Truth
from tests.chaos.operator.walk import Visit, planned


@pytest.mark.parametrize(("seed", "steps"), [(0, 1), (1, 120), (2, 500)])
def test_a_plan_has_every_move_where_it_can_be_done(seed, steps):
    visits = planned(seed, steps)

    done = Counter(name for visit in visits for name in visit.steps.values())
    assert done.keys() == MOVES.keys()
    assert done.total() >= steps
    assert all(MOVES[name].suits(v.spec) for v in visits for name in v.steps.values())
    assert planned(seed, steps) == visits


def test_a_visit_is_read_as_it_was_printed():
    for visit in planned(0, 1):
        assert Visit.parse(str(visit)) == visit


def test_messages_that_differ_in_names_and_numbers_are_of_one_kind():
    one = kind_of("/tmp/a/w/ledgers/1.sqlite belongs to batch 3")
    assert one == kind_of("/tmp/b/x/ledgers/2.sqlite belongs to batch 14")
    assert one != kind_of("/tmp/b/x/ledgers/2.sqlite is damaged")


class TestTruth:
    @pytest.fixture
    def truth(self) -> Truth:
        truth = Truth()
        for i in ("a", "b", "c"):
            truth.rows[i] = 1
            truth.values[i] = np.zeros(4, np.float32), 0
        truth.scored = Counter({"a": 1, "b": 1})
        truth.dead["c", "unparsable"] = 1
        truth.learned = ["a", "b"]
        return truth

    @pytest.fixture
    def found(self) -> Found:
        return Found(
            predictions=Counter({"a": 1, "b": 1}),
            dead=Counter({("event", "c", "unparsable"): 1}),
            batches=[["a"], ["b"]],
            sequence=["a", "b"],
            has_rollback=False,
            row_count=2,
            state_sha256="s",
            expected_sha256="s",
            totals=SimpleNamespace(rows_in=3, rows_scored=2, rows_learned=2),
        )

    def problems(self, truth: Truth, found: Found) -> list[str]:
        return truth.problems(found, is_live=False, has_statistics=True)

    def test_what_is_right_is_no_problem(self, truth, found):
        assert self.problems(truth, found) == []

    @pytest.mark.parametrize(
        "change",
        [
            {"predictions": Counter({"a": 1})},
            {"predictions": Counter({"a": 2, "b": 1})},
            {"dead": Counter()},
            {"dead": Counter({("event", "c", "null_id"): 1})},
            {"batches": [["a"]], "sequence": ["a"]},
            {"batches": [["a"], ["b"], ["b"]]},
            {"batches": [["b"], ["a"]], "sequence": ["b", "a"]},
            {"row_count": 3},
            {"state_sha256": "t"},
            {"totals": SimpleNamespace(rows_in=4, rows_scored=2, rows_learned=2)},
        ],
    )
    def test_what_is_lost_or_twice_is_a_problem(self, truth, found, change):
        assert self.problems(truth, replace(found, **change))

    def test_a_loose_row_must_add_up(self, truth, found):
        truth.loose.add("c")
        assert self.problems(truth, found) == []
        assert self.problems(truth, replace(found, dead=Counter()))


class TestFaults:
    @pytest.fixture
    def workdir(self, tmp_path):
        for name in ("checkpoint/metadata", "checkpoint/offsets/0", "predictions/q/p.parquet"):
            path = tmp_path / "w" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode() * 9)
        return tmp_path / "w"

    @pytest.mark.parametrize("damage", ["remove", "flip", "cut", "empty", "nest", "older"])
    def test_a_damage_is_undone(self, workdir, damage):
        before = contents(workdir)

        path = workdir / "checkpoint" / "metadata"
        fault = damage_file(workdir, path, damage, random.Random(0), b"x")
        assert contents(workdir) != before
        fault.undo()
        assert contents(workdir) == before

    def test_a_lost_and_a_restored_part_are_undone(self, workdir, tmp_path):
        before = contents(workdir)
        (tmp_path / "old" / "checkpoint").mkdir(parents=True)
        (tmp_path / "old" / "checkpoint" / "metadata").write_bytes(b"old")

        for do in (
            lambda: lose_part(workdir, "the checkpoint"),
            lambda: restore_part(workdir, "the checkpoint", tmp_path / "old"),
        ):
            fault = do()
            assert isinstance(fault, FileFault)
            assert contents(workdir) != before
            fault.undo()
            assert contents(workdir) == before

    def test_only_what_nobody_looks_at_may_stay_damaged(self, workdir):
        paths = [workdir / "checkpoint/metadata", workdir / "predictions/q/p.parquet"]
        faults = [damage_file(workdir, path, "empty", random.Random(0)) for path in paths]

        assert [fault.undo_unnoticed() for fault in faults] == [[], ["predictions/q/p.parquet"]]
        assert [path.stat().st_size > 0 for path in paths] == [False, True]
