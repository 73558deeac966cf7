"""What somebody who can write the keys in Redis may do, and a disk that loses a snapshot.

Moves of the registry machine: after each, a process refuses what is another history, or goes on
as if nothing had been.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from app.errors import ModelNotFoundError, RegistryError, StateError
from app.model.state import state_from_bytes, state_to_bytes
from app.registry.registry import ModelRegistry
from app.registry.version import ModelVersion, snapshot_name
from tests.chaos.processes import METADATA, Place

FORMS = ["0{}", "+{}", " {}", "{}\n", "0_{}", "{}.0", "9" * 18, "9" * 400]
EPOCHS = ["99999999999999999999", "9007199254740993", "2", "7", "40", "01", "-1", "", "text"]
TYPES = {
    "string": lambda client, key: client.set(key, "text"),
    "list": lambda client, key: client.rpush(key, "text"),
    "hash": lambda client, key: client.hset(key, "name", "text"),
}
QUERY = st.sampled_from(["q1", "q2", "q3"])
_REFUSED = re.compile(r"Redis holds version \d+ \(commit (\w+)\).* different histories")


class Forgeries:
    """Moves of somebody else.

    Attributes
    ----------
    forged
        The commits of records that were forged.
    harmed
        The names of snapshots that were.
    """

    place: Place
    observer: ModelRegistry
    happened: Counter[str]
    forged: set[str]
    harmed: set[str]

    @rule(form=st.sampled_from(FORMS))
    def forge_the_form_of_the_version(self, form: str) -> None:
        key = self.place.key("head")
        if self.place.redis.type(key) == b"hash":
            version = self.place.redis.hget(key, "version") or b"0"
            self.place.redis.hset(key, "version", form.format(version.decode("latin-1")))

    @rule(query=QUERY, batch=st.integers(0, 20))
    def forge_what_was_learned(self, query: str, batch: int) -> None:
        """In the record that is there, whether it is finalized or only committed."""
        self._forge(lambda record: {"applied": record.applied | {query: batch}})

    @rule(ahead=st.integers(1, 6), follows=st.booleans())
    def forge_a_later_version(self, ahead: int, follows: bool) -> None:
        """Another model's under the same name, or one that nobody has staged."""

        def later(record: ModelVersion) -> dict[str, Any]:
            version = record.version + ahead
            return {
                "version": version,
                "snapshot": snapshot_name(version, record.state_sha256),
                "commit": f"forged{len(self.forged)}",
                "parent": record.commit if follows else "another",
            }

        self._forge(later)

    @rule(name=st.sampled_from(["snapshot", "applied"]))
    def forge_a_path(self, name: str) -> None:
        outside = str(self.place.directory.parent / "outside")
        self._forge(lambda record: {name: outside if name == "snapshot" else {outside: 1}})

    @rule(query=QUERY, epoch=st.sampled_from(EPOCHS))
    def forge_the_epoch(self, query: str, epoch: str) -> None:
        self.place.redis.set(self.place.key(f"epoch:{query}"), epoch)

    @rule(what=st.sampled_from(["head", "epoch:*", "state:*"]), of_type=st.sampled_from([*TYPES]))
    def forge_a_type(self, what: str, of_type: str) -> None:
        for key in self.place.redis.keys(self.place.key(what)):
            self.place.redis.delete(key)
            TYPES[of_type](self.place.redis, key)

    @rule()
    def swap_the_classes(self) -> None:
        """In the metadata of each state, which no hash of arrays covers."""
        for key in self.place.redis.keys(self.place.key("state:*")):
            if self.place.redis.type(key) == b"string":
                data = self.place.redis.get(key)
                if data != b"text":
                    state, metadata = state_from_bytes(data)
                    swapped = state_to_bytes(state, metadata | {"classes": "yes,no"})
                    self.place.redis.set(key, swapped)

    @rule(how=st.sampled_from(["removed", "emptied", "flipped"]))
    def harm_the_newest_snapshot(self, how: str) -> None:
        newest = self.observer.versions.newest()
        path = self.place.directory / newest.snapshot
        # Nothing comes before the first.
        if newest.version == 0 or not path.exists():
            return
        if how == "removed":
            path.unlink()
        elif how == "emptied":
            path.write_bytes(b"")
        else:
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes(255 - byte for byte in data[-1:]))
        self.harmed.add(path.name)
        self.happened["snapshots harmed"] += 1

    def is_refusal(self, error: BaseException | None) -> bool:
        """Tell whether it refuses what was forged. Then the remedy is done, as it says it."""
        match = _REFUSED.search(str(error)) if isinstance(error, RegistryError) else None
        if match is None:
            return False
        assert match.group(1) in self.forged, error
        self.place.lose("*")
        self.happened["forgeries refused"] += 1
        return True

    def assert_sound(self, record: dict, rows: list[int]) -> None:
        """Fail if a version's snapshot is not whole, but one that was harmed and not missed."""
        version = ModelVersion.from_json(record)
        try:
            stored = self.observer.snapshots.read(version)
        except (ModelNotFoundError, StateError):
            assert version.snapshot in self.harmed, version.snapshot
        else:
            assert stored.state["rows"].tolist() == rows
            assert stored.metadata["classes"] == METADATA["classes"]
            self.harmed.discard(version.snapshot)

    def _forge(self, change: Callable[[ModelVersion], dict[str, Any]]) -> None:
        """Put an altered record in place of the one in Redis, with hashes that fit."""
        try:
            record = self.observer.store.read()
        except RegistryError:
            record = None
        if record is None:
            return
        forged = dataclasses.replace(record, **change(record))
        self.forged.add(forged.commit)
        self.place.redis.hset(self.place.key("head"), mapping=forged.to_fields())
        self.happened["records forged"] += 1
