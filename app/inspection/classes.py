"""Which labels are the classes of a new model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.errors import UserError
from app.parsing.cells import canonical_text

_MOST_SHOWN = 5
_MOST_CLASSES_NAMED = 20
_LEAST_MEASURED = 20

RARE_LABEL_SHARE = 0.001
"""A label on a smaller share of the labelled rows, or on one row, may be a slip."""


def named_classes(names: Sequence[str]) -> tuple[str, ...]:
    """Return classes that the user names, as labels are read.

    Raises
    ------
    UserError
        When two of them are one label.
    """
    classes = tuple(map(canonical_text, names))
    if len(set(classes)) < len(classes):
        raise UserError(f"--classes: {','.join(names)} names one label twice")
    return classes


def choose_classes(counts: Mapping[str, int], column: str) -> tuple[str, ...]:
    """Return the labels of an input, in class order.

    Parameters
    ----------
    counts
        Labelled rows by label.
    column
        The label's column, for the message.

    Raises
    ------
    UserError
        When there are fewer than two, the labels look like numbers that are measured, or some
        are so rare that they may be slips.
    """
    total = sum(counts.values())
    _refuse_measured(counts, column, total)
    if len(counts) < 2:
        held = _shown(counts) or "no label"
        raise UserError(
            f"--label: column '{column}' holds {held}; at least 2 labels are needed; name the "
            "classes with --classes if the input has not all of them"
        )
    classes = sorted(counts, key=_label_order)
    common = [name for name in classes if counts[name] > max(1, RARE_LABEL_SHARE * total)]
    if len(common) < len(classes):
        raise UserError(_question(counts, column, classes, common))
    return tuple(classes)


def notes_on_classes(classes: Sequence[str]) -> list[str]:
    """Return what of a model's classes may not be as it was meant."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(name.casefold(), []).append(name)
    notes = [
        f"labels {', '.join(names)} differ in nothing but capitals, and are classes of their own; "
        "write them alike if they are one"
        for names in alike.values()
        if len(names) > 1
    ]
    quoted = [name for name in classes if len(name) > 1 and name[0] == name[-1] == '"']
    if quoted:
        notes.append(
            f"labels such as {quoted[0]} have quotes of their own: in CSV a quote counts as one "
            "only where nothing stands before it, not even a space"
        )
    return notes


def _question(
    counts: Mapping[str, int], column: str, classes: Sequence[str], common: Sequence[str]
) -> str:
    if len(classes) > _MOST_CLASSES_NAMED:
        answers = "name the classes with --classes"
    else:
        answers = f"--classes {','.join(classes)} takes all of them"
        if len(common) >= 2:
            answers += f", and --classes {','.join(common)} has rows of the others as dead letters"
    return (
        f"--label: column '{column}' holds {_shown(counts)}. Labels on one row, or on one in "
        f"{1 / RARE_LABEL_SHARE:,.0f}, may be slips: {answers}"
    )


def _shown(counts: Mapping[str, int]) -> str:
    """Return labels with their rows: the commonest, and the rarest of the others."""
    held = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} on {n:,} row{'s' * (n > 1)}" for name, n in held]
    if len(shown) > 2 * _MOST_SHOWN:
        shown[_MOST_SHOWN : len(shown) - _MOST_SHOWN] = ["…"]
    return ", ".join(shown)


def _refuse_measured(counts: Mapping[str, int], column: str, total: int) -> None:
    """Refuse labels that are many different numbers, most of them once and not all whole."""
    once = sum(n == 1 for n in counts.values())
    if len(counts) < _LEAST_MEASURED or once < len(counts) / 2:
        return
    if all(_label_order(name)[0] == 0 for name in counts) and any("." in name for name in counts):
        examples = ", ".join(list(counts)[:3])
        raise UserError(
            f"--label: column '{column}' looks measured: {len(counts):,} different numbers on "
            f"{total:,} rows, such as {examples}. A classifier learns classes: cut the numbers "
            "into ranges, or name the classes with --classes"
        )


def _label_order(label: str) -> tuple[int, float, str]:
    """Order numbers by value and before text."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
