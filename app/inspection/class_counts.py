"""The labels of an input, counted without Spark: it takes less time than a job to start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from app.files.reading.text_stream import AS_USUAL, TextFormat
from app.files.sequence import START, FileSequence
from app.parsing.row_parser import DEFAULT_RULES, ParsingRules, labels_of

_ROWS_PER_READ = 50_000


@dataclass(frozen=True)
class LabelCounts:
    """The labels of an input.

    Attributes
    ----------
    labels
        Rows by label, in canonical form.
    unlabelled
        Rows by what they have in its place: a text that stands for a missing value.
    """

    labels: dict[str, int]
    unlabelled: dict[str, int]


def count_labels(
    files: Sequence[str],
    row_format: str,
    column: str,
    rules: ParsingRules = DEFAULT_RULES,
    text: TextFormat = AS_USUAL,
) -> LabelCounts:
    """Return how many rows of files have each label. Lines that are no row are passed over."""
    sequence = FileSequence(files, row_format, (column,), text=text)
    counts: Counter[str] = Counter()
    position = dict(START)
    while True:
        batches, end = sequence.read(position, _ROWS_PER_READ)
        if end["row"] == position["row"]:
            break
        position = end
        for batch in batches:
            counted = labels_of(batch, column, ()).drop_null().value_counts()
            counts.update(dict(zip(*(counted.field(i).to_pylist() for i in range(2)), strict=True)))
    sequence.close()
    missing = {*rules.missing}
    return LabelCounts(
        {name: n for name, n in counts.items() if name.lower() not in missing},
        {name: n for name, n in counts.items() if name.lower() in missing and name},
    )
