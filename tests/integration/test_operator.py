"""The short form of the operator's walk: some mishaps of each kind, in two places."""

from __future__ import annotations

import contextlib

import pytest

from tests.chaos.operator.walk import Visit, Walk

pytestmark = [pytest.mark.spark, pytest.mark.redis, pytest.mark.timeout(600)]

VISITS = (
    "replay/server/driver/now; 1 redis: version 03; 2 redis: wrong key type; "
    "3 files: seen ids emptied; 4 files: checkpoint metadata missing for one start; "
    "5 settings: another label; 6 at work: SIGTERM before the query is up; "
    "7 files: list of files in another order",
    "live/embedded/driver/before1970; 8 id again; 9 files: ledger removed; "
    "10 files: newest snapshot flipped; 11 files: settings nested deeply; "
    "12 settings: shorter times once",
)


def test_what_an_operator_does_is_refused_in_one_line_or_changes_nothing(tmp_path):
    with contextlib.closing(Walk(tmp_path, seed=0, workers=1)) as walk:
        for visit in VISITS:
            walk.visit(Visit.parse(visit))

    assert walk.problems == []
    assert walk.steps.total() == 12
    assert walk.refusals.total() >= 6
