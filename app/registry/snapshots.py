"""Snapshots: immutable files holding one state each, and HEAD.json that names the current one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from app.durable import write_durably
from app.errors import CorruptStateError, ModelNotFoundError, RegistryError
from app.model.state import State, state_from_bytes, state_sha256
from app.registry.head import HeadRecord

HEAD_FILE = "HEAD.json"


@dataclasses.dataclass(frozen=True)
class DurableHead:
    """What HEAD.json holds: the record that Redis is restored from.

    Attributes
    ----------
    model : str
    record : HeadRecord
    epochs : dict of str to int
        The highest epoch known to have been given out, by query id.
    """

    model: str
    record: HeadRecord
    epochs: dict[str, int]


class SnapshotStore:
    """The snapshots of one model in one directory.

    Parameters
    ----------
    directory : Path
        Created when missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, version: int, sha256: str, data: bytes) -> str:
        """Write one state durably and return its file name.

        The name holds the hash, so that two learners racing for one version
        never write the same file with different content.
        """
        name = f"v{version:010d}-{sha256[:16]}.safetensors"
        write_durably(self.directory / name, data)
        return name

    def read_bytes(self, name: str) -> bytes:
        """Return the bytes of a snapshot.

        Raises
        ------
        ModelNotFoundError
            When there is no such file.
        """
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError as error:
            raise ModelNotFoundError(f"no snapshot {name} in {self.directory}") from error

    def write_head(self, head: DurableHead) -> None:
        """Write HEAD.json, whole or not at all."""
        content = {"model": head.model, "epochs": head.epochs} | dataclasses.asdict(head.record)
        data = json.dumps(content, indent=2, sort_keys=True).encode()
        write_durably(self.directory / HEAD_FILE, data)

    def read_head(self) -> DurableHead | None:
        """Return what HEAD.json holds, or None when there is none.

        Raises
        ------
        RegistryError
            When it cannot be read as a head record.
        """
        path = self.directory / HEAD_FILE
        try:
            content = json.loads(path.read_bytes())
            model, epochs = content.pop("model"), content.pop("epochs")
            head = DurableHead(model, HeadRecord(**content), epochs)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(f"{path} is not a head record: {error!r}") from error
        record = head.record
        texts = (head.model, record.state_sha256, record.snapshot, record.published_at)
        counts = (record.applied, head.epochs)
        if not (
            isinstance(record.version, int)
            and all(isinstance(text, str) for text in texts)
            and all(isinstance(by_query, dict) for by_query in counts)
            and all(isinstance(n, int) for by_query in counts for n in by_query.values())
        ):
            raise RegistryError(f"{path} is not a head record: a field has another type")
        return head


def verified_state(data: bytes, sha256: str, origin: str) -> tuple[State, dict[str, str]]:
    """Return the state and metadata in ``data`` if it has the SHA-256 promised.

    Raises
    ------
    StateError
        When the bytes are not a state.
    CorruptStateError
        When they are a state with another hash.
    """
    state, metadata = state_from_bytes(data)
    found = state_sha256(state)
    if found != sha256:
        raise CorruptStateError(f"{origin} holds a state with SHA-256 {found}, not {sha256}")
    return state, metadata
