"""Which runs are at work in a work directory, and which of them is the newest.

Each run has a file of its own, ``.runs/<number>``, locked for as long as its process lives: a file
that can be locked is left by a run that has ended. A run that finds a file of a higher number has
been taken over, and ends after the batch in hand.

Locks are those of the filesystem. On one that has none, runs do not see each other here, and the
epochs of the registry alone keep an older one from publishing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from app.config.run import EXIT, TAKEOVER
from app.errors import StorageError, TakenOverError, WorkdirInUseError

TAKEOVER_SECONDS = 60.0
"""How long an older run has for the batch in hand before a newer one goes on without its end."""

_DIRECTORY = ".runs"
_GUARD = "guard"
_POLL_SECONDS = 0.1


class RunClaim:
    """A run's place among those of its work directory.

    Attributes
    ----------
    number
        Higher than those of the runs that were at work when it came.
    """

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self._directory = directory

    @property
    def is_taken_over(self) -> bool:
        """Whether a newer run has come."""
        return any(number > self.number for number in _numbers(self._directory))

    def check(self) -> None:
        """Raise TakenOverError when a newer run has come."""
        if self.is_taken_over:
            raise TakenOverError(
                f"a newer run has taken over {self._directory.parent}; it goes on from here"
            )


@contextlib.contextmanager
def claimed(
    workdir: Path,
    if_running: str,
    *,
    warn: Callable[[str], None] = lambda message: None,
    check_stop: Callable[[], None] = lambda: None,
) -> Iterator[RunClaim]:
    """Claim a work directory within a block.

    Parameters
    ----------
    workdir
        There already.
    if_running : {"takeover", "wait", "exit"}
        What to do when a run is at work there: have it end after the batch in hand, wait for
        its end, or raise.
    warn
        Called with a message when there is one to wait for.
    check_stop
        Called again and again while waiting; what it raises ends the wait.

    Raises
    ------
    WorkdirInUseError
        When a run is at work and ``if_running`` is exit.
    TakenOverError
        When a still newer run came while an older one was waited for.
    StorageError
        When the directory cannot be used.
    """
    directory = workdir / _DIRECTORY
    with contextlib.ExitStack() as stack:
        try:
            directory.mkdir(exist_ok=True)
            claim = _claim(directory, if_running, stack, warn, check_stop)
            if if_running == TAKEOVER:
                _wait_for_older(claim, directory, warn, check_stop)
        except OSError as error:
            raise StorageError(f"{directory} cannot be used: {error.strerror or error}") from error
        yield claim


def _claim(
    directory: Path,
    if_running: str,
    stack: contextlib.ExitStack,
    warn: Callable[[str], None],
    check_stop: Callable[[], None],
) -> RunClaim:
    """Make and lock a file of our own, once the policy allows it."""
    waited = False
    while True:
        # Held while looking and making: of two that come at once, one sees the other.
        with _guarded(directory):
            living = _living(directory)
            if not living or if_running == TAKEOVER:
                number = max(_numbers(directory), default=0) + 1
                path = directory / str(number)
                file = stack.enter_context(open(path, "x"))
                stack.callback(path.unlink, missing_ok=True)
                _lock(file)
                file.write(str(os.getpid()))
                file.flush()
                return RunClaim(directory, number)
        if if_running == EXIT:
            raise WorkdirInUseError(
                f"--workdir: another run ({_named(living)}) is using {directory.parent}; wait for "
                "its end, or say --if-running wait or takeover"
            )
        if not waited:
            warn(f"waiting for the run at work ({_named(living)}) to end")
            waited = True
        check_stop()
        time.sleep(_POLL_SECONDS)


def _wait_for_older(
    claim: RunClaim,
    directory: Path,
    warn: Callable[[str], None],
    check_stop: Callable[[], None],
) -> None:
    """Wait until the runs before have ended, but not for one that hangs."""
    deadline = time.monotonic() + TAKEOVER_SECONDS
    warned = False
    while older := _older(claim, directory):
        if not warned:
            warn(f"taking over from the run at work ({_named(older)}), after its batch in hand")
            warned = True
        if time.monotonic() > deadline:
            warn(
                f"the run before ({_named(older)}) has not ended within {TAKEOVER_SECONDS:g} s; "
                "going on without its end: it can publish no more"
            )
            return
        check_stop()
        claim.check()
        time.sleep(_POLL_SECONDS)


def _older(claim: RunClaim, directory: Path) -> dict[int, str]:
    # Guarded: a run that is only just coming has made its file and not locked it yet.
    with _guarded(directory):
        living = _living(directory)
    return {number: process for number, process in living.items() if number < claim.number}


@contextlib.contextmanager
def _guarded(directory: Path) -> Iterator[None]:
    with open(directory / _GUARD, "w") as guard:
        _lock(guard, wait=True)
        yield


def _living(directory: Path) -> dict[int, str]:
    """Return the process ids of the runs at work by number, and remove what dead ones left."""
    living = {}
    for number in _numbers(directory):
        path = directory / str(number)
        try:
            with open(path) as file:
                is_locked = _lock(file)
                if is_locked:
                    path.unlink(missing_ok=True)
                elif is_locked is False:
                    living[number] = file.read()
        except FileNotFoundError:
            continue
    return living


def _numbers(directory: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(directory) if name.isdecimal())
    except FileNotFoundError:
        return []


def _lock(file: IO[str], wait: bool = False) -> bool | None:
    """Lock a file until it is closed or its process ends.

    Returns
    -------
    bool or None
        False when another process has it, None when the filesystem has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _named(living: dict[int, str]) -> str:
    return ", ".join(f"process {pid or 'unknown'}" for pid in living.values())
