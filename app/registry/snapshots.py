"""Snapshots: immutable files holding one state each."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import CorruptStateError, ModelNotFoundError, StateError
from app.files.atomic import write_durably
from app.model.state import State, metadata_sha256, state_from_bytes, state_sha256
from app.registry.version import ModelVersion, snapshot_name

_NAME = re.compile(r"v(\d{10,})-[0-9a-f]{16}\.safetensors")


@dataclass(frozen=True)
class Retention:
    """Which snapshots are kept, the current one always among them.

    Parameters
    ----------
    newest
        How many of the newest versions, at least 1.
    every
        Beyond those, each version that this divides; 0 keeps none.
    """

    newest: int = 50
    every: int = 100

    def keeps(self, version: int, current: int) -> bool:
        return version > current - self.newest or (self.every > 0 and version % self.every == 0)


@dataclass(frozen=True)
class StoredState:
    """A state whose hashes were checked.

    Attributes
    ----------
    data
        In safetensors, as it is stored.
    state
    metadata
        Settings and contract of the model, and the version.
    """

    data: bytes = field(repr=False)
    state: State = field(repr=False)
    metadata: dict[str, str]


class SnapshotStore:
    """The snapshots of one model in one directory.

    Parameters
    ----------
    directory
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, version: int, sha256: str, data: bytes) -> str:
        """Write one state durably and return its file name."""
        name = snapshot_name(version, sha256)
        write_durably(self.directory / name, data)
        return name

    def has(self, name: str) -> bool:
        return (self.directory / name).exists()

    def size(self, name: str) -> int:
        """Return the bytes of a snapshot, 0 when there is none."""
        try:
            return (self.directory / name).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, record: ModelVersion) -> StoredState:
        """Return the state in a version's snapshot if it is the one promised.

        Raises
        ------
        ModelNotFoundError
            When there is no such file.
        StateError
            When it is damaged.
        """
        path = self.directory / record.snapshot
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"no snapshot {path.name} in {self.directory}") from error
        except OSError as error:
            raise StateError(f"{path}: {error.strerror or error}") from error
        return verified_state(data, record, str(path))

    def drop(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)

    def prune(self, retention: Retention, current: int) -> None:
        """Remove what is not kept, when ``current`` is the current version."""
        if not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            match = _NAME.fullmatch(path.name)
            if match and not retention.keeps(int(match.group(1)), current):
                path.unlink(missing_ok=True)


def verified_state(data: bytes, record: ModelVersion, origin: str) -> StoredState:
    """Return the state in ``data`` if it has the hashes that a version's record promises.

    A record of a format before 3 promises nothing of the metadata: what is not known to be
    the model's own file may hold another's.

    Parameters
    ----------
    data
    record
    origin
        Where the bytes are from, for the message.

    Raises
    ------
    StateError
        When the bytes are not a state.
    CorruptStateError
        When they are a state with another hash.
    """
    try:
        state, metadata = state_from_bytes(data)
    except StateError as error:
        raise StateError(f"{origin}: {error}") from error
    found, promised = state_sha256(state), record.state_sha256
    if found != promised:
        raise CorruptStateError(f"{origin} holds a state with SHA-256 {found}, not {promised}")
    found, promised = metadata_sha256(metadata), record.metadata_sha256
    if promised and found != promised:
        raise CorruptStateError(f"{origin} holds metadata with SHA-256 {found}, not {promised}")
    return StoredState(data, state, metadata)
