"""The version record: which version of a model is current, and what it has learned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import DamagedRecordError, NewerFormatError

FORMAT = 2
"""The format of the records that this release writes.

A record of format 1 has no number, and calls its checksum ``seal``. Every later format keeps
the fields of this one and the checksum over them, by which an older release knows a newer
record from a damaged one.
"""

_NUMBER_FIELDS = ("format", "version")
_STRUCTURED_FIELDS = ("applied", "origin")


def damaged_record(place: str, reason: str) -> DamagedRecordError:
    return DamagedRecordError(f"{place} is not a whole version record: {reason}")


@dataclass(frozen=True)
class ModelVersion:
    """Which version of a model is current, and what it has learned.

    Attributes
    ----------
    version
        Counted from 0, +1 with each publish.
    state_sha256
        See :func:`app.model.state.state_sha256`.
    snapshot
        File name of the snapshot in the snapshot directory.
    published_at
        UTC, ISO 8601.
    commit
        Random id of this publish, by which two versions of one number differ.
    parent
        The commit it was learned on top of; empty for the first.
    applied
        For each query id, the highest batch id whose rows the state has learned.
    origin
        What made it: ``kind`` is created, batch or rollback; the rest is the
        publisher's. JSON values only.
    """

    version: int
    state_sha256: str
    snapshot: str
    published_at: str
    commit: str
    parent: str = ""
    applied: dict[str, int] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def checksum(self) -> str:
        """SHA-256 of the record itself, by which damage is noticed."""
        return _sha256(self._content())

    def has_learned(self, query: str, batch: int) -> bool:
        return self.applied.get(query, -1) >= batch

    def to_fields(self) -> dict[str, str]:
        """Return the record as the fields of a Redis hash."""
        return {
            name: json.dumps(value, sort_keys=True) if name in _STRUCTURED_FIELDS else str(value)
            for name, value in self.to_json().items()
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, str], place: str = "the hash") -> ModelVersion:
        """Return the record held in a hash's fields.

        Parameters and errors are those of :meth:`from_json`.
        """
        try:
            content: dict[str, Any] = dict(fields)
            content |= {name: int(fields[name]) for name in _NUMBER_FIELDS if name in fields}
            content |= {name: json.loads(fields[name]) for name in _STRUCTURED_FIELDS}
        except KeyError as error:
            raise damaged_record(place, f"it has no field {error}") from error
        except ValueError as error:
            raise damaged_record(place, str(error)) from error
        return cls.from_json(content, place)

    def to_json(self) -> dict[str, Any]:
        return self._content() | {"checksum": self.checksum}

    @classmethod
    def from_json(cls, content: Any, place: str = "the content") -> ModelVersion:
        """Return the record in ``content``, which may hold more than the record.

        Parameters
        ----------
        content
            Parsed JSON.
        place
            Where it is from, for messages.

        Raises
        ------
        DamagedRecordError
            When it is no record, or a field is missing, malformed or altered.
        NewerFormatError
            When it is whole, and of a format that this release does not know.
        """
        if not isinstance(content, Mapping):
            raise damaged_record(place, f"it holds {type(content).__name__} instead of an object")
        number = content.get("format", 1)
        if type(number) is not int or number < 1:
            raise damaged_record(place, f"it is of format {number!r}")
        names, checksum = (_NAMES, "seal") if number == 1 else (("format", *_NAMES), "checksum")
        try:
            covered = {name: content[name] for name in names}
            intact = _sha256(covered) == content[checksum]
        except KeyError as error:
            raise damaged_record(place, f"it has no field {error}") from error
        if not intact:
            raise damaged_record(place, "it does not have the SHA-256 that it was given")
        if number > FORMAT:
            raise NewerFormatError(place, number, FORMAT)
        return cls(**{name: covered[name] for name in _NAMES})

    def _content(self) -> dict[str, Any]:
        return {"format": FORMAT} | dataclasses.asdict(self)


_NAMES = tuple(field.name for field in dataclasses.fields(ModelVersion))


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
