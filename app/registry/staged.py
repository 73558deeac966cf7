"""Staged versions: what each learner has made ready, on disk before Redis hears of it.

``staged/<version>-<commit>.json`` is the whole version record, written before its version is
published and removed once it is finalized or another has taken its place. Redis chooses among
them; a version that it names and that nobody has staged here is not this model's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import DamagedFileError, DamagedRecordError, NewerFormatError
from app.files.atomic import write_durably
from app.files.documents import read_json
from app.registry.version import ModelVersion

_NAME = re.compile(r"([0-9]{10,18})-.+\.json")


@dataclass(frozen=True)
class Staged:
    """A version that is on disk and not current yet."""

    record: ModelVersion
    data: bytes = field(repr=False)


class StagedRecords:
    """The version records of one model that are staged.

    Parameters
    ----------
    directory
        The model's.
    model
        Its name, which every record bears.
    """

    def __init__(self, directory: Path, model: str) -> None:
        self._directory = directory / "staged"
        self._model = model

    def write(self, record: ModelVersion) -> None:
        content = record.to_json() | {"model": self._model}
        write_durably(self._path(record), json.dumps(content, sort_keys=True).encode())

    def holds(self, record: ModelVersion) -> bool:
        """Tell whether this record, and no other of its version and commit, was staged."""
        path = self._path(record)
        try:
            content = read_json(path)
            staged = ModelVersion.from_json(content, str(path))
        except (FileNotFoundError, DamagedFileError, DamagedRecordError, NewerFormatError):
            return False
        return staged == record and content.get("model") == self._model

    def drop(self, record: ModelVersion) -> None:
        self._path(record).unlink(missing_ok=True)

    def prune(self, newest: int) -> None:
        """Remove what a crash has left, when ``newest`` is the newest version finalized."""
        if not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and int(match.group(1)) <= newest:
                path.unlink(missing_ok=True)

    def _path(self, record: ModelVersion) -> Path:
        return self._directory / f"{record.version:010d}-{record.commit}.json"
