"""The head record: which version of a model is current, and what it has learned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import DamagedRecordError

_TEXT_FIELDS = ("state_sha256", "snapshot", "published_at", "commit", "parent")
_STRUCTURED_FIELDS = ("applied", "origin")


@dataclass(frozen=True)
class HeadRecord:
    """Which version of a model is current, and what it has learned.

    Attributes
    ----------
    version : int
        Counted from 0, +1 with each publish.
    state_sha256 : str
        Of the state, see :func:`app.model.state.state_sha256`.
    snapshot : str
        File name of the snapshot in the snapshot directory.
    published_at : str
        UTC, ISO 8601.
    commit : str
        Random id of this publish: tells two versions of one number apart.
    parent : str
        The commit it was learned on top of; empty for the first.
    applied : dict of str to int
        For each query id, the highest batch id whose rows the state has learned.
    origin : dict
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
    def seal(self) -> str:
        """SHA-256 of the record itself, by which damage is noticed."""
        content = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def has_learned(self, query: str, batch: int) -> bool:
        return self.applied.get(query, -1) >= batch

    def to_fields(self) -> dict[str, str]:
        """Return the record as the fields of a Redis hash."""
        fields = dataclasses.asdict(self) | {"seal": self.seal}
        return {
            name: json.dumps(value, sort_keys=True) if name in _STRUCTURED_FIELDS else str(value)
            for name, value in fields.items()
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> HeadRecord:
        """Return the record held in a hash's fields.

        Raises
        ------
        DamagedRecordError
            When a field is missing, malformed or altered.
        """
        try:
            texts = {name: fields[name] for name in _TEXT_FIELDS}
            return cls.from_json(
                texts
                | {"version": int(fields["version"]), "seal": fields["seal"]}
                | {name: json.loads(fields[name]) for name in _STRUCTURED_FIELDS}
            )
        except (KeyError, ValueError, TypeError) as error:
            raise DamagedRecordError(f"a head record that cannot be read: {error!r}") from error

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"seal": self.seal}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> HeadRecord:
        """Return the record in ``content``.

        Raises
        ------
        DamagedRecordError
            When a field is missing, malformed or altered.
        """
        try:
            names = [field.name for field in dataclasses.fields(cls)]
            record = cls(**{name: content[name] for name in names})
            intact = record.seal == content["seal"]
        except (KeyError, TypeError) as error:
            raise DamagedRecordError(f"a head record that cannot be read: {error!r}") from error
        if not intact:
            raise DamagedRecordError("a head record that does not have the SHA-256 it was given")
        return record
