"""The durable history of a model: one record for each version, in an order that cannot fork.

::

    HEAD.json                        the newest record, to start looking from
    versions/0000000/0000000012.json one record a version, created exclusively
    versions/…                       those of many older versions, see app.registry.packs

A version's record is created by a hard link, which one of two racing learners
wins, whatever happened to Redis in between. HEAD.json may lag behind after a
crash: from the version it names, the next ones are looked for by number.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import (
    DamagedFileError,
    DamagedRecordError,
    NewerFormatError,
    RegistryError,
    VersionConflictError,
)
from app.files.atomic import create_durably, write_durably
from app.files.documents import parse_json, read_json
from app.registry.packs.version_packs import Content, VersionPacks
from app.registry.version import ModelVersion, damaged_record

HEAD_FILE = "HEAD.json"
_VERSIONS = "versions"

NEVER_PACKED = 16
"""So many of the newest versions keep a file of their own."""


def model_in(directory: Path) -> str | None:
    """Return the name of the model that a directory holds, or None when it holds none."""
    for content in _contents(directory):
        model = content.get("model")
        if isinstance(model, str):
            return model
    return None


def _contents(directory: Path) -> Iterator[Content]:
    with contextlib.suppress(FileNotFoundError, DamagedFileError):
        yield read_json(directory / HEAD_FILE)
    yield from VersionPacks(directory / _VERSIONS).contents()


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
        self._packs = VersionPacks(directory / _VERSIONS)

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
        start = known.version if known else self._packs.last()
        if start is None:
            return None
        last = start
        while self.has(last + 1):
            last += 1
        if known is None or last > known.version:
            known = self.read(last)
        self._newest = known
        return known

    def has(self, version: int) -> bool:
        return self._path(version).exists() or self._packs.has(version)

    def read(self, version: int) -> ModelVersion | None:
        """Return a version's record, or None when there is none.

        Raises
        ------
        DamagedRecordError, NewerFormatError
        """
        path = self._path(version)
        try:
            single = path.read_bytes()
        except FileNotFoundError:
            single = None
        # After the file, which may be gone by then; and before it in rank: once a version is
        # packed, a learner that was asleep finds its place free, and may write there.
        packed = self._packed(version)
        if packed is not None or single is None:
            return packed
        return self._decoded(_parsed(single, path), str(path), version)

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
        path = self._path(record.version)
        there = self.read(record.version)
        if there is None:
            if not create_durably(path, self._encode(record)):
                there = self.read(record.version)
            elif self._packs.has(record.version):
                # Whoever sleeps until a version is packed finds its place free.
                path.unlink(missing_ok=True)
                there = self.read(record.version)
            else:
                there = record
        if there is None or there.commit != record.commit:
            raise VersionConflictError(
                f"version {record.version} of model {self.model!r} is another learner's"
            )
        self._newest = record

    def pack(self, *, everything: bool = False) -> int:
        """Put the records of all but the newest versions into packs, and return how many.

        Safe while others read, append and pack.

        Parameters
        ----------
        everything
            Look at all versions, also at those below what was packed before.
        """
        newest = self.newest()
        last = newest.version - NEVER_PACKED if newest else -1
        return self._packs.pack(last, self._line, self._is_sound, everything=everything)

    def write_current(self, record: ModelVersion) -> None:
        """Write HEAD.json, whole or not at all."""
        write_durably(self.directory / HEAD_FILE, self._encode(record))

    def _path(self, version: int) -> Path:
        return self._packs.single(version)

    def _encode(self, record: ModelVersion) -> bytes:
        content = record.to_json() | {"model": self.model}
        return json.dumps(content, indent=2, sort_keys=True).encode()

    def _line(self, version: int) -> bytes | None:
        """Return a record as a line of a pack, None when it cannot be read."""
        try:
            record = self.read(version)
        except (RegistryError, NewerFormatError):
            return None
        content = record and record.to_json() | {"model": self.model}
        return json.dumps(content, sort_keys=True).encode() if content else None

    def _is_sound(self, content: Content) -> bool:
        try:
            self._decoded(content, "a line")
        except (RegistryError, NewerFormatError):
            return False
        return True

    def _packed(self, version: int) -> ModelVersion | None:
        found = self._packs.find(version)
        return found and self._decoded(*found)

    def _decoded(self, content: Any, place: str, version: int | None = None) -> ModelVersion:
        """Return the record in parsed JSON, which must be that of ``version`` if one is given."""
        record = ModelVersion.from_json(content, place)
        model = content.get("model")
        if not isinstance(model, str):
            raise damaged_record(place, "it names no model")
        if model != self.model:
            raise RegistryError(f"{self.directory} holds model {model!r}, not {self.model!r}")
        if version not in (None, record.version):
            # A copy under another number is whole, and yet no such version.
            raise DamagedRecordError(f"{place} is the record of version {record.version}")
        return record

    def _read_current(self) -> ModelVersion | None:
        """Return the record in HEAD.json, or None when there is none to start from."""
        path = self.directory / HEAD_FILE
        try:
            return self._decoded(_parsed(path.read_bytes(), path), str(path))
        except FileNotFoundError:
            return None
        except DamagedRecordError:
            # The records of the versions say the same, and more.
            if self._packs.last() is None:
                raise
            return None


def _parsed(data: bytes, path: Path) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise damaged_record(str(path), str(error)) from error
