"""The main job on real input, at the paper's size of network."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.run import ReplaySettings
from app.monitor.metrics import RunSummary
from app.streaming.replay import replay

ELECTRICITY = Path(__file__).resolve().parents[3] / "shared" / "data" / "electricity.csv"
ROWS = 45_312

pytestmark = pytest.mark.skipif(
    not ELECTRICITY.exists(), reason=f"the data set {ELECTRICITY} is not beside the checkout"
)


def replay_electricity(workdir: Path, **changes: int) -> RunSummary:
    return replay(
        ReplaySettings(input=ELECTRICITY, format="csv", label="class", workdir=workdir, **changes)
    )


@pytest.fixture(scope="module")
def by_default(tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    return replay_electricity(tmp_path_factory.mktemp("electricity"))


def test_every_row_is_learned_and_the_error_is_that_of_a_learner(by_default: RunSummary):
    run = by_default.run
    assert (run.rows_in, run.rows_scored, run.rows_learned) == (ROWS, ROWS, ROWS)
    assert run.prequential_error <= 0.1046


@pytest.mark.parametrize("rows_per_batch", [500, 5_000, ROWS])
def test_state_is_the_same_for_any_rows_per_batch(by_default, tmp_path, rows_per_batch):
    summary = replay_electricity(tmp_path, rows_per_batch=rows_per_batch)
    assert summary.state_sha256 == by_default.state_sha256
    assert summary.run.prequential_error == by_default.run.prequential_error
