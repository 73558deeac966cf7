"""Figures of several processes make one table that says which target is missed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench import figures
from tests.bench.figures import Figure


@pytest.mark.parametrize(
    ("value", "limit", "is_met"),
    [(2.0, "<= 2.0", True), (2.1, "<= 2.0", False), (0.8, ">= 0.8", True), (0.7, ">= 0.8", False)],
)
def test_a_figure_is_held_against_its_limit(value, limit, is_met):
    assert Figure("learning", value, limit, "").is_met is is_met


def test_a_process_adds_to_the_figures(tmp_path):
    path = tmp_path / "figures"
    for value in (1.5, 2.5):
        code = f"from tests.bench.figures import tell; tell('learning', {value}, '<= 2.0', '9 us')"
        subprocess.run(
            [sys.executable, "-c", code], env=figures.environment(path), check=True, timeout=60
        )
    lines = figures.table(figures.gathered(path)).splitlines()
    assert [line.split()[:5] for line in lines[1:]] == [
        ["learning", "1.5", "<=", "2.0", "met"],
        ["learning", "2.5", "<=", "2.0", "MISSED"],
    ]


def test_nothing_is_kept_when_nobody_gathers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures.tell("learning", 1.0, "<= 2.0", "")
    assert not list(tmp_path.iterdir())
