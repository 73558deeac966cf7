"""The version record: which version of a model is current, and what it has learned."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.errors import DamagedRecordError, NewerFormatError
from app.files.documents import parse_json

FORMAT = 3
"""The format of the records that this release writes.

A record of format 1 has no number, and calls its checksum ``seal``. Format 2 has neither
``metadata_sha256`` nor ``record_sha256``. Every later format keeps the fields of format 2 and
the checksum over them, by which an older release knows a newer record from a damaged one.
"""

_NUMBER_FIELDS = ("format", "version")
_STRUCTURED_FIELDS = ("applied", "origin")
_FIELDS_OF_FORMAT_2 = (
    "version", "state_sha256", "snapshot", "published_at", "commit", "parent", "applied", "origin",
)  # fmt: skip

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Both become parts of paths.
_COMMIT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_QUERY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}\+00:00")
_MOST_LEVELS = 16


def whole_number(text: bytes | str) -> int | None:
    """Return the number that a text is, in the one way to write it, or None when it is none.

    What compares numbers as text, as scripts in Redis do, and what reads them agree on it.

    Examples
    --------
    >>> whole_number("3"), whole_number("03"), whole_number("+3"), whole_number("9" * 19)
    (3, None, None, None)
    """
    text = text.decode("latin-1") if isinstance(text, bytes) else text
    return int(text) if _NUMBER.fullmatch(text) else None


def is_query_id(query: object) -> bool:
    """Tell whether it is safe as the name of a file and in a key of Redis."""
    return isinstance(query, str) and _QUERY.fullmatch(query) is not None


def snapshot_name(version: int, state_sha256: str) -> str:
    """Return the file name of a version's snapshot.

    It holds the hash, so that two learners racing for one version never write the same
    file with different arrays.
    """
    return f"v{version:010d}-{state_sha256[:16]}.safetensors"


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
        What made it: ``kind`` is created, batch (of ``query`` and ``batch``) or rollback
        (``to`` a version); the rest is the publisher's. JSON values only.
    metadata_sha256
        See :func:`app.model.state.metadata_sha256`. Empty in a record of a format before 3.
    """

    version: int
    state_sha256: str
    snapshot: str
    published_at: str
    commit: str
    parent: str = ""
    applied: dict[str, int] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    metadata_sha256: str = ""

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
            content |= {name: _number(fields, name) for name in _NUMBER_FIELDS if name in fields}
            content |= {name: parse_json(fields[name]) for name in _STRUCTURED_FIELDS}
        except KeyError as error:
            raise damaged_record(place, f"it has no field {error}") from error
        except ValueError as error:
            raise damaged_record(place, str(error)) from error
        return cls.from_json(content, place)

    def to_json(self) -> dict[str, Any]:
        """Return the record with its hashes, by which damage is noticed."""
        names = _FIELDS_OF_FORMAT_2
        content = {"format": FORMAT} | {name: getattr(self, name) for name in names}
        content |= {"checksum": _sha256(content), "metadata_sha256": self.metadata_sha256}
        return content | {"record_sha256": _sha256(content)}

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
            raise damaged_record(place, f"it is of format {number!r:.80}")
        if not _is_shallow(content, _MOST_LEVELS):
            raise damaged_record(place, "it is nested too deeply")
        names = _FIELDS_OF_FORMAT_2 if number == 1 else ("format", *_FIELDS_OF_FORMAT_2)
        checksum = "seal" if number == 1 else "checksum"
        try:
            intact = _has_hash(content, names, checksum)
            if number == FORMAT:
                names = (*names, checksum, "metadata_sha256")
                intact = _has_hash(content, names, "record_sha256") and intact
            if not intact:
                raise damaged_record(place, "it does not have the SHA-256 that it was given")
        except KeyError as error:
            raise damaged_record(place, f"it has no field {error}") from error
        if number > FORMAT:
            raise NewerFormatError(place, number, FORMAT)
        record = cls(
            **{name: content[name] for name in _FIELDS_OF_FORMAT_2},
            metadata_sha256=content["metadata_sha256"] if number == FORMAT else "",
        )
        for name in record._malformed():
            raise damaged_record(place, f"its {name} is {getattr(record, name)!r:.80}")
        return record

    def _malformed(self) -> Iterator[str]:
        """Yield the names of fields that no release has written in that form."""
        if not _is_count(self.version):
            yield "version"
        if not _matches(_SHA256, self.state_sha256):
            yield "state_sha256"
        elif self.snapshot != snapshot_name(self.version, self.state_sha256):
            yield "snapshot"
        if not _is_time(self.published_at):
            yield "published_at"
        if not _matches(_COMMIT, self.commit):
            yield "commit"
        if self.parent != "" and not _matches(_COMMIT, self.parent):
            yield "parent"
        if self.metadata_sha256 != "" and not _matches(_SHA256, self.metadata_sha256):
            yield "metadata_sha256"
        if not _is_applied(self.applied):
            yield "applied"
        if not _is_origin(self.origin, self.version):
            yield "origin"


def _number(fields: Mapping[str, str], name: str) -> int:
    number = whole_number(fields[name])
    if number is None:
        raise ValueError(f"its {name} is {fields[name]!r:.80}")
    return number


def _is_count(value: object) -> bool:
    # Not a bool, which is an int too.
    return type(value) is int and 0 <= value < 10**18


def _is_applied(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return all(map(is_query_id, value)) and all(map(_is_count, value.values()))


def _is_origin(value: object, version: int) -> bool:
    if not isinstance(value, dict):
        return False
    match value.get("kind"):
        case "batch":
            return is_query_id(value.get("query")) and _is_count(value.get("batch"))
        case "rollback":
            return _is_count(value.get("to")) and value["to"] < version
        case kind:
            return bool(kind == "created")


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_shallow(value: object, levels: int) -> bool:
    if not isinstance(value, (Mapping, list)):
        return True
    inner = value.values() if isinstance(value, Mapping) else value
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)


def _has_hash(content: Mapping[str, Any], names: tuple[str, ...], hash_field: str) -> bool:
    return bool(_sha256({name: content[name] for name in names}) == content[hash_field])


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
