"""What may happen in one step: every kind of it by name, with how often and where it happens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.registry.open import version_log_of
from tests.chaos.operator import at_work, files, settings
from tests.chaos.operator.faults import PARTS, TARGETS
from tests.chaos.operator.keys import KEY_FAULTS
from tests.chaos.operator.place import LIVE, REPLAY, SERVER, Spec
from tests.chaos.operator.rows import LABEL_TIMEOUT
from tests.chaos.operator.step import Step

_DAY = 86_400.0
_YEAR = 366 * _DAY

Act = Callable[[Step], None]


@dataclass(frozen=True)
class Move:
    """A kind of step.

    Attributes
    ----------
    act
    needs
        Words of a place's description without which it cannot be done.
    weight
        How often it is taken, beside others.
    """

    act: Act
    needs: frozenset[str] = frozenset()
    weight: float = 1.0

    def suits(self, spec: Spec) -> bool:
        return self.needs <= set(str(spec).split("/"))


def run(step: Step) -> None:
    """New rows, and a run to their end."""
    _append(step)
    step.finish()


def idle(step: Step) -> None:
    """A run that finds nothing new."""
    step.finish()


def id_again(step: Step) -> None:
    """An id comes again, after a share of the time that its event waits for a label, or more."""
    gap = step.rng.choice([0.1, 0.9, 1.1, 1.9, 2.1, 3.0, 5.0])
    step.notes.append(f"{gap} x label timeout")
    step.place.input.again(gap * LABEL_TIMEOUT)
    step.finish()


def jump_forward(step: Step) -> None:
    step.place.input.jump(step.rng.choice([3600.0, 3 * _DAY, 3 * _YEAR]))
    run(step)


def jump_back(step: Step) -> None:
    """Rows of long ago come in between."""
    step.place.input.append(back=step.rng.choice([900.0, 30 * _DAY, 60 * _YEAR]))
    step.finish()


def clock_jump(step: Step) -> None:
    """The driver's clock is wrong for one run."""
    _append(step)
    step.run(clock=step.rng.choice([-_YEAR, -_DAY, -60.0, 60.0, 40 * _DAY]))


def times_of_files(step: Step) -> None:
    """A file is from the past, or the future."""
    step.finish()
    step.place.input.append(mtime=step.rng.choice([0.0, 1e9, 4e9]))
    step.finish()


def labels_held(step: Step) -> None:
    """Labels come a run after their events."""
    step.place.input.append(hold=True)
    step.finish()
    run(step)


def backlog(step: Step) -> None:
    """Labels stand far behind their events in a backlog of both."""
    step.place.input.append(60, junk=False, copies=3, spacing=60.0)
    step.finish()


def key_fault(step: Step, name: str) -> None:
    """Something happens to Redis between two runs."""
    place = step.place
    if step.rng.random() < 0.7:
        _append(step)
    keys = place.redis_contents()
    with place.client() as client:
        step.notes.append(KEY_FAULTS[name](client, step.rng))
    step.run(keys=keys)


class _CutFile:
    """A file that was cut, which can be put back."""

    def __init__(self, path: Path) -> None:
        self._path, self._whole = path, path.read_bytes()
        path.write_bytes(self._whole[: len(self._whole) // 2])

    def undo(self) -> None:
        self._path.write_bytes(self._whole)

    def undo_unnoticed(self) -> list[str]:
        self.undo()
        return [self._path.name]


def truncated_input(step: Step) -> None:
    """A file that was read is cut, and put back after a run."""
    step.run(_CutFile(sorted(step.place.input.directory.rglob("*.csv"))[-1]))
    _append(step)
    step.finish()


def input_gone(step: Step) -> None:
    """A file that was read to its end is removed."""
    first = sorted(path for path in step.place.input.directory.rglob("*") if path.is_file())[0]
    last = sorted(path for path in first.parent.iterdir() if path.is_file())[-1]
    if first != last:
        os.remove(first)
        step.place.input.is_whole = False
        step.notes.append(first.name)
    run(step)


def undisturbed(step: Step) -> None:
    """The same rows once more, in a new work directory and at once, lead to the same state."""
    place, truth = step.place, step.place.truth
    step.finish()
    found = place.found()
    is_fixed = not (truth.unordered or found.has_rollback or truth.loose & set(found.sequence))
    if step.problems or not place.input.is_whole or not is_fixed:
        step.notes.append("nothing to compare")
        return
    workdir = place.root / "undisturbed"
    (worker,) = step.pool.take(1)
    worker.start(place.arguments({"workdir": workdir, "redis-url": None}))
    step.judge_ended(worker.wait())
    there = version_log_of(workdir).newest().state_sha256
    shutil.rmtree(workdir)
    if there != found.state_sha256:
        step.problem(f"undisturbed, the state is {there}, not {found.state_sha256}")


def _append(step: Step) -> None:
    """Write new rows, in a file of their own or, in a replay, at the end of the last one."""
    if step.place.is_live:
        step.place.input.append()
    else:
        step.place.input.append(grow=step.rng.random() < 0.3)


def _moves() -> dict[str, Move]:
    def of(act: Act, *needs: str, weight: float = 1.0) -> Move:
        return Move(act, frozenset(needs), weight)

    moves = {
        "run": of(run, weight=4),
        "idle": of(idle),
        "id again": of(id_again, weight=3),
        "times jump forward": of(jump_forward),
        "times jump back": of(jump_back),
        "the clock jumps": of(clock_jump),
        "times of files jump": of(times_of_files, LIVE),
        "labels held": of(labels_held, LIVE, weight=2),
        "backlog with labels far behind": of(backlog, LIVE),
        "undisturbed": of(undisturbed, weight=2),
        "input cut": of(truncated_input, REPLAY),
        "input gone": of(input_gone),
    }
    for name in KEY_FAULTS:
        moves[f"redis: {name}"] = of(partial(key_fault, name=name), SERVER, weight=0.7)
    for name, (settings_act, needs, weight) in settings.MOVES.items():
        moves[f"settings: {name}"] = of(settings_act, *needs, weight=weight)
    for name, (work_act, needs, weight) in at_work.MOVES.items():
        moves[f"at work: {name}"] = of(work_act, *needs, weight=weight)
    kinds = {"list of files": (), "settings": (), "sources": (LIVE,), "seen ids": (REPLAY,),
             "ledger": (LIVE,), "state store": ("rocksdb",)}  # fmt: skip
    for target in TARGETS:
        act = partial(files.damage, target=target)
        moves[f"damage: {target}"] = of(act, *kinds.get(target, ()), weight=0.7)
    part_kinds = {"the live directory": (LIVE,), "the ledgers": (LIVE,),
                  "the seen ids": (REPLAY,), "the state store": ("rocksdb",)}  # fmt: skip
    for part in PARTS:
        needs = part_kinds.get(part, ())
        moves[f"lose: {part}"] = of(partial(files.lose, part=part), *needs, weight=0.5)
        moves[f"older: {part}"] = of(partial(files.restore, part=part), *needs, weight=0.7)
    for name, (file_act, needs) in files.MOVES.items():
        moves[f"files: {name}"] = of(file_act, *needs)
    return moves


MOVES = _moves()
