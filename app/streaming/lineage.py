"""Which inputs a model has learned from, so that none is learned twice by mistake.

A checkpoint that is deleted, or a new work directory, gives a new query id, and with it
every row of the input would come again. What a query reads is remembered beside the model's
snapshots, and looked for when another query starts: a file by its beginning, a source of
feedback by its name.

The lineage of a query is ``<query>.json``: ``{"format": 2, "files": [[length, sha256], ...],
"sources": [name, ...]}``. Format 1 had a bare list of files there, and the source of a live
stream in ``<query>.stream.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from app.errors import DamagedFileError, NewerFormatError, UserError
from app.files.atomic import write_durably
from app.files.documents import read_json
from app.files.resuming.checkpoint import Checkpoint
from app.monitor.batch_log import BatchLog
from app.registry.version import ModelVersion

FORMAT = 2

_BEGINNING_BYTES = 64 * 1024
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Fingerprint:
    """The beginning of a file: how many bytes of it, and their SHA-256."""

    length: int
    sha256: str


Mark = Fingerprint | str
"""What an input is known again by: a file's beginning, or a source's name."""


class Input(Protocol):
    """What a query reads."""

    def marks(self) -> Iterable[Mark]:
        """Return what the input is to be known again by."""

    def recognised(self, known: Collection[Mark]) -> Iterator[tuple[str, Mark]]:
        """Yield each part of the input that is known, as a message names it, with its mark."""


@dataclass(frozen=True)
class FileInput:
    """Files that are read to their end; those that are gone count for nothing."""

    files: tuple[str, ...]
    has_header: bool

    def marks(self) -> Iterable[Mark]:
        found = (fingerprint(path, self.has_header) for path in self._present())
        return [mark for mark in found if mark is not None]

    def recognised(self, known: Collection[Mark]) -> Iterator[tuple[str, Mark]]:
        lengths = sorted({mark.length for mark in known if isinstance(mark, Fingerprint)})
        for path in self._present():
            with open(path, "rb") as file:
                beginning = file.read(max(lengths, default=0))
            # Each length is hashed on from the one before: there may be thousands of small files.
            digest, hashed = hashlib.sha256(), 0
            for length in lengths:
                if length > len(beginning):
                    break
                digest.update(beginning[hashed:length])
                hashed = length
                mark = Fingerprint(length, digest.hexdigest())
                if mark in known:
                    yield f"--input: {path}", mark

    def _present(self) -> Iterator[str]:
        return (path for path in self.files if Path(path).exists())


@dataclass(frozen=True)
class FeedbackInput:
    """A source of labels, known by its name."""

    source: str

    def marks(self) -> Iterable[Mark]:
        return [self.source]

    def recognised(self, known: Collection[Mark]) -> Iterator[tuple[str, Mark]]:
        if self.source in known:
            yield f"--feedback: {self.source}", self.source


class Lineage:
    """The inputs of one model's queries.

    Parameters
    ----------
    directory
        One for all work directories of the model.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def register(self, query: str, fed: Input) -> None:
        """Remember that a query is fed an input, before it learns the first row."""
        known = self._of(query)
        missing = set(fed.marks()) - known
        if missing:
            write_durably(self._path(query), _encode(known | missing))

    def refuse_learned(self, fed: Input, own_query: str | None, current: ModelVersion) -> None:
        """Raise UserError when another query of the model has learned from the input."""
        if own_query is not None:
            # Read here, and not first when it is added to: a damaged one is refused now.
            self._of(own_query)
        others = [query for query in current.applied if query != own_query]
        known = {mark: query for query in others for mark in self._of(query)}
        for named, mark in fed.recognised(known):
            query = known[mark]
            raise UserError(
                f"{named} was fed to this model before, by query {query} up "
                f"to batch {current.applied[query]}, whose checkpoint is not the one "
                "here; what it learned is in the model, and would be counted twice. Go on "
                "with that checkpoint, or pass --allow-relearn"
            )

    def _of(self, query: str) -> set[Mark]:
        marks: set[Mark] = set()
        path, stream = self._path(query), self.directory / f"{query}.stream.json"
        if path.exists():
            marks |= _decode(path)
        if stream.exists():
            feedback = read_json(stream).get("feedback")
            if not isinstance(feedback, str):
                raise DamagedFileError(stream, "it names no source")
            marks.add(feedback)
        return marks

    def _path(self, query: str) -> Path:
        return self.directory / f"{query}.json"


def refuse_other_history(
    checkpoint: Checkpoint, current: ModelVersion | None, log: BatchLog
) -> None:
    """Raise UserError when a checkpoint and a model were not made together.

    Either may have been restored from an older copy: then rows would be left out, or counted
    twice.

    Parameters
    ----------
    checkpoint
    current
        The model's current version, None before it is created.
    log
        Of the checkpoint's work directory. It bears witness only where it has a record.
    """
    query, committed = checkpoint.query, checkpoint.committed
    if query is None:
        return
    learned = current.applied.get(query) if current else None
    if learned is not None and (checkpoint.planned is None or learned > checkpoint.planned):
        raise UserError(
            f"--workdir: the model has learned query {query} up to batch {learned}, and the "
            f"checkpoint {checkpoint.path} has begun none after {checkpoint.planned}: it is an "
            "older copy. Restore the newest one, or move it away to begin anew"
        )
    record = None if committed is None else log.find(query, committed)
    if record is not None and (current is None or record.version > current.version):
        there = "no version" if current is None else f"version {current.version}"
        raise UserError(
            f"--workdir: batch {committed} of the checkpoint {checkpoint.path} has made version "
            f"{record.version}, and the model here has {there}: it is an older copy. Restore the "
            "newest one, or move the checkpoint away to begin anew"
        )


def fingerprint(path: str, has_header: bool) -> Fingerprint | None:
    """Return a file's fingerprint, or None when it holds no row to know it by."""
    with open(path, "rb") as file:
        header = len(file.readline()) if has_header else 0
        file.seek(0)
        # Beside the header: that of a wide table may be longer than that alone.
        beginning = file.read(header + _BEGINNING_BYTES)
    if not beginning[header:].strip() or _is_empty_parquet(path, beginning):
        return None
    return Fingerprint(len(beginning), hashlib.sha256(beginning).hexdigest())


def _encode(marks: set[Mark]) -> bytes:
    files = [[mark.length, mark.sha256] for mark in marks if isinstance(mark, Fingerprint)]
    sources = [mark for mark in marks if isinstance(mark, str)]
    content = {"format": FORMAT, "files": sorted(files), "sources": sorted(sources)}
    return json.dumps(content).encode()


def _decode(path: Path) -> set[Mark]:
    content = read_json(path, (dict, list))
    if isinstance(content, list):
        content = {"format": 1, "files": content, "sources": []}
    try:
        if content["format"] > FORMAT:
            raise NewerFormatError(str(path), content["format"], FORMAT)
        files = {Fingerprint(length, sha256) for length, sha256 in content["files"]}
        return files | set(content["sources"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(path, f"it lists no inputs: {error}") from error


def _is_empty_parquet(path: str, beginning: bytes) -> bool:
    """Return whether a file is Parquet without rows: Spark writes such parts, all of them alike."""
    if not beginning.startswith(_PARQUET):
        return False
    try:
        return bool(pq.read_metadata(path).num_rows == 0)
    except (OSError, pa.ArrowException):
        # Text that begins like Parquet, or a damaged file: either has bytes to know it by.
        return False
