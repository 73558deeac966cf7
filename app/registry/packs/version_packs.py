"""The records of many versions in one file each, for all but the newest versions.

::

    versions/0000012/0000012300.jsonl  versions 12300 to 12399, one record a line
    versions/0000012.jsonl             versions 12000 to 12999, in place of ten of those

A pack is created exclusively once the last of its versions is there, and is never written again;
what it holds is removed elsewhere after that. So whoever looks for a record in the files of single
versions, then in the packs of a hundred, then in those of a thousand, finds it; and packers need no
lock, on whichever machines they are: what several write at once is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from app.files.atomic import create_durably
from app.files.documents import parse_json
from app.registry.version import damaged_record

PER_PACK = 100
PER_DIRECTORY = 1000

_NAME = re.compile(r"(\d{10,})\.jsonl?")

Content = Mapping[str, Any]


class VersionPacks:
    """The packs of one model, and the files of single versions beside them.

    Parameters
    ----------
    directory
        Need not be there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loaded: tuple[Path, tuple[int, ...], dict[int, Content]] | None = None

    def single(self, version: int) -> Path:
        """Return the file that holds the record of one version."""
        return self._folder(version // PER_DIRECTORY) / f"{version:010d}.json"

    def has(self, version: int) -> bool:
        """Return whether a version was packed."""
        return any(path.exists() for path in self._packs_of(version))

    def find(self, version: int) -> tuple[Content, str] | None:
        """Return the content of a version's record and where it is; None if it was not packed.

        Raises
        ------
        DamagedRecordError
            When its line in the pack is damaged.
        """
        for path in self._packs_of(version):
            contents = self._load(path)
            if contents is not None:
                if version not in contents:
                    raise damaged_record(f"{path}, version {version},", "its line is damaged")
                return contents[version], f"{path}, version {version},"
        return None

    def last(self) -> int | None:
        """Return the highest version that has a record, by listing directories."""
        for thousand in self._thousands():
            versions = [self._last_of(path) for path in self._listed(thousand)]
            if self._whole(thousand).exists():
                versions.append((thousand + 1) * PER_DIRECTORY - 1)
            if versions:
                return max(versions)
        return None

    def contents(self) -> Iterator[Content]:
        """Yield the contents of records, newest first, those that are damaged left out."""
        for thousand in self._thousands():
            for path in [*reversed(self._listed(thousand)), self._whole(thousand)]:
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                yield from _parsed([data] if path.suffix == ".json" else data.splitlines())

    def pack(
        self,
        last: int,
        encoded: Callable[[int], bytes | None],
        is_sound: Callable[[Content], bool],
        *,
        everything: bool = False,
    ) -> int:
        """Pack the records of versions up to ``last``, as far as they fill packs.

        Parameters
        ----------
        last
        encoded
            Returns the line of a version's record, without its end; None when it cannot be had.
            A pack that would lack one is not made, and its records stay where they are.
        is_sound
            Tells whether the content of a line is the record that it was.
        everything
            Look at all versions, also at those below what was packed before.

        Returns
        -------
        int
            Records that were packed.
        """
        thousands = []
        for thousand in range(last // PER_DIRECTORY, -1, -1):
            thousands.append(thousand)
            if self._whole(thousand).exists() and not everything:
                break
        packed = 0
        # Oldest first: below one that is whole there is never anything left to do.
        for thousand in reversed(thousands):
            if not self._whole(thousand).exists():
                packed += self._pack_thousand(thousand, last, encoded)
            self._remove_packed(thousand, is_sound)
        return packed

    def _pack_thousand(
        self, thousand: int, last: int, encoded: Callable[[int], bytes | None]
    ) -> int:
        all_versions = range(thousand * PER_DIRECTORY, (thousand + 1) * PER_DIRECTORY)
        packed, is_full = 0, True
        for first in all_versions[::PER_PACK]:
            small, versions = self._small(first), range(first, first + PER_PACK)
            if not small.exists():
                created = versions[-1] <= last and _create(small, versions, encoded)
                packed += PER_PACK if created else 0
            is_full = is_full and small.exists()
        if is_full:
            _create(self._whole(thousand), all_versions, encoded)
        return packed

    def _remove_packed(self, thousand: int, is_sound: Callable[[Content], bool]) -> None:
        """Remove the files of a thousand whose records are in a larger pack, and sound there."""
        whole = self._whole(thousand)
        has_whole = whole.exists()
        for path in self._listed(thousand):
            pack = whole if has_whole else self._small_of(int(path.stem))
            contents = self._load(pack) if pack != path else None
            versions = range(int(path.stem), self._last_of(path) + 1)
            if contents and all(v in contents and is_sound(contents[v]) for v in versions):
                path.unlink(missing_ok=True)

    def _load(self, path: Path) -> dict[int, Content] | None:
        """Return the contents in a pack by version; None when there is no such pack."""
        try:
            state = path.stat()
            signature = (state.st_ino, state.st_size, state.st_mtime_ns)
            if self._loaded is None or self._loaded[:2] != (path, signature):
                contents = {}
                for content in _parsed(path.read_bytes().splitlines()):
                    version = content.get("version")
                    if type(version) is int:
                        contents[version] = content
                self._loaded = (path, signature, contents)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise damaged_record(str(path), error.strerror or str(error)) from error
        return self._loaded[2]

    def _packs_of(self, version: int) -> tuple[Path, Path]:
        # In this order: the second is there before the first is removed.
        return self._small_of(version), self._whole(version // PER_DIRECTORY)

    def _small_of(self, version: int) -> Path:
        return self._small(version - version % PER_PACK)

    def _small(self, first: int) -> Path:
        return self._folder(first // PER_DIRECTORY) / f"{first:010d}.jsonl"

    def _whole(self, thousand: int) -> Path:
        return self._directory / f"{thousand:07d}.jsonl"

    def _folder(self, thousand: int) -> Path:
        return self._directory / f"{thousand:07d}"

    def _thousands(self) -> list[int]:
        """Return which thousands have versions, the newest first."""
        names = {path.name.removesuffix(".jsonl") for path in self._directory.glob("[0-9]*")}
        return sorted((int(name) for name in names if name.isdecimal()), reverse=True)

    def _listed(self, thousand: int) -> list[Path]:
        """Return the files of single versions and of a hundred, in order."""
        found = self._folder(thousand).glob("[0-9]*")
        return sorted(path for path in found if _NAME.fullmatch(path.name))

    def _last_of(self, path: Path) -> int:
        """Return the last version in a file of one version or of a hundred."""
        return int(path.stem) + (PER_PACK - 1 if path.suffix == ".jsonl" else 0)


def _create(path: Path, versions: range, encoded: Callable[[int], bytes | None]) -> bool:
    lines = []
    for version in versions:
        line = encoded(version)
        if line is None:
            return False
        lines.append(line + b"\n")
    return create_durably(path, b"".join(lines))


def _parsed(lines: Iterable[bytes]) -> Iterator[Content]:
    for line in lines:
        try:
            content = parse_json(line)
        except ValueError:
            continue
        if isinstance(content, Mapping):
            yield content
