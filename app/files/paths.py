"""What the path of a file says: its place among others, and the partition that it belongs to."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from urllib.parse import unquote_to_bytes

_NUMBER = re.compile(r"([0-9]+)")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def natural_order(path: str) -> tuple[tuple[list[str | int], str], ...]:
    """Return what paths are to be sorted by, so that numbers in names count as such.

    >>> sorted(["part10", "part2", "part2/b", "part02"], key=natural_order)
    ['part02', 'part2', 'part2/b', 'part10']
    """
    return tuple((_words_and_numbers(part), part) for part in PurePath(path).parts)


def _words_and_numbers(name: str) -> list[str | int]:
    return [int(word) if i % 2 else word for i, word in enumerate(_NUMBER.split(name))]


def partition_of(path: str) -> dict[str, str | None]:
    """Return the columns that a file's directories name, as Hive and Spark write them.

    Of a name that is there twice, the directory nearest to the file counts.

    >>> partition_of("/in/day=2024-01-01/at=a%2Fb/city=__HIVE_DEFAULT_PARTITION__/x=1.csv")
    {'day': '2024-01-01', 'at': 'a/b', 'city': None}
    """
    found: dict[str, str | None] = {}
    for part in PurePath(path).parts[:-1]:
        name, is_partition, value = part.partition("=")
        if name and is_partition:
            found[_decoded(name)] = None if value == _NULL_PARTITION else _decoded(value)
    return found


def partition_metadata(path: str) -> dict[str, str]:
    """Return the same as the metadata of a schema holds it, nothing where there is none."""
    found = partition_of(path)
    return {"partition": json.dumps(found)} if found else {}


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode(errors="surrogateescape")).decode(errors="replace")
