"""Upkeep of a long run: few files, however many batches there were."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from app.errors import HedgestreamError
from app.files.batches.retention import remove_older, sole_upkeep
from app.files.workdir import WorkDirectory
from app.registry.feedback_log import FeedbackLog
from app.registry.version_log import VersionLog

EVERY = 64
"""Batches from one upkeep to the next."""


@dataclass(frozen=True)
class KeptDays:
    """How long the files of old batches are kept; None for good.

    Attributes
    ----------
    predictions, dead_letters
        Days.
    """

    predictions: float | None = None
    dead_letters: float | None = None


@dataclass(frozen=True)
class Removed:
    """How many files of old batches were removed."""

    predictions: int = 0
    dead_letters: int = 0


class Upkeep:
    """What a run does for its older files, called after each batch and seldom doing something.

    Parameters
    ----------
    workdir
    versions
    kept
    warn
        Called with a message when it fails: a run goes on without.
    """

    def __init__(
        self,
        workdir: WorkDirectory,
        versions: VersionLog,
        kept: KeptDays,
        warn: Callable[[str], None],
    ) -> None:
        self._workdir = workdir
        self._versions = versions
        self._feedback = FeedbackLog.of(versions.directory)
        self._kept = kept
        self._warn = warn
        self._calls = 0

    def __call__(self) -> None:
        if self._calls % EVERY == 0:
            try:
                self._versions.pack()
                self._feedback.pack()
                remove_old_batches(self._workdir, self._kept)
            except HedgestreamError as error:
                self._warn(f"older files are left as they are: {error}")
        self._calls += 1


def remove_old_batches(workdir: WorkDirectory, kept: KeptDays) -> Removed:
    """Remove files of predictions and dead letters that are older than they are kept.

    Nothing is removed while ``compact`` is at work.

    Raises
    ------
    StorageError
        When the filesystem refuses.
    """
    if kept == KeptDays():
        return Removed()
    with sole_upkeep(workdir.path) as alone:
        return remove_old_batches_alone(workdir, kept) if alone else Removed()


def remove_old_batches_alone(workdir: WorkDirectory, kept: KeptDays) -> Removed:
    """Do the same where the caller is the one to change older files."""
    days = {workdir.predictions: kept.predictions, workdir.dead_letters: kept.dead_letters}
    now = time.time()
    return Removed(
        *(0 if kept is None else remove_older(root, kept, now) for root, kept in days.items())
    )
