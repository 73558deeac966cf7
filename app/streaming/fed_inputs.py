"""Which inputs a model was fed, so that none is learned twice by mistake.

A checkpoint that is deleted, or a new work directory, gives a new query id, and
with it every row of the input would come again. The beginning of each file that a
query reads is remembered beside the model's snapshots and looked for when another
query starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.durable import write_durably
from app.errors import UserError
from app.registry.record import HeadRecord

_BEGINNING_BYTES = 64 * 1024
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Fingerprint:
    """The beginning of a file: how many bytes of it, and their SHA-256."""

    length: int
    sha256: str


class FedInputs:
    """The inputs of one model's queries.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def register(self, query: str, files: Iterable[str], has_header: bool) -> None:
        """Remember that a query is fed these files, before it learns the first row."""
        known = self._of(query)
        found = {fingerprint(path, has_header) for path in files if Path(path).exists()}
        missing = found - known - {None}
        if missing:
            content = sorted([f.length, f.sha256] for f in known | missing)
            write_durably(self.directory / f"{query}.json", json.dumps(content).encode())

    def refuse_learned(self, files: Iterable[str], own_query: str | None, head: HeadRecord) -> None:
        """Raise UserError when another query of the model has learned from one of the files."""
        others = [query for query in head.applied if query != own_query]
        known = {fed: query for query in others for fed in self._of(query)}
        lengths = sorted({fed.length for fed in known})
        for path in files:
            if not Path(path).exists():
                continue
            with open(path, "rb") as file:
                beginning = file.read(max(lengths, default=0))
            # Each length is hashed on from the one before: there may be thousands of small files.
            digest, hashed = hashlib.sha256(), 0
            for length in lengths:
                if length > len(beginning):
                    break
                digest.update(beginning[hashed:length])
                hashed = length
                fed = Fingerprint(length, digest.hexdigest())
                if fed in known:
                    raise UserError(
                        f"--input: {path} was fed to this model before, by query {known[fed]} up "
                        f"to batch {head.applied[known[fed]]}, whose checkpoint is not the one "
                        "here; what it learned is in the model, and would be counted twice. Go on "
                        "with that checkpoint, or pass --allow-relearn"
                    )

    def _of(self, query: str) -> set[Fingerprint]:
        path = self.directory / f"{query}.json"
        if not path.exists():
            return set()
        return {Fingerprint(length, sha256) for length, sha256 in json.loads(path.read_bytes())}


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


def _is_empty_parquet(path: str, beginning: bytes) -> bool:
    """Tell whether a file is Parquet without rows: Spark writes such parts, all of them alike."""
    if not beginning.startswith(_PARQUET):
        return False
    try:
        return pq.read_metadata(path).num_rows == 0
    except (OSError, pa.ArrowException):
        # Text that begins like Parquet, or a damaged file: either has bytes to know it by.
        return False
