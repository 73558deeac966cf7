"""The work directory of a run: where everything lies, and which format it is of.

Formats are counted. A directory without a number is of format 1, which kept the list of a
replay's files as one JSON array; format 2 had a directory for each batch of predictions and dead
letters. Both are brought to the present format when a run opens them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import (
    DamagedFileError,
    NewerFormatError,
    StorageError,
    UserError,
    WorkdirInUseError,
)
from app.files.aside import set_aside
from app.files.atomic import write_durably
from app.files.batches.dataset import DIVERGED, PREDICTED, REJECTED
from app.files.batches.migration import bring_from_directories
from app.files.documents import read_json
from app.files.manifest import import_files, listed_files

FORMAT = 3
"""The format that this release writes. Directories of an older one are brought to it."""

_FORMAT_FILE = "format.json"
_UNFINISHED = "unfinished"
_FORMAT_1_FILES = "input.json"
_LOCK_OF_FORMAT_2 = ".lock"
# As the files of a batch were called then.
_PREDICTIONS_OF_FORMAT_2 = {"predictions.parquet": PREDICTED}
_DEAD_LETTERS_OF_FORMAT_2 = {"rejected.parquet": REJECTED, "diverged.parquet": DIVERGED}


@dataclass(frozen=True)
class WorkDirectory:
    """The places below one work directory.

    Attributes
    ----------
    path
        Absolute when it comes from :func:`open_workdir`.
    """

    path: Path

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def dead_letters(self) -> Path:
        return self.path / "dead_letters"

    @property
    def batches(self) -> Path:
        """What each batch did."""
        return self.path / "batches"

    @property
    def snapshots(self) -> Path:
        """The model's versions, or a link to where several work directories share them."""
        return self.path / "snapshots"

    @property
    def seen_ids(self) -> Path:
        """Ids that a replay has taken."""
        return self.path / "seen_ids.sqlite"

    @property
    def ledgers(self) -> Path:
        """What became of each event and label of a live stream."""
        return self.path / "ledgers"

    @property
    def replay_checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def replay_files(self) -> Path:
        """The files of a replay in the order they are read."""
        return self.path / "input.files"

    def set_replay_files_aside(self) -> None:
        """Move the list of a replay's files away, also the one that an older release has kept."""
        for name in (self.replay_files.name, _FORMAT_1_FILES):
            set_aside(self.path / name)

    @property
    def replay_settings(self) -> Path:
        """What a replay must go on with as it was begun."""
        return self.path / "replay.json"

    @property
    def live(self) -> Path:
        """The checkpoint of a live stream, and what belongs to it."""
        return self.path / "live"

    @property
    def live_checkpoint(self) -> Path:
        return self.live / "checkpoint"


def open_workdir(path: Path) -> WorkDirectory:
    """Make a work directory, or bring one that is there to the present format.

    Raises
    ------
    UserError
        When it cannot be made or written to, or is of a newer format.
    WorkdirInUseError
        When it is to be brought to the present format, and an older release is at work there.
    StorageError
        When it cannot be brought to the present format.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir: {path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"--workdir: {path} is not writable")
    workdir = WorkDirectory(path.resolve())
    found = check_format(workdir.path)
    if found != FORMAT or is_unfinished(workdir.path):
        with _without_older_release(workdir.path):
            _bring_to_format(workdir, found)
    _refuse_newer_files_of_format_1(workdir)
    return workdir


def _bring_to_format(workdir: WorkDirectory, found: int | None) -> None:
    if found is None:
        import_files(workdir.replay_files, _files_of_format_1(workdir.path))
    # First of all: an older release is to leave it alone, and the next run to finish it.
    _write_format(workdir.path, {_UNFINISHED: True})
    try:
        bring_from_directories(workdir.predictions, _PREDICTIONS_OF_FORMAT_2)
        bring_from_directories(workdir.dead_letters, _DEAD_LETTERS_OF_FORMAT_2)
    except OSError as error:
        raise StorageError(
            f"{workdir.path} cannot be brought to format {FORMAT}: {error.strerror or error}"
        ) from error
    _write_format(workdir.path, {})


def _write_format(path: Path, more: dict[str, bool]) -> None:
    write_durably(path / _FORMAT_FILE, json.dumps({"format": FORMAT} | more).encode())


@contextlib.contextmanager
def _without_older_release(path: Path) -> Iterator[None]:
    """Lock what a run of an older release with a redis-server of its own has locked."""
    if not (path / _LOCK_OF_FORMAT_2).exists():
        yield
        return
    try:
        with open(path / _LOCK_OF_FORMAT_2, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise WorkdirInUseError(
            f"--workdir: another run is using {path}, and it is to be brought to format {FORMAT} "
            "first; wait for its end"
        ) from error


def _files_of_format_1(path: Path) -> list[str]:
    file = path / _FORMAT_1_FILES
    try:
        files: list[str] = read_json(file, list)
    except FileNotFoundError:
        return []
    return files


def _refuse_newer_files_of_format_1(workdir: WorkDirectory) -> None:
    """Refuse a directory that an older release has read other files in since."""
    before = _files_of_format_1(workdir.path)
    listed = listed_files(workdir.replay_files) if before else []
    if listed and listed[: len(before)] != before:
        raise UserError(
            f"--workdir: an older release has used {workdir.path} since this one did: the files "
            f"in {_FORMAT_1_FILES} are not those in {workdir.replay_files.name}. Go on with that "
            "release, or begin anew in another work directory"
        )


def check_format(path: Path) -> int | None:
    """Return the format that a work directory says it is of, None when it says nothing.

    Raises
    ------
    NewerFormatError
        When it is of a format that this release does not know.
    DamagedFileError
        When what it says cannot be read.
    """
    if not path.is_dir():
        return None
    try:
        found = read_json(path / _FORMAT_FILE).get("format")
    except FileNotFoundError:
        return None
    if type(found) is not int:
        raise DamagedFileError(path / _FORMAT_FILE, f"its format is {found!r}")
    if found > FORMAT:
        raise NewerFormatError(f"--workdir: {path}", found, FORMAT)
    return found


def is_unfinished(path: Path) -> bool:
    """Return whether a crash has left a work directory on its way to the present format."""
    try:
        return bool(read_json(path / _FORMAT_FILE).get(_UNFINISHED))
    except FileNotFoundError:
        return False
