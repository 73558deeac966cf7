"""The work directory of a run: where everything lies, and which format it is of.

Formats are counted. A directory without a number is of format 1, which kept the list of a
replay's files as one JSON array; it is brought to the present format when a run opens it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from app.errors import NewerFormatError, UserError
from app.files.atomic import write_durably
from app.files.manifest import import_files, listed_files

FORMAT = 2
"""The format that this release writes. Directories of an older one are brought to it."""

_FORMAT_FILE = "format.json"
_FORMAT_1_FILES = "input.json"


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

    def forget_replay_files(self) -> None:
        """Remove the list of a replay's files, also the one that an older release has kept."""
        for name in (self.replay_files.name, _FORMAT_1_FILES):
            (self.path / name).unlink(missing_ok=True)

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
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir: {path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"--workdir: {path} is not writable")
    workdir = WorkDirectory(path.resolve())
    found = check_format(workdir.path)
    if found != FORMAT:
        import_files(workdir.replay_files, _files_of_format_1(workdir.path))
        write_durably(workdir.path / _FORMAT_FILE, json.dumps({"format": FORMAT}).encode())
    _refuse_newer_files_of_format_1(workdir)
    return workdir


def _files_of_format_1(path: Path) -> list[str]:
    file = path / _FORMAT_1_FILES
    try:
        files = json.loads(file.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"--workdir: {file} cannot be read: {error}. Restore it") from error
    if not isinstance(files, list):
        raise UserError(f"--workdir: {file} is no list of files. Restore it")
    return files


def _refuse_newer_files_of_format_1(workdir: WorkDirectory) -> None:
    """Refuse a directory that an older release has read other files in since."""
    before = _files_of_format_1(workdir.path)
    listed = listed_files(workdir.replay_files)
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
    UserError
        When what it says cannot be read.
    """
    try:
        content = json.loads((path / _FORMAT_FILE).read_bytes())
        found = int(content["format"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--workdir: {path / _FORMAT_FILE} cannot be read: {error}") from error
    if found > FORMAT:
        raise NewerFormatError(f"--workdir: {path}", found, FORMAT)
    return found
