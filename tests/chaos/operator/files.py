"""Moves that do something to the files of a work directory between two runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.chaos.operator.faults import (
    DAMAGES,
    FileFault,
    damage_file,
    differs,
    files_of,
    lose_part,
    reorder,
    restore_part,
)
from tests.chaos.operator.place import EMBEDDED, LIVE, REPLAY
from tests.chaos.operator.step import Step

_STATISTICS = "batches"
_STATE_STORE = "state store"


def damage(step: Step, target: str, how: str | None = None, newest: bool | None = None) -> None:
    """Damage one file of a target, remove it, or put an older copy there.

    Parameters
    ----------
    step
    target
    how
        One of :data:`DAMAGES`, ``remove`` or ``older``; any when None.
    newest
        Whether it is the newest of several; any when None.
    """
    rng, place = step.rng, step.place
    paths = files_of(place.workdir, target)
    if not paths:
        step.notes.append("nothing there")
        step.finish()
        return
    if newest is None:
        newest = rng.random() < 0.6
    path = paths[-1] if newest else rng.choice(paths)
    how = how or rng.choice(["remove", "older", *DAMAGES])
    other = _older(step, path)
    if how == "older" and other is None:
        how = "remove"
    with_rows(step)
    fault = damage_file(place.workdir, path, how, rng, other or b"")
    judge(step, fault, is_found_late=target == _STATE_STORE)


def lose(step: Step, part: str) -> None:
    """Lose a part as a whole."""
    with_rows(step)
    judge(step, lose_part(step.place.workdir, part))


def restore(step: Step, part: str) -> None:
    """Put an older copy of a part in its place."""
    with_rows(step)
    copies = [copy for copy in step.place.history if differs(step.place.workdir, part, copy)]
    copy = step.rng.choice(copies) if copies else None
    fault = restore_part(step.place.workdir, part, copy) if copy else None
    judge(step, fault, is_found_late=part == f"the {_STATE_STORE}")


def another_order(step: Step) -> None:
    """Put a list of files in another order."""
    with_rows(step)
    path = step.rng.choice(files_of(step.place.workdir, "list of files"))
    judge(step, reorder(step.place.workdir, path))


def moved_away(step: Step) -> None:
    """Move the checkpoint away, run, and put it back."""
    with_rows(step)
    target = step.place.workdir / ("live" if step.place.is_live else "checkpoint")
    away = target.with_name("away")

    def change() -> None:
        target.rename(away)

    fault = FileFault.done("checkpoint moved away", step.place.workdir, [target, away], change)
    judge(step, fault)


def whole_directory(step: Step) -> None:
    """Restore the whole work directory from an older copy: an honest state of that time."""
    place = step.place
    copy = step.rng.choice(place.history)
    shutil.rmtree(place.workdir)
    shutil.copytree(copy, place.workdir, symlinks=True)
    place.has_statistics = False
    step.notes.append(f"as of {copy.name}")
    step.finish()


def twice(step: Step) -> None:
    """Two faults at once."""
    with_rows(step)
    targets = step.rng.sample(["HEAD.json", "snapshot", "staged record", "epoch", "batch log"], 2)
    faults = []
    for target in targets:
        if paths := files_of(step.place.workdir, target):
            how = step.rng.choice(["remove", "cut", "empty", "garbage"])
            faults.append(damage_file(step.place.workdir, paths[-1], how, step.rng))
    merged = FileFault(
        " and ".join(fault.what for fault in faults),
        step.place.workdir,
        {path: bytes_ for fault in faults for path, bytes_ in fault.before.items()},
        {path: bytes_ for fault in faults for path, bytes_ in fault.after.items()},
    )
    judge(step, merged)


def with_rows(step: Step) -> None:
    """Mostly, let there be something to read."""
    if step.rng.random() < 0.75:
        step.place.input.append()


def judge(step: Step, fault: FileFault | None, *, is_found_late: bool = False) -> None:
    """Run with a fault done to files."""
    if fault is None or not fault.before:
        step.notes.append("nothing there")
        step.finish()
        return
    step.notes.append(fault.what)
    root = step.place.workdir
    if any(str(path.relative_to(root)).startswith(_STATISTICS) for path in fault.before):
        step.place.has_statistics = False
    step.run(fault, is_found_late=is_found_late)


def _older(step: Step, path: Path) -> bytes | None:
    """Return what a file held after an earlier step, None when it has not changed since."""
    now = path.read_bytes()
    for copy in reversed(step.place.history):
        older = copy / path.relative_to(step.place.workdir)
        if older.is_file() and older.read_bytes() != now:
            return older.read_bytes()
    return None


def _of(target: str, how: str, newest: bool | None = None) -> Callable[[Step], None]:
    return lambda step: damage(step, target, how, newest)


MOVES: dict[str, tuple[Callable[[Step], None], tuple[str, ...]]] = {
    "checkpoint metadata missing for one start": (_of("checkpoint/metadata", "remove"), ()),
    "newest snapshot removed": (_of("snapshot", "remove", True), ()),
    "newest snapshot flipped": (_of("snapshot", "flip", True), ()),
    "list of files in another order": (another_order, ()),
    "seen ids removed": (_of("seen ids", "remove"), (REPLAY,)),
    "seen ids emptied": (_of("seen ids", "empty"), (REPLAY,)),
    "seen ids garbage": (_of("seen ids", "garbage"), (REPLAY,)),
    "ledger removed": (_of("ledger", "remove"), (LIVE,)),
    "ledger emptied": (_of("ledger", "empty"), (LIVE,)),
    "ledger garbage": (_of("ledger", "garbage"), (LIVE,)),
    "settings truncated": (_of("settings", "cut"), ()),
    "settings nested deeply": (_of("settings", "nest"), ()),
    "inputs nested deeply": (_of("inputs", "nest"), ()),
    "HEAD.json nested deeply": (_of("HEAD.json", "nest"), ()),
    "version record nested deeply": (_of("version record", "nest", True), ()),
    "checkpoint moved away and back": (moved_away, ()),
    "whole directory as of earlier": (whole_directory, (EMBEDDED,)),
    "two faults at once": (twice, ()),
}
