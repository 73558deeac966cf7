"""A process that dies at each of its file operations in turn."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from unittest import mock

from app.files import atomic

_OPERATIONS = {
    os: ["fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink"],
    atomic: ["_renameat2"],
}


class Killed(BaseException):
    """Not an Exception: what dies handles nothing."""


def every_death() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Yield functions that run an action, each up to one file operation more than the one before.

    The last one runs it to its end.
    """
    for steps in itertools.count():
        outcome: list[bool] = []
        yield lambda action, steps=steps, outcome=outcome: outcome.append(_dies(action, steps))
        if not outcome[-1]:
            return


def _dies(action: Callable[[], object], steps: int) -> bool:
    """Run an action that is killed before its next file operation after so many."""
    left = steps

    def dying(operation: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            # What is dead does nothing more, in its clean-up neither.
            if left < 0:
                raise Killed
            return operation(*args, **kwargs)

        return call

    patches = [
        mock.patch.object(owner, name, dying(getattr(owner, name)))
        for owner, names in _OPERATIONS.items()
        for name in names
    ]
    for patch in patches:
        patch.start()
    try:
        action()
    except Killed:
        return True
    finally:
        for patch in patches:
            patch.stop()
    return False
