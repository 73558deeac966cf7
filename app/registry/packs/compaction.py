"""Compaction of a work directory: everything that upkeep does, and small files merged for good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.errors import UserError, WorkdirInUseError
from app.files.batches.merging import Merged, merge_closed
from app.files.batches.retention import sole_upkeep
from app.files.workdir import FORMAT, WorkDirectory, check_format, is_unfinished
from app.registry.feedback_log import FeedbackLog
from app.registry.packs.upkeep import KeptDays, Removed, remove_old_batches_alone
from app.registry.version_log import VersionLog, model_in


@dataclass(frozen=True)
class Compacted:
    """What was done.

    Attributes
    ----------
    predictions, dead_letters
        Files merged, and into how many.
    removed
    versions, feedback
        Records and batches that were packed.
    """

    predictions: Merged
    dead_letters: Merged
    removed: Removed
    versions: int
    feedback: int

    @property
    def problems(self) -> list[str]:
        return self.predictions.problems + self.dead_letters.problems


def compact(path: Path, kept: KeptDays) -> Compacted:
    """Compact a work directory. A run may be at work there meanwhile.

    Raises
    ------
    UserError
        When there is none, or it is of another format.
    WorkdirInUseError
        When another compaction, or a run that removes old files, is at work.
    StorageError
        When the filesystem refuses.
    """
    workdir = _workdir_at(path)
    with sole_upkeep(workdir.path) as alone:
        if not alone:
            raise WorkdirInUseError(f"--workdir: {path} is being compacted already")
        # First, so that nothing is merged that goes.
        removed = remove_old_batches_alone(workdir, kept)
        predictions = merge_closed(workdir.predictions)
        dead_letters = merge_closed(workdir.dead_letters)
        versions = feedback = 0
        model = model_in(workdir.snapshots)
        if model is not None:
            log = VersionLog(workdir.snapshots, model)
            versions = log.pack(everything=True)
            feedback = FeedbackLog.of(log.directory).pack()
    return Compacted(predictions, dead_letters, removed, versions, feedback)


def _workdir_at(path: Path) -> WorkDirectory:
    found = check_format(path)
    if found is None and not (path / "snapshots").is_dir():
        raise UserError(f"--workdir: {path} is no work directory of a run")
    if found != FORMAT or is_unfinished(path):
        raise UserError(
            f"--workdir: {path} is of format {found or 1}; the next run brings it to format "
            f"{FORMAT}, and then it can be compacted"
        )
    return WorkDirectory(path.resolve())
