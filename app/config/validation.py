"""Checks of a setting's value, each with a message that names the setting and the range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

from app.errors import InvalidParameterError


def require(ok: bool, name: str, expected: str, value: object) -> None:
    if not ok:
        raise InvalidParameterError(name, f"must be {expected}, not {value!r}")


def require_int(settings: object, name: str, least: int) -> None:
    value = getattr(settings, name)
    sound = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(sound, name, f"an integer of at least {least}", value)


def require_at_least_0(settings: object, name: str, expected: str = "at least 0") -> None:
    value = getattr(settings, name)
    require(is_real(value) and value >= 0, name, expected, value)


def require_above_0(name: str, value: object) -> None:
    require(is_real(value) and value > 0, name, "a number above 0", value)


def require_choice(settings: object, name: str, choices: Sequence[str]) -> None:
    value = getattr(settings, name)
    require(value in choices, name, "one of " + ", ".join(choices), value)


def is_real(value: object) -> TypeGuard[float]:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
