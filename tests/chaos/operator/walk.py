"""The walk: which steps are done in which places, and what came of them."""

from __future__ import annotations

import itertools
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.operator.moves import MOVES
from tests.chaos.operator.place import EMBEDDED, LIVE, REPLAY, SERVER, Place, Spec
from tests.chaos.operator.step import Step
from tests.chaos.operator.worker import Pool

STEPS_OF_A_PLACE = 12
SPECS = (
    Spec(REPLAY, SERVER),
    Spec(LIVE, SERVER),
    Spec(LIVE, EMBEDDED, "rocksdb", "before1970"),
    Spec(REPLAY, EMBEDDED),
    Spec(LIVE, EMBEDDED),
    Spec(REPLAY, SERVER, era="before1970"),
    Spec(LIVE, SERVER, "rocksdb"),
    Spec(LIVE, EMBEDDED, era="before1970"),
    Spec(REPLAY, EMBEDDED, era="straddling"),
    Spec(LIVE, SERVER, era="straddling"),
)


@dataclass(frozen=True)
class Visit:
    """A place, and the steps that are done in it, by number.

    Attributes
    ----------
    spec
    steps
        Names of :data:`MOVES`.
    """

    spec: Spec
    steps: dict[int, str]

    @classmethod
    def parse(cls, text: str) -> Visit:
        """Return what :meth:`__str__` has written."""
        spec, *steps = (part.strip() for part in text.split(";"))
        numbered = (step.partition(" ") for step in steps)
        return cls(Spec.parse(spec), {int(number): name for number, _, name in numbered})

    def __str__(self) -> str:
        return "; ".join([str(self.spec), *(f"{n} {name}" for n, name in self.steps.items())])


def planned(seed: int, steps: int) -> list[Visit]:
    """Return visits with so many steps, or a few more: each move is among them at least once."""
    rng = random.Random(seed)
    missing = list(MOVES)
    rng.shuffle(missing)
    specs = itertools.cycle(SPECS)
    visits: list[Visit] = []
    number = 0
    while number < steps or missing:
        spec = next(specs)
        suiting = [name for name, move in MOVES.items() if move.suits(spec)]
        weights = [MOVES[name].weight for name in suiting]
        visit = Visit(spec, {})
        for _ in range(STEPS_OF_A_PLACE):
            wanted = [name for name in missing if MOVES[name].suits(spec)]
            if number >= steps and not wanted:
                break
            # While there is time, chance has its part.
            hurry = len(missing) * 2 > steps - number
            if wanted and (hurry or rng.random() < 0.6):
                name = wanted[0]
                missing.remove(name)
            else:
                name = rng.choices(suiting, weights)[0]
            number += 1
            visit.steps[number] = name
        if visit.steps:
            visits.append(visit)
    return visits


@dataclass
class Walk:
    """Visits one place after another.

    Parameters
    ----------
    root
        Where everything lies meanwhile.
    seed
    workers
        Processes that are kept; one is started when another was killed.
    say
        Is given each line of the report.

    Attributes
    ----------
    steps, refusals
        Counted by name of the move, and by kind of message.
    repairs
    problems
        With the visit that shows each.
    """

    root: Path
    seed: int
    workers: int = 2
    say: Callable[[str], None] = lambda line: print(line, flush=True)
    steps: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    repairs: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool = Pool(self.root, self.workers)

    def visit(self, visit: Visit) -> None:
        """Do the steps of a visit, up to the first that shows a problem."""
        first = min(visit.steps)
        place = Place(self.root / f"place-{first}", visit.spec, self._rng(f"place {first}"))
        try:
            self.say(f"{visit.spec}")
            if not self._step(place, first, "first run", self._begin):
                return
            for number, name in visit.steps.items():
                self.steps[name] += 1
                if not self._step(place, number, name, MOVES[name].act):
                    done = {n: s for n, s in visit.steps.items() if n <= number}
                    self.say(f"    --seed {self.seed} --replay-steps '{Visit(visit.spec, done)}'")
                    return
        finally:
            place.close()

    def close(self) -> None:
        self._pool.close()

    def table(self) -> list[str]:
        """Return what came of all steps."""
        lines = [f"{self.steps.total()} steps, {len(self.steps)} of {len(MOVES)} kinds"]
        lines += [f"  {n:4d} {name}" for name, n in sorted(self.steps.items())]
        lines.append(f"{self.refusals.total()} refusals, {len(self.refusals)} kinds of message")
        lines += [f"  {n:4d} {message}" for message, n in self.refusals.most_common()]
        lines.append(f"{self.repairs} faults without any effect on the outcome")
        lines.append(f"{len(self.problems)} problems")
        lines += [f"  {where}: {what}" for where, what in self.problems]
        return lines

    def _rng(self, of: str) -> random.Random:
        return random.Random(f"{self.seed}/{of}")

    def _begin(self, step: Step) -> None:
        """Make the model, with a few versions and older copies."""
        for _ in range(2):
            step.place.input.append(30)
            step.finish()
            step.place.remember()

    def _step(self, place: Place, number: int, name: str, act: Callable[[Step], None]) -> bool:
        """Do a step and say what came of it; return whether it showed no problem."""
        started = time.monotonic()
        step = Step(place, self._pool, self._rng(str(number)))
        try:
            act(step)
        except Exception:
            step.problem(f"the walk itself failed: {traceback.format_exc()}")
        if not step.problems:
            place.remember()
        self.refusals.update(step.refusals)
        self.repairs += step.repairs
        self.problems += [(f"step {number}, {name}, {place.spec}", p) for p in step.problems]
        shown = "; ".join([*step.notes, *(f"PROBLEM: {p}" for p in step.problems)])
        self.say(f"{number:4d} {name}: {shown} ({time.monotonic() - started:.1f} s)")
        return not step.problems
