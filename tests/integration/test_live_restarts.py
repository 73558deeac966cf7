"""A live stream goes on after what its matching of labels has to cope with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.streaming import stream as stream_module
from app.streaming.feedback.rows import JoinState, live_rows
from tests.integration.live_streams import STARTED, live_run, outcome, write_json
from tests.integration.streams import FEATURES

pytestmark = pytest.mark.spark

RULES: dict[str, Any] = {"label_timeout": 60.0, "lateness": 0.0, "max_lag": 60.0}


class Rows:
    """Rows of two directories, each file of which is a batch of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = 0
        self.sources = f"json:{directory / 'events'}", f"json:{directory / 'labels'}"

    def event(self, name: str, seconds: float) -> None:
        values = dict.fromkeys(FEATURES, 0.5)
        self._write("events", {"event_id": name, "event_time": _iso(seconds)} | values)

    def label(self, name: str, seconds: float) -> None:
        self._write("labels", {"event_id": name, "feedback_time": _iso(seconds), "label": 1})

    def _write(self, source: str, row: dict[str, Any]) -> None:
        self._files += 1
        (self._directory / source).mkdir(parents=True, exist_ok=True)
        write_json(self._directory / source, [row], f"{self._files:03}")


def _iso(seconds: float) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    rows = Rows(tmp_path)
    (tmp_path / "events").mkdir()
    (tmp_path / "labels").mkdir()
    return rows


@pytest.mark.parametrize("state_store", ["driver", "rocksdb"])
def test_an_event_of_1970_and_one_before_are_learned(state_store, rows, tmp_path):
    for name, time in (("a", -3600.0), ("b", 0.0), ("c", 1.0)):
        rows.event(name, time)
        rows.label(name, time + 1)
    summary = live_run(
        tmp_path / "w", *rows.sources, **RULES | {"lateness": 7200.0}, state_store=state_store
    )
    assert outcome(summary) == {"learned": 3}


def test_a_checkpoint_of_an_older_release_goes_on(rows, tmp_path, monkeypatch):
    """Its state holds times as they are, and has dropped what was before 1970."""
    options = RULES | {"state_store": "rocksdb"}

    def unshifted(*args, **_):
        return live_rows(*args[:-1], JoinState(from_year_1=False, in_float64=False))

    rows.event("early", -5)
    rows.label("early", -4)
    rows.event("waits", 100)
    with monkeypatch.context() as patched:
        patched.setattr(stream_module, "live_rows", unshifted)
        live_run(tmp_path / "w", *rows.sources, **options)
    (tmp_path / "w" / "live" / "join.json").unlink()
    rows.label("waits", 101)
    summary = live_run(tmp_path / "w", *rows.sources, **options)
    assert outcome(summary) == {"learned": 1, "late_feedback": 1}


def test_an_id_that_comes_again_is_learned_again_and_the_stream_goes_on(rows, tmp_path):
    """The last run has other times."""
    for name, time in (("x", 0.0), ("f", 1000.0), ("x", 1001.0)):
        rows.event(name, time)
        rows.label(name, time + 1)
    live_run(tmp_path / "w", *rows.sources, **RULES, max_rows_per_batch=1)
    summary = live_run(tmp_path / "w", *rows.sources, **RULES | {"label_timeout": 3600.0})
    assert outcome(summary) == {"learned": 3}
    labels = summary.total.labels
    assert labels.received == summary.total.rows_learned + labels.pending == 3


@pytest.mark.parametrize("state_store", ["driver", "rocksdb"])
def test_a_month_of_files_is_learned_without_loss_whatever_the_lag(state_store, tmp_path):
    """Labels come three hours after their event on average, and a batch holds a week."""
    n, hour = 4000, 3600.0
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 30 * 24 * hour, n))
    labelled = times + np.minimum(rng.exponential(3 * hour, n), 33 * hour)
    values = dict.fromkeys(FEATURES, 0.5)
    events = [{"event_id": f"e{i}", "event_time": STARTED + times[i]} | values for i in range(n)]
    labels = [
        {"event_id": f"e{i}", "feedback_time": STARTED + labelled[i], "label": i % 2}
        for i in np.argsort(labelled).tolist()
    ]
    for name, rows in (("events", events), ("labels", labels)):
        for part, start in enumerate(range(0, n, 1500)):
            write_json(tmp_path / name, rows[start : start + 1500], f"{part:03}")
    summary = live_run(
        tmp_path / "w",
        f"json:{tmp_path / 'events'}",
        f"json:{tmp_path / 'labels'}",
        label_timeout=48 * hour,
        lateness=60.0,
        # Exact reading takes a batch for each lag.
        max_lag=hour if state_store == "driver" else 24 * hour,
        state_store=state_store,
    )
    assert (outcome(summary), summary.total.labels.dropped_by) == ({"learned": n}, {})
    assert summary.total.batches <= 40
