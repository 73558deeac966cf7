"""One step of the walk: something happens, runs follow, and each is judged."""

from __future__ import annotations

import contextlib
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.operator.faults import FileFault, contents
from tests.chaos.operator.place import Place
from tests.chaos.operator.worker import Ended, Pool, Worker

DONE, REFUSED, TAKEN_OVER, ALL_DEAD, STOPPED = 0, (1, 2), 4, 5, 143
IN_USE = 3

TOUCHABLE = (".runs/", ".redis-url")
"""What a refused run may have touched: who is at work there, and at which redis-server."""

_TRACES = ("Traceback", "\tat ", "Exception in thread", "py4j", "org.apache.", "java.lang")
_OVERLOADED = "a Python worker did not start within the ten seconds"

_LEFT_BEHIND = re.compile(r"Traceback .*\n(?:  .*\n)+.*CANNOT_OPEN_SOCKET.*\n?")
"""A reader of Spark's that its query did not wait for: elsewhere the JVM has ended by then."""

_ALL_DEAD = re.compile(r"^error: (?:.*; )?([\d,]+) of \1 (?:rows|labels) are dead", re.MULTILINE)

_PARTS = re.compile(r"(/[^\s:;,]*)|([0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,})|(\d+)")


@dataclass
class Step:
    """What a move does its work with.

    Attributes
    ----------
    place
    pool
    rng
    notes
        What happened, in order.
    refusals
        Messages of runs that were refused.
    repairs
        Faults after which a run has ended as if there had been none.
    problems
    """

    place: Place
    pool: Pool
    rng: random.Random
    notes: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    repairs: int = 0
    problems: list[str] = field(default_factory=list)

    def run(
        self,
        fault: FileFault | None = None,
        changes: dict[str, Any] | None = None,
        *,
        clock: float = 0.0,
        keys: dict[bytes, bytes] | None = None,
        may_refuse: bool = False,
        is_found_late: bool = False,
    ) -> bool:
        """Run to the end of the input, and judge what became of it.

        A run that is refused has changed nothing; then what was done is undone, and another
        must go on.

        Parameters
        ----------
        fault
            One that was done to files.
        changes
            Options of this run alone.
        clock
            See :meth:`Worker.start`.
        keys
            What Redis held before a fault was done to it.
        may_refuse
            Whether there is a cause beside the fault to refuse it.
        is_found_late
            Whether Spark alone reads what is at fault, in the batch that it has planned by then.

        Returns
        -------
        bool
            Whether it was not refused.
        """
        place = self.place
        before, redis = contents(place.workdir), place.redis_contents()
        (worker,) = self.pool.take(1)
        worker.start(place.arguments(changes or {}), clock)
        ended = worker.wait()
        if _is_overloaded(ended):
            self.notes.append("the machine was too busy")
            return self.run(
                fault, changes, clock=clock, keys=keys, may_refuse=may_refuse,
                is_found_late=is_found_late,
            )  # fmt: skip
        if _has_read_all(ended):
            self._judge_told(ended)
            unnoticed = fault.undo_unnoticed() if fault else []
            self.check(with_redis="redis-url" not in (changes or {}))
            self.repairs += fault is not None or keys is not None
            self.notes.append("unnoticed" if unnoticed else "done")
            return True
        self._judge_refused(ended)
        if not is_found_late:
            self._judge_unchanged(before, redis)
        if fault is None and keys is None and not may_refuse:
            self.problem(f"refused without a cause: {_message(ended)}")
        if self.problems:
            return False
        if fault is not None:
            fault.undo()
        if keys is not None:
            place.restore_redis(keys)
        self.run()
        return False

    def finish(self) -> None:
        """Run to the end of the input, which nothing speaks against."""
        self.run()

    @contextlib.contextmanager
    def at_work(self, changes: dict[str, Any] | None = None) -> Iterator[Worker]:
        """Have a run at work within a block, which the block waits for or ends."""
        (worker,) = self.pool.take(1)
        worker.start(self.place.arguments({self.place.rows_option: 10} | (changes or {})))
        yield worker

    def judge_ended(self, ended: Ended, *codes: int, is_over: bool = False) -> None:
        """Judge a run to which something happened while it was at work.

        Parameters
        ----------
        ended
        codes
            That it may have ended with, beside 0.
        is_over
            Whether that it ended by itself says that all was read, and nothing else runs.
        """
        self._judge_told(ended)
        if _has_read_all(ended):
            self.notes.append("ended")
            if is_over:
                self.check()
        elif ended.code in codes or _is_overloaded(ended):
            self.notes.append(f"ended {ended.code}")
            self.refusals.append(f"{ended.code} {kind_of(_message(ended))}")
            self._judge_line(ended)
        else:
            self.problem(f"ended with {ended.code}, hung: {ended.hung}: {ended.told[-800:]}")

    def check(self, *, with_redis: bool = False) -> None:
        """Compare what there is with the truth, and what Redis holds with that."""
        self.place.input.read_by_now()
        try:
            self.problems += self.place.problems()
            if with_redis:
                self.problems += self.place.problems_of_redis()
        except Exception as error:
            self.problem(f"what there is cannot be read: {error!r}")

    def problem(self, what: str) -> None:
        self.problems.append(what)

    def pause(self, longest: float) -> None:
        """Let a run at work get on for a random while."""
        time.sleep(self.rng.uniform(0, longest))

    def _judge_refused(self, ended: Ended) -> None:
        self._judge_told(ended)
        if ended.code not in REFUSED:
            self.problem(f"ended with {ended.code}, hung: {ended.hung}: {ended.told[-800:]}")
            return
        self._judge_line(ended)
        self.notes.append(f"refused {ended.code}: {_message(ended)[:160]}")
        self.refusals.append(f"{ended.code} {kind_of(_message(ended))}")

    def _judge_unchanged(self, before: dict[Path, bytes | None], redis: dict[bytes, bytes]) -> None:
        after = contents(self.place.workdir)
        changed = [
            str(path.relative_to(self.place.workdir))
            for path in before.keys() | after.keys()
            if before.get(path) != after.get(path)
        ]
        changed = sorted(name for name in changed if not name.startswith(TOUCHABLE))
        if changed:
            self.problem(f"refused, and has changed {', '.join(changed[:4])} ({len(changed)})")
        if self.place.redis_contents() != redis:
            self.problem("refused, and has changed what Redis holds")

    def _judge_told(self, ended: Ended) -> None:
        told = _LEFT_BEHIND.sub("", ended.told)
        traces = [trace for trace in _TRACES if trace in told]
        if traces and not _is_overloaded(ended):
            self.problem(f"code {ended.code}, a trace: {ended.told[-1500:]}")

    def _judge_line(self, ended: Ended) -> None:
        errors = [line for line in ended.told.splitlines() if line.startswith("error: ")]
        if len(errors) != 1:
            self.problem(
                f"code {ended.code}, and {len(errors)} lines of error: {ended.told[-800:]}"
            )


def _has_read_all(ended: Ended) -> bool:
    """Return whether a run has ended by itself, with all of its rows or labels dead or not."""
    all_dead = ended.code == ALL_DEAD and _ALL_DEAD.search(ended.told) is not None
    return ended.code == DONE or all_dead


def _is_overloaded(ended: Ended) -> bool:
    return ended.code != DONE and _OVERLOADED in ended.told


def kind_of(message: str) -> str:
    """Return a message without what differs from run to run."""
    return _PARTS.sub("*", message)[:90]


def _message(ended: Ended) -> str:
    lines = [line for line in ended.told.splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else ended.told[-200:]
