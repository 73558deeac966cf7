"""What makes a field of a settings class an option: declared beside the field, in its type."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

PANELS = OPTIONS, ROWS, TEXT, MATCHING, REGISTRY, MODEL = (
    "Options",
    "Rows",
    "Text and times",
    "Matching",
    "Registry",
    "Model (fixed when it is created)",
)
"""Headings of the help, in order."""

_OPTION_NAMES = {
    "n_hidden_layers": "layers",
    "n_hidden_units": "units",
    "n_trees": "trees",
    "sinks": "sink",
}


@dataclass(frozen=True)
class Option:
    """Marks a field as an option: ``seed: Annotated[int, Option(MODEL)] = 0``.

    The option has the field's name, type and default, and the field's description in the
    docstring of its class. A field without the mark is no option.

    Parameters
    ----------
    panel
        Heading of the help under which the option stands.
    metavar
        What the help shows for the value; None for the type.
    choices
        Values that the field takes, where they are few.
    envvar
        Environment variable that gives the value when the command line does not. The value is a
        URL, which may hold a password there and nowhere else.
    parse
        Reads the value from its text; given the text and the field's name, for messages.
    multiple
        Whether the option may be given several times, each with one element of the value.
    """

    panel: str = OPTIONS
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    envvar: str | None = None
    parse: Callable[[str, str], Any] | None = None
    multiple: bool = False

    def value(self, given: Any, name: str) -> Any:
        """Return the field's value for what was given: the value itself, or its text."""
        if self.multiple:
            elements = [given] if isinstance(given, str) else given
            return tuple(self._element(element, name) for element in elements)
        return tuple(given) if isinstance(given, list) else self._element(given, name)

    def _element(self, given: Any, name: str) -> Any:
        return self.parse(given, name) if self.parse and isinstance(given, str) else given


def parse_path(text: str, name: str) -> Path:
    return Path(text)


def parse_names(text: str, name: str) -> tuple[str, ...]:
    """Return the names in a list a,b,c."""
    return tuple(part.strip() for part in text.split(","))


def parse_character(text: str, name: str) -> str:
    r"""Return a character, also a tab that is written ``\t``."""
    return "\t" if text == r"\t" else text


def option_name(field: str) -> str:
    """Return the command line's name for a field.

    Examples
    --------
    >>> option_name("n_hidden_layers"), option_name("learning_rate")
    ('--layers', '--learning-rate')
    """
    return "--" + _OPTION_NAMES.get(field, field).replace("_", "-")


def options_of(settings: type) -> dict[str, tuple[Option, type]]:
    """Return the options that a settings class declares, by field, each with its type.

    The type is that of a value that is given, so without None.
    """
    found = {}
    for name, hint in get_type_hints(settings, include_extras=True).items():
        if get_origin(hint) is Annotated:
            kind, *marks = get_args(hint)
            if get_origin(kind) is types.UnionType:
                kind = next(each for each in get_args(kind) if each is not types.NoneType)
            for option in marks:
                if isinstance(option, Option):
                    found[name] = option, kind
    return found
