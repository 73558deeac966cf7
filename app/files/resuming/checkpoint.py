"""A checkpoint of Spark's, looked at before Spark is started on it.

Spark believes what it finds there: a file that is missing, or is an older copy, it takes for a
beginning or for another query's work. So what does not fit together is refused here, in words.

::

    metadata     {"id": query}, written at the first start
    offsets/<n>  where batch n begins to read, written before it is begun
    commits/<n>  written when it is done

The last two begin with a line ``v<number>``; then come lines of JSON, in ``offsets`` one for the
batch and one for each source. Beside each file Hadoop keeps checksums, ``.<name>.crc``: ``crc``,
a zero, the length of a chunk, and the CRC-32 of each, in big-endian order.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import DamagedFileError, UserError
from app.files.documents import parse_json, read_json

_VERSION_LINE = re.compile(r"v\d+")
_NO_OFFSET = "-"
_CHECKSUMS = b"crc\0"


@dataclass(frozen=True)
class Checkpoint:
    """How far a query has come.

    Attributes
    ----------
    path
    query
        Id of the query, None before its first start.
    planned
        The newest batch that was begun, None before the first.
    committed
        The newest batch that is done: ``planned``, or the one before.
    """

    path: Path
    query: str | None = None
    planned: int | None = None
    committed: int | None = None

    def with_learned(self, batch: int | None) -> Checkpoint:
        """Return the same with a batch as done that a model has learned and Spark not committed."""
        if batch is None or batch <= (-1 if self.committed is None else self.committed):
            return self
        return dataclasses.replace(self, committed=batch)

    def offsets(self) -> list[Any]:
        """Return where each source has been read to, by the newest batch; None where nowhere."""
        if self.planned is None:
            return []
        return _offsets(self.path / "offsets" / str(self.planned))

    def done(self) -> list[Any]:
        """Return where each source has been read to for good, by the newest batch that is done."""
        if self.committed is None:
            return []
        return _offsets(self.path / "offsets" / str(self.committed))


def inspect_checkpoint(path: Path) -> Checkpoint:
    """Return what a checkpoint says, once it fits together.

    Parameters
    ----------
    path
        It may be missing: then the query has not been started.

    Raises
    ------
    UserError
        When a part of it is gone.
    DamagedFileError
        When a file that is needed to go on is not as it was written.
    """
    planned, committed = (_newest(path / name) for name in ("offsets", "commits"))
    metadata = path / "metadata"
    try:
        query = read_json(metadata)["id"]
        _check_sums(metadata, metadata.read_bytes())
    except FileNotFoundError:
        if planned is not None or committed is not None:
            raise _incomplete(path, metadata) from None
        return Checkpoint(path)
    except KeyError as error:
        raise DamagedFileError(metadata, "it names no query") from error
    if not isinstance(query, str) or not query:
        raise DamagedFileError(metadata, f"its query is {query!r}")
    if committed is not None and (planned is None or planned < committed):
        raise _incomplete(path, path / "offsets" / str(committed))
    if planned is not None:
        if planned > 0 and (committed is None or committed < planned - 1):
            raise _incomplete(path, path / "commits" / str(planned - 1))
        # Spark begins with the newest batch, from where the one before has ended.
        for batch in range(max(0, planned - 1), planned + 1):
            offsets = path / "offsets" / str(batch)
            if not offsets.exists():
                raise _incomplete(path, offsets)
            _offsets(offsets)
    if committed is not None:
        _lines(path / "commits" / str(committed))
    return Checkpoint(path, query, planned, committed)


def _newest(directory: Path) -> int | None:
    if not directory.is_dir():
        return None
    return max((int(p.name) for p in directory.iterdir() if p.name.isdecimal()), default=None)


def _offsets(path: Path) -> list[Any]:
    _, *sources = _lines(path)
    if not sources:
        raise DamagedFileError(path, "it names no source")
    return sources


def _lines(path: Path) -> list[Any]:
    """Return the parsed lines after the first, None for those without a value."""
    try:
        content = path.read_bytes()
        _check_sums(path, content)
        lines = content.decode().splitlines()
        if len(lines) < 2 or not _VERSION_LINE.fullmatch(lines.pop(0)):
            raise ValueError("it is cut short")
        return [None if line == _NO_OFFSET else parse_json(line) for line in lines]
    except OSError as error:
        raise DamagedFileError(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise DamagedFileError(path, str(error)) from error


def _check_sums(path: Path, content: bytes) -> None:
    """Refuse a file that is not what its checksums are of, as Spark would in the batch."""
    try:
        sums = path.with_name(f".{path.name}.crc").read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DamagedFileError(path, error.strerror or str(error)) from error
    # At least one, so that a damaged length is none that cannot be counted in.
    size = max(1, int.from_bytes(sums[len(_CHECKSUMS) :][:4]))
    chunks = (content[start : start + size] for start in range(0, len(content), size))
    found = b"".join(zlib.crc32(chunk).to_bytes(4) for chunk in chunks)
    if not sums.startswith(_CHECKSUMS) or sums[len(_CHECKSUMS) + 4 :] != found:
        raise DamagedFileError(path, "its checksum is another")


def _incomplete(path: Path, missing: Path) -> UserError:
    return UserError(
        f"--workdir: {missing} is missing, and the rest of the checkpoint {path} is there; restore "
        "it, or move the whole checkpoint away to begin anew"
    )
