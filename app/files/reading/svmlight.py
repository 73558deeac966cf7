"""Lines of SVMlight and LIBSVM, ``label 3:0.5 7:1 # comment``: what is not named is zero.

A line becomes delimited text: the label in a column ``label``, and feature ``i`` in ``f<i>``. A
``qid``, which is for ranking, is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from app.errors import UserError
from app.files.reading.text_stream import TextFormat, open_text

LABEL = "label"
DELIMITER = "\t"
COMMENT = b"#"

_MOST_FEATURES = 100_000
_BLOCK_BYTES = 1 << 20
_COLUMN = re.compile(r"f(0|[1-9][0-9]*)")
_INDEX = re.compile(rb"[ \t]([0-9]+):")
_COMMENTS = re.compile(rb"#[^\n]*")


def names_among(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that lines can have, the label first."""
    return (LABEL, *(name for name in dict.fromkeys(columns) if _COLUMN.fullmatch(name)))


def columns_of(files: Sequence[str], text: TextFormat) -> tuple[str, ...]:
    """Return the columns of files up to their largest index, after a look at every line.

    Raises
    ------
    UserError
        When there are too many, or none.
    """
    found: set[bytes] = set()
    for path in files:
        with open_text(path, text.encoding) as file:
            rest = b""
            while block := file.read(_BLOCK_BYTES):
                lines, _, rest = (rest + block).rpartition(b"\n")
                found.update(_INDEX.findall(_COMMENTS.sub(b"", lines)))
            found.update(_INDEX.findall(_COMMENTS.sub(b"", rest)))
    indices = {int(digits) for digits in found}
    if not indices:
        raise UserError(f"--input: {files[0]} holds no features as in '1 3:0.5 7:1'")
    if max(indices) > _MOST_FEATURES:
        raise UserError(
            f"--input: the largest index of a feature is {max(indices)}, and at most "
            f"{_MOST_FEATURES:,} are learned; name some with --features, such as f1,f2"
        )
    first = 0 if 0 in indices else 1
    return (LABEL, *(f"f{i}" for i in range(first, max(indices) + 1)))


class Rewriter:
    """Makes delimited text of lines.

    Parameters
    ----------
    names
        The label and the features that a line is to have, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._places = {name.removeprefix("f").encode(): i for i, name in enumerate(names[1:], 1)}
        self._empty = [b"", *[b"0"] * (len(names) - 1)]

    def __call__(self, line: bytes) -> bytes:
        """Return the fields of a line; of one that is none, the line as a single field."""
        fields = self._empty.copy()
        words = line.partition(COMMENT)[0].split()
        if words and b":" not in words[0]:
            fields[0] = words.pop(0).removeprefix(b"+")
        for word in words:
            index, is_pair, value = word.partition(b":")
            if not (is_pair and value and (index.isdigit() or index == b"qid")):
                return b" ".join(line.split())
            place = self._places.get(index.lstrip(b"0") or index[:1])
            if place is not None:
                fields[place] = value
        return DELIMITER.encode().join(fields)
