"""Live streams for tests: events, their late labels, and all that goes wrong with those."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.config.connectors import parse_source
from app.config.run import StreamSettings
from app.monitor.metrics import RunSummary
from app.streaming.stream import stream
from tests.integration.streams import FEATURES, SMALL, small_rows

STARTED = 1_700_000_000.0
LABEL_TIMEOUT, LATENESS, MAX_LAG = 600.0, 20.0, 1200.0
MEAN_DELAY = 60.0
JITTER = LATENESS / 4


@dataclass(frozen=True)
class LiveStream:
    """Rows in the order they arrive, and what is to become of them.

    Attributes
    ----------
    events, feedback : list of dict
    expected : dict of str to int
        Labels ``learned``, and dead ones by reason.
    """

    events: list[dict[str, Any]]
    feedback: list[dict[str, Any]]
    expected: dict[str, int]


def live_stream(
    n: int,
    *,
    seed: int = 0,
    seconds: float = 3600.0,
    duplicates: float = 0.02,
    orphans: float = 0.01,
    conflicts: float = 0.005,
    beyond: float = 0.005,
) -> LiveStream:
    """Return ``n`` events over some seconds, each with a label after a random delay.

    Shares are of the events: labels given twice, labels without an event, labels
    contradicted later, and labels given when it was too late. A last event and its label
    come so long after that nothing is waited for in the end, and not so long that the
    source they come from first would leave the other one behind.
    """
    rng = np.random.default_rng(seed)
    X, y = small_rows(n + 1, seed)
    times = STARTED + np.sort(rng.uniform(0, seconds, n))
    delays = np.minimum(rng.exponential(MEAN_DELAY, n), LABEL_TIMEOUT * 0.9)
    kinds = rng.permutation(n)
    counts = [round(share * n) for share in (duplicates, conflicts, beyond)]
    edges = np.cumsum([0, *counts])
    twice, contradicted, late = (kinds[a:b] for a, b in itertools.pairwise(edges))
    delays[late] = LABEL_TIMEOUT * rng.uniform(1.1, 1.5, len(late))

    labels = [(f"e{i}", times[i] + delays[i], y[i]) for i in range(n)]
    later = JITTER * 2 + rng.uniform(1, MEAN_DELAY, n)
    labels += [(f"e{i}", times[i] + delays[i] + later[i], y[i]) for i in twice]
    labels += [(f"e{i}", times[i] + delays[i] + later[i], 1 - y[i]) for i in contradicted]
    n_orphans = round(orphans * n)
    labels += [
        (f"nobody{i}", time, 1)
        for i, time in enumerate(STARTED + rng.uniform(0, seconds, n_orphans))
    ]
    end = STARTED + seconds + 1.6 * LABEL_TIMEOUT
    events = [_event(f"e{i}", times[i], X[i]) for i in _arriving(times, rng)]
    feedback = [_label(*labels[i]) for i in _arriving(np.array([t for _, t, _ in labels]), rng)]
    events.append(_event("end", end, X[n]))
    feedback.append(_label("end", end, y[n]))
    expected = {
        "learned": n - len(late) + 1,
        "duplicate_feedback": len(twice),
        "conflicting_feedback": len(contradicted),
        "late_feedback": len(late),
        "orphan_feedback": n_orphans,
    }
    return LiveStream(events, feedback, expected)


def write_json(directory: Path, rows: Sequence[dict[str, Any]], name: str = "part") -> Path:
    """Write rows into a new file of a directory, which appears whole."""
    directory.mkdir(parents=True, exist_ok=True)
    staged = directory / f".{name}.json"
    staged.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return staged.rename(directory / f"{name}.json")


def live_settings(workdir: Path, events: str, feedback: str, **changes: Any) -> StreamSettings:
    options = {
        "events": parse_source(events, "events"),
        "feedback": parse_source(feedback, "feedback"),
        "workdir": workdir,
        "features": FEATURES,
        "classes": ("0", "1"),
        "label_timeout": LABEL_TIMEOUT,
        "lateness": LATENESS,
        "max_lag": MAX_LAG,
        "max_rows_per_batch": 1000,
        "model_options": SMALL,
        "available_now": True,
    }
    return StreamSettings(**(options | changes))


def live_run(workdir: Path, events: str, feedback: str, **changes: Any) -> RunSummary:
    return stream(live_settings(workdir, events, feedback, **changes))


def outcome(summary: RunSummary) -> dict[str, int]:
    """Return what became of the labels, in the form of :attr:`LiveStream.expected`."""
    return {"learned": summary.total.rows_learned, **summary.total.labels.dead}


def _arriving(times: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    """Yield the places of rows in an order that is not quite that of their times."""
    return iter(np.argsort(times + rng.uniform(0, JITTER, len(times))).tolist())


def _event(event_id: str, time: float, x: np.ndarray) -> dict[str, Any]:
    values = map(float, x)
    return {"event_id": event_id, "event_time": _iso(time)} | dict(
        zip(FEATURES, values, strict=True)
    )


def _label(event_id: str, time: float, label: int) -> dict[str, Any]:
    return {"event_id": event_id, "feedback_time": _iso(time), "label": int(label)}


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
