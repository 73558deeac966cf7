"""The durable history of a model: one record for each version, in an order that cannot fork.

::

    HEAD.json                        the newest record, to start looking from
    versions/0000000/0000000012.json one record a version, created exclusively
    epochs/<query>/000003            one empty file for each epoch given out

A version's record is created by a hard link, which one of two racing learners
wins, whatever happened to Redis in between. HEAD.json may lag behind after a
crash: from the version it names, the next ones are looked for by number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from app.errors import DamagedRecordError, RegistryError, VersionConflictError
from app.files.atomic import create_durably, write_durably
from app.registry.version import ModelVersion, damaged_record

HEAD_FILE = "HEAD.json"

_RECORDS_PER_DIRECTORY = 1000


def model_in(directory: Path) -> str | None:
    """Return the name of the model that a directory holds, or None when it holds none."""
    for path in (directory / HEAD_FILE, *directory.glob("versions/*/*.json")):
        try:
            return str(json.loads(path.read_bytes())["model"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


class VersionLog:
    """The records of one model's versions below one directory.

    Parameters
    ----------
    directory
    model
        Name of the model, which every record bears.
    """

    def __init__(self, directory: Path, model: str) -> None:
        self.directory = directory
        self.model = model
        self._newest: ModelVersion | None = None

    def newest(self) -> ModelVersion | None:
        """Return the record of the newest version, or None when there is none.

        Raises
        ------
        DamagedRecordError
            When the newest record is damaged, and HEAD.json is no copy of it.
        NewerFormatError
            When a newer release wrote it.
        RegistryError
            When the directory belongs to another model.
        """
        known = self._newest or self._read_current()
        start = known.version if known else self._last_listed()
        if start is None:
            return None
        last = start
        while self._path(last + 1).exists():
            last += 1
        if known is None or last > known.version:
            known = self._read(self._path(last))
        self._newest = known
        return known

    def has(self, version: int) -> bool:
        return self._path(version).exists()

    def read(self, version: int) -> ModelVersion | None:
        """Return a version's record, or None when there is none.

        Raises
        ------
        DamagedRecordError, NewerFormatError
        """
        path = self._path(version)
        return self._read(path) if path.exists() else None

    def records(self, first: int = 0) -> Iterator[ModelVersion]:
        """Yield the records of version ``first`` and all later ones, oldest first."""
        newest = self.newest()
        for version in range(first, newest.version + 1 if newest else 0):
            record = self.read(version)
            if record is not None:
                yield record

    def find(self, query: str, batch: int) -> ModelVersion | None:
        """Return the version that learned a query's batch, or None when no record says so."""
        newest = self.newest()
        version = newest.version if newest else -1
        while (record := self.read(version)) is not None and record.has_learned(query, batch):
            if (record.origin.get("query"), record.origin.get("batch")) == (query, batch):
                return record
            version -= 1
        return None

    def append(self, record: ModelVersion) -> None:
        """Make ``record`` the version that it says, for good. It may be there already.

        Raises
        ------
        VersionConflictError
            When another commit has that version.
        """
        if not create_durably(self._path(record.version), self._encode(record)):
            there = self._read(self._path(record.version))
            if there.commit != record.commit:
                raise VersionConflictError(
                    f"version {record.version} of model {self.model!r} is another learner's"
                )
        self._newest = record

    def write_current(self, record: ModelVersion) -> None:
        """Write HEAD.json, whole or not at all."""
        write_durably(self.directory / HEAD_FILE, self._encode(record))

    def claim_epoch(self, query: str, at_least: int) -> int:
        """Give out an epoch of ``at_least`` or more that nobody was given before."""
        epoch = max(at_least, self.last_epoch(query) + 1)
        while not create_durably(self._epoch_path(query, epoch), b""):
            epoch += 1
        return epoch

    def last_epoch(self, query: str) -> int:
        """Return the highest epoch given out for a query, 0 when there is none."""
        directory = self.directory / "epochs" / query
        names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _path(self, version: int) -> Path:
        thousand = f"{version // _RECORDS_PER_DIRECTORY:07d}"
        return self.directory / "versions" / thousand / f"{version:010d}.json"

    def _epoch_path(self, query: str, epoch: int) -> Path:
        return self.directory / "epochs" / query / f"{epoch:06d}"

    def _encode(self, record: ModelVersion) -> bytes:
        content = record.to_json() | {"model": self.model}
        return json.dumps(content, indent=2, sort_keys=True).encode()

    def _read(self, path: Path) -> ModelVersion:
        try:
            content = json.loads(path.read_bytes())
        except ValueError as error:
            raise damaged_record(str(path), str(error)) from error
        record = ModelVersion.from_json(content, str(path))
        model = content.get("model")
        if not isinstance(model, str):
            raise damaged_record(str(path), "it names no model")
        if model != self.model:
            raise RegistryError(f"{self.directory} holds model {model!r}, not {self.model!r}")
        if path not in (self.directory / HEAD_FILE, self._path(record.version)):
            # A copy under another number is whole, and yet no such version.
            raise DamagedRecordError(f"{path} is the record of version {record.version}")
        return record

    def _read_current(self) -> ModelVersion | None:
        """Return the record in HEAD.json, or None when there is none to start from."""
        path = self.directory / HEAD_FILE
        try:
            return self._read(path)
        except FileNotFoundError:
            return None
        except DamagedRecordError:
            # The records of the versions say the same, and more.
            if self._last_listed() is None:
                raise
            return None

    def _last_listed(self) -> int | None:
        """Return the highest version that has a record, by listing directories."""
        thousands = sorted((self.directory / "versions").glob("[0-9]*"), reverse=True)
        for thousand in thousands:
            versions = [int(path.stem) for path in thousand.glob("[0-9]*.json")]
            if versions:
                return max(versions)
        return None
