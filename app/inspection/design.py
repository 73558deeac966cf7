"""What a new model would be made for, by what its input shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.config.features import REJECT, InputSettings
from app.contract import Encoding, FixedContract
from app.errors import UserError
from app.files.reading.text_stream import TextFormat
from app.inspection.class_counts import LabelCounts, count_labels
from app.inspection.classes import choose_classes, named_classes, notes_on_classes
from app.inspection.look import InputLook, encoding_of, look_at, notes_on
from app.parsing.row_parser import ParsingRules

NOTHING_COUNTED = LabelCounts({}, {})


@dataclass(frozen=True)
class Design:
    """What a new model is made for.

    Attributes
    ----------
    fixed
        Its part of the contract.
    look
        What its input holds; without columns where there is nothing to look at.
    labels
        Empty where the classes were named.
    notes
        What may not be as it was meant.
    """

    fixed: FixedContract
    look: InputLook = field(default_factory=InputLook)
    labels: LabelCounts = NOTHING_COUNTED
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class InputFiles:
    """Files, and how they are read.

    Attributes
    ----------
    files
    row_format
    columns
        All that they have.
    rules, text
    """

    files: Sequence[str]
    row_format: str
    columns: Sequence[str]
    rules: ParsingRules
    text: TextFormat


def design_of(
    settings: InputSettings,
    found: InputFiles,
    features: tuple[str, ...],
    is_array: bool,
    given: FixedContract | None = None,
) -> Design:
    """Return what a model of an input is made for.

    Parameters
    ----------
    settings
    found
    features
        Names of the feature columns.
    is_array
        Whether they are one array column.
    given
        What was decided before, and holds.

    Raises
    ------
    UserError
        When a feature is of no use, or it must be said which labels are classes.
    """
    named = () if is_array else features
    look = look_at(found.files, found.row_format, named, found.rules, found.text, found.columns)
    encoding = Encoding(imputes=settings.missing != REJECT)
    if given is not None:
        encoding = given.encoding
    elif not is_array:
        encoding = encoding_of(look, features, settings)
    labels, notes = NOTHING_COUNTED, notes_on(look, encoding)
    if settings.classes is not None:
        classes = named_classes(settings.classes)
    elif settings.label is None:
        raise UserError(
            "--classes: name the labels in class order, or the column that holds them as --label"
        )
    else:
        source = found.files, found.row_format, settings.label, found.rules, found.text
        labels = count_labels(*source)
        notes += _notes_on_labels(labels, settings.label)
        try:
            classes = choose_classes(labels.labels, settings.label)
        except UserError as error:
            for note in notes:
                error.add_note(note)
            raise
    notes += notes_on_classes(classes)
    return Design(FixedContract(features, classes, encoding), look, labels, tuple(notes))


def _notes_on_labels(labels: LabelCounts, column: str) -> list[str]:
    return [
        f"{n:,} rows have the label {name!r} in column '{column}', which counts as none; if it is "
        f"a class, name it among the --classes"
        for name, n in labels.unlabelled.items()
    ]
