"""Moves that change what a run is told: for one run, or for good."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tests.chaos.operator.other_model import other_history
from tests.chaos.operator.place import LIVE, SERVER, TIMES
from tests.chaos.operator.rows import LABEL_TIMEOUT
from tests.chaos.operator.step import Step

_HARMLESS: dict[str, list[Any]] = {
    "keep-snapshots": [1, 2, 50],
    "keep-every": [0, 1, 3],
    "allow-relearn": [True],
    "on-registry-outage": ["fail"],
    "max-staleness": [5],
    "if-running": ["takeover", "wait", "exit"],
    "beta": [None],
}


def harmless(step: Step) -> None:
    """Settings that say nothing about which rows are learned, for one run."""
    name = step.rng.choice([*_HARMLESS, step.place.rows_option])
    value = step.rng.choice(_HARMLESS.get(name, [1000, 7]))
    _once(step, {name: value})


def for_good(step: Step) -> None:
    """Rows of a batch, or how many snapshots are kept, from now on."""
    place = step.place
    name = step.rng.choice(["keep-snapshots", "keep-every", place.rows_option])
    place.options[name] = step.rng.choice([1, 3, 9] if name.startswith("keep") else [15, 25, 40])
    step.notes.append(f"{name} {place.options[name]}")
    step.place.input.append()
    step.finish()


def of_identity(step: Step) -> None:
    """Settings that say how rows are read: those of the checkpoint stay."""
    columns = ["label", "id", "time"]
    if step.place.is_live:
        other = "rocksdb" if step.place.spec.store == "driver" else "driver"
        changes = {"state-store": other, "feedback-time": "event_time"}
    else:
        changes = {"format": "json"}
    changes |= {name: step.rng.choice(["x3", "nothing"]) for name in columns}
    changes |= {"encoding": "cp1252", "delimiter": ";", "escapes": True}
    name = step.rng.choice(list(changes))
    _refused(step, {name: changes[name]})


def of_the_label(step: Step) -> None:
    _refused(step, {"label": step.rng.choice(["x0", "truth"])})


def of_the_model(step: Step) -> None:
    """What was fixed when the model was created."""
    changes: list[dict[str, Any]] = [
        {"model": "another"},
        {"classes": "1,0"},
        {"classes": "a,b"},
        {"features": "x3,x2,x1,x0"},
        {"features": "x0,x1,x2"},
        {"layers": 4},
        {"units": 9},
        {"beta": 0.5},
        {"snapshots": str(step.place.root / "elsewhere")},
    ]
    _refused(step, step.rng.choice(changes))


def shorter_times(step: Step) -> None:
    """Rows are waited for less long, for one run."""
    name = step.rng.choice([*TIMES, "all"])
    shorter = {"label-timeout": 10, "lateness": 1, "max-lag": 15}
    changes = shorter if name == "all" else {name: shorter[name]}
    step.place.input.append(hold=step.rng.random() < 0.3)
    step.place.input.shorten()
    _once(step, changes, rows=False)
    # A label that came too late may have been ahead of all others.
    step.place.input.jump(3 * LABEL_TIMEOUT)
    step.place.input.append()
    step.finish()


def longer_times(step: Step) -> None:
    """Rows are waited for longer, for one run."""
    factor = step.rng.choice([2, 10, 1e6, 1e300])
    changes = {name: value * factor for name, value in TIMES.items()}
    # The next run may wait for a label that would come too late.
    step.place.input.loosen_late()
    step.place.input.append(junk=False)
    _once(step, changes, rows=False)
    step.place.input.append()
    step.finish()


def another_redis(step: Step) -> None:
    """Run without the server, which then has an older version than the files."""
    _once(step, {"redis-url": None})
    step.place.input.append()
    step.finish()


def wrong_redis(step: Step) -> None:
    """A Redis that holds a longer history of another model under the same name."""
    place = step.place
    step.place.input.append()
    with other_history(place, is_there=step.rng.random() < 0.5) as server:
        before = place.redis_contents(server.url)
        if step.run(changes={"redis-url": server.url}, may_refuse=True):
            step.problem("a Redis with another history of the model was taken")
        elif place.redis_contents(server.url) != before:
            step.problem("a Redis with another history of the model was changed")


def dead_redis(step: Step) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        _refused(step, {"redis-url": f"redis://127.0.0.1:{probe.getsockname()[1]}/0"})


def _once(step: Step, changes: dict[str, Any], *, rows: bool = True) -> None:
    if rows:
        step.place.input.append()
    step.notes.append(_shown(changes))
    step.run(changes=changes)


def _refused(step: Step, changes: dict[str, Any]) -> None:
    """Run with settings that must be refused."""
    step.place.input.append()
    step.notes.append(_shown(changes))
    if step.run(changes=changes, may_refuse=True):
        step.problem(f"{_shown(changes)} was not refused")


def _shown(changes: dict[str, Any]) -> str:
    return ", ".join(f"--{name} {value}" for name, value in changes.items())


MOVES: dict[str, tuple[Callable[[Step], None], tuple[str, ...], float]] = {
    "harmless ones once": (harmless, (), 2.0),
    "some for good": (for_good, (), 1.0),
    "how rows are read": (of_identity, (), 1.0),
    "another label": (of_the_label, (), 0.7),
    "another model": (of_the_model, (), 1.5),
    "shorter times once": (shorter_times, (LIVE,), 2.0),
    "longer times once": (longer_times, (LIVE,), 1.0),
    "another redis once": (another_redis, (SERVER,), 1.0),
    "a redis with a longer history": (wrong_redis, (), 1.0),
    "a redis that is not there": (dead_redis, (), 0.7),
}
