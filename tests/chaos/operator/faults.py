"""What may happen to the files of a work directory, and how it is undone."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.unit.damages import cut, empty, flip, retype, zero

TARGETS = {
    "checkpoint/metadata": "{c}/metadata",
    "checkpoint/offsets": "{c}/offsets/[0-9]*",
    "checkpoint/commits": "{c}/commits/[0-9]*",
    "list of files": "input.files live/*.files",
    "settings": "replay.json live/settings.json",
    "sources": "live/sources.json",
    "format.json": "format.json",
    "seen ids": "seen_ids.sqlite",
    "ledger": "ledgers/*.sqlite",
    "batch log": "batches/**/*.jsonl",
    "HEAD.json": "snapshots/HEAD.json",
    "version record": "snapshots/versions/**/*.*",
    "staged record": "snapshots/staged/*",
    "epoch": "snapshots/epochs/*/*",
    "inputs": "snapshots/inputs/*.json",
    "feedback": "snapshots/feedback/**/*.*",
    "snapshot": "snapshots/*.safetensors",
    "predictions": "predictions/**/*.parquet",
    "dead letters": "dead_letters/**/*.parquet",
    "state store": "live/checkpoint/state/**/*.*",
}
"""Patterns of files by the name of what they are; ``{c}`` is the checkpoint."""

PARTS = {
    "the checkpoint": "{c}",
    "the live directory": "live",
    "the snapshots": "snapshots",
    "the version records": "snapshots/versions",
    "the epochs": "snapshots/epochs",
    "the inputs": "snapshots/inputs",
    "the feedback": "snapshots/feedback",
    "the ledgers": "ledgers",
    "the seen ids": "seen_ids.sqlite*",
    "the batch log": "batches",
    "the predictions": "predictions",
    "the state store": "live/checkpoint/state",
}
"""What is lost, or restored from an older copy, as a whole."""

OUTPUTS = ("predictions", "dead_letters")
"""Written once and read by others: a run does not look at those of an earlier one."""

HISTORY = ("snapshots/feedback", "snapshots/versions", "snapshots/v", "snapshots/inputs")
"""Kept for good, and looked at when it is needed."""

_DEEP = b"[" * 100_000
_HEADER_BYTES = 16


def cut_short(data: bytes, rng: random.Random, other: bytes) -> bytes:
    return cut(data[:-1], rng, other)


def flip_header(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Flip a byte where SQLite notices: its cells have no checksum."""
    return flip(data[:_HEADER_BYTES], rng, other) + data[_HEADER_BYTES:]


def nest(data: bytes, rng: random.Random, other: bytes) -> bytes:
    return _DEEP


def garbage(data: bytes, rng: random.Random, other: bytes) -> bytes:
    return rng.randbytes(max(100, len(data)))


Damage = Callable[[bytes, random.Random, bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "flip": flip,
    "cut": cut_short,
    "empty": empty,
    "garbage": garbage,
    "nest": nest,
    "zero": zero,
    "retype": retype,
}


@dataclass(frozen=True)
class FileFault:
    """A fault that was done, and what was there before and after it.

    Attributes
    ----------
    what
        In words.
    root
        The work directory.
    before, after
        Contents of the files that it touched, by path; None where there is none.
    """

    what: str
    root: Path
    before: dict[Path, bytes | None]
    after: dict[Path, bytes | None]

    @classmethod
    def done(
        cls, what: str, root: Path, paths: list[Path], change: Callable[[], None]
    ) -> FileFault:
        """Do it, and note what it did to the files at and below some paths."""
        before = _contents(paths)
        change()
        after = _contents(paths)
        touched = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
        return cls(
            what,
            root,
            {path: before.get(path) for path in touched},
            {path: after.get(path) for path in touched},
        )

    def undo(self) -> None:
        """Put back what was there."""
        for path in self.before:
            _put(path, self.before[path])

    def undo_unnoticed(self) -> list[str]:
        """Put back what a run has left as the fault left it, and may; return what that was.

        That is what it does not look at, since it is only written, or needed by nobody now.
        """
        unnoticed = []
        for path, damaged in self.after.items():
            name = str(path.relative_to(self.root))
            if name.startswith((*OUTPUTS, *HISTORY)) and _read(path) == damaged:
                _put(path, self.before[path])
                unnoticed.append(name)
        return unnoticed


def files_of(workdir: Path, target: str, patterns: dict[str, str] = TARGETS) -> list[Path]:
    """Return the files of a target, in order of their names, oldest first."""
    checkpoint = "live/checkpoint" if (workdir / "live").exists() else "checkpoint"
    found = [
        path
        for pattern in patterns[target].format(c=checkpoint).split()
        for path in workdir.glob(pattern)
        if patterns is PARTS or path.is_file()
    ]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def damage_file(
    workdir: Path, path: Path, damage: str, rng: random.Random, other: bytes = b""
) -> FileFault:
    """Do one of :data:`DAMAGES` to a file, or ``remove`` it, or put ``older`` bytes there."""

    def change() -> None:
        if damage == "remove":
            path.unlink()
        elif damage == "older":
            path.write_bytes(other)
        else:
            path.write_bytes(_damage_of(path, damage)(path.read_bytes(), rng, other))

    return FileFault.done(f"{damage} {path.relative_to(workdir)}", workdir, [path], change)


def reorder(workdir: Path, path: Path) -> FileFault:
    """Turn round the lines of a list of files, and the files in each line."""

    def change() -> None:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(reversed(lines)))

    return FileFault.done(f"reorder {path.relative_to(workdir)}", workdir, [path], change)


def lose_part(workdir: Path, part: str) -> FileFault | None:
    """Remove a part as a whole."""
    paths = files_of(workdir, part, PARTS)

    def change() -> None:
        for path in paths:
            _remove(path)

    return FileFault.done(f"lose {part}", workdir, paths, change) if paths else None


def restore_part(workdir: Path, part: str, copy: Path) -> FileFault | None:
    """Replace a part by that of an older copy of the work directory."""
    older = files_of(copy, part, PARTS)
    paths = [workdir / path.relative_to(copy) for path in older]

    def change() -> None:
        for path, old in zip(paths, older, strict=True):
            _remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if old.is_dir() else shutil.copy2)(old, path)

    if not older:
        return None
    return FileFault.done(f"restore {part} as of {copy.name}", workdir, paths, change)


def differs(workdir: Path, part: str, copy: Path) -> bool:
    """Tell whether a part is there, and another in an older copy of the work directory."""
    parts = [
        {path.relative_to(root): data for path, data in _contents(paths).items()}
        for root, paths in ((root, files_of(root, part, PARTS)) for root in (workdir, copy))
    ]
    return bool(parts[1]) and parts[0] != parts[1]


def contents(workdir: Path) -> dict[Path, bytes | None]:
    """Return all files of a work directory."""
    return _contents([workdir])


def _damage_of(path: Path, damage: str) -> Damage:
    if damage in ("flip", "zero") and path.suffix == ".sqlite":
        return flip_header
    return DAMAGES[damage]


def _contents(paths: list[Path]) -> dict[Path, bytes | None]:
    files = [f for p in paths for f in ([p] if not p.is_dir() else p.rglob("*"))]
    return {path: _read(path) for path in files if not path.is_dir()}


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
