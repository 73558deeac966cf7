"""Any order of commits, deaths, lost races, zombies, rollbacks, losses and forgeries of Redis.

A state machine over the real loop, registry, redis-server and files. Its model of
what must hold is small: each version holds the rows of the version it stands on,
and those of one batch more; each batch that came to its end is one version's.

``python -m tests.chaos.registry_machine`` is the long form.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import safetensors.numpy
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.errors import (
    DamagedRecordError,
    ModelNotFoundError,
    RegistryError,
    StaleLearnerError,
)
from app.redis_io.embedded import EmbeddedRedis
from app.registry.version import ModelVersion
from app.registry.version_log import HEAD_FILE
from tests.chaos.forgeries import Forgeries
from tests.chaos.processes import (
    ALL_STOPS,
    METADATA,
    RETENTION,
    Learner,
    Place,
    Process,
    Rollback,
    first_state,
    rows_of,
)

QUERIES = ("q1", "q2", "q3")

FIELDS = [*(field.name for field in dataclasses.fields(ModelVersion)), "checksum", "record_sha256"]

queries = st.sampled_from(QUERIES)
# More often about the commit, where it matters.
stops = st.sampled_from(["commit", "publish", "append", *ALL_STOPS])
indexes = st.integers(0, 20)
few = st.integers(0, 3)
damages = st.sampled_from([b"", b"0", b"999999", b"null", b"[]", b"\xff", None])

# A file system in memory, where there is one: a process dies here, and never the machine.
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Finalized:
    """A version in the version log, and the rows that it must hold."""

    text: bytes
    record: dict
    rows: list[int]


class RegistryMachine(Forgeries, RuleBasedStateMachine):
    """One model, its learners, and everything that may happen to them."""

    url = ""
    happened: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
        self.place = Place(self.url, self.root / "snapshots")
        self.place.happened = self.happened
        self.learners: dict[str, Learner] = {}
        self.others: list[Process] = []
        self.observer = self.place.open()
        self.dumps: list[dict[bytes, bytes]] = []
        self.finalized: list[Finalized] = []
        self.finished: dict[str, int] = dict.fromkeys(QUERIES, 0)
        self.forged: set[str] = set()
        self.harmed: set[str] = set()
        self.outside = self.root / "outside"
        self.outside.touch()

    def teardown(self) -> None:
        for process in (*self.learners.values(), *self.others):
            process.kill()
        self.place.close()
        shutil.rmtree(self.root)

    @initialize(turns=st.lists(st.integers(0, 1), max_size=8))
    def two_create_the_model(self, turns: list[int]) -> None:
        creators = [Process(self.place), Process(self.place)]
        for creator in creators:
            creator.begin(
                lambda registry=creator.registry: registry.create(first_state(), METADATA)
            )
        for turn in turns:
            if creators[turn].at is not None:
                creators[turn].step()
        for creator in creators:
            creator.run()
            assert creator.error is None, creator.error

    @rule(query=queries)
    def finish_a_batch(self, query: str) -> None:
        self.run(self.learner(query))

    @rule(query=queries, before=stops)
    def run_a_batch(self, query: str, before: str) -> None:
        self.run(self.learner(query), before)

    @rule(query=queries)
    def step(self, query: str) -> None:
        learner = self.learner(query)
        if learner.at is not None:
            learner.step()
            self.note(learner)

    @rule(query=queries, before=stops, back=few)
    def die(self, query: str, before: str, back: int) -> None:
        """Die after a step, maybe along with Redis; whoever is next does the batch again."""
        learner = self.learner(query)
        self.run(learner, before)
        learner.kill()
        self.redis_goes_back(back)
        self.happened["deaths"] += 1

    @rule(query=queries, before=stops, back=few, then=stops)
    def overtake(self, query: str, before: str, back: int, then: str) -> None:
        """Start a second learner on a checkpoint while the first is at work: a zombie."""
        zombie = self.learner(query)
        self.run(zombie, before)
        if zombie.at is not None:
            del self.learners[query]
            self.others.append(zombie)
            self.redis_goes_back(back)
            self.run(self.learner(query), then)
            self.happened["zombies"] += 1

    @rule(query=queries)
    def lose_the_next_reply(self, query: str) -> None:
        self.learner(query).loses_a_reply = True

    @rule(index=indexes, stops=st.lists(stops, min_size=1, max_size=2))
    def roll_back(self, index: int, stops: list[str]) -> None:
        """Let one or two roll back to one version."""
        kept = [
            v for v, finalized in enumerate(self.finalized) if self.snapshot(finalized).exists()
        ]
        for before in stops:
            rollback = Rollback(self.place)
            self.others.append(rollback)
            rollback.begin_to(kept[index % len(kept)])
            self.run(rollback, before)

    @rule(before=stops)
    def recover_in_part(self, before: str) -> None:
        bystander = Process(self.place)
        self.others.append(bystander)
        bystander.begin(bystander.registry.recover)
        self.run(bystander, before)

    @precondition(lambda self: self.others)
    @rule(index=indexes, before=stops)
    def others_go_on(self, index: int, before: str) -> None:
        self.run(self.others[index % len(self.others)], before)

    @precondition(lambda self: self.others)
    @rule(index=indexes)
    def others_finish(self, index: int) -> None:
        self.run(self.others[index % len(self.others)])

    @rule()
    def recover(self) -> None:
        registry = self.place.open()
        try:
            record, stored = registry.recover_state()
        except RegistryError as error:
            if not self.is_refusal(error):
                raise
            record, stored = registry.recover_state()
        assert stored.metadata["classes"] == METADATA["classes"]
        assert record == registry.store.read() == registry.versions.newest()
        state = safetensors.numpy.load(registry.store.read_state(record.version))
        self.check_version_log()
        assert state["rows"].tolist() == self.finalized[-1].rows

    @rule(what=st.sampled_from(["*", "head", "epoch:*", "state:*"]))
    def redis_loses(self, what: str) -> None:
        self.place.lose(what)

    @rule(back=indexes)
    def redis_goes_back(self, back: int) -> None:
        """Redis comes back from an older dump, or a replica that lagged takes over."""
        if back:
            self.place.restore(self.dumps[-back % len(self.dumps)])

    @rule(back=indexes, query=queries, before=stops, dies=st.booleans())
    def redis_fails_over_and_back(self, back: int, query: str, before: str, dies: bool) -> None:
        """A replica that lagged takes over for a while; what was written to it then is lost."""
        present = self.place.contents()
        self.redis_goes_back(back)
        if dies and query in self.learners:
            self.learners[query].kill()
        self.run(self.learner(query), before)
        self.place.restore(present)

    @rule(name=st.sampled_from(FIELDS), damage=damages)
    def damage_the_record(self, name: str, damage: bytes | None) -> None:
        key = self.place.key("head")
        if damage is None:
            if self.place.redis.type(key) == b"hash":
                self.place.redis.hdel(key, name)
        elif self.place.redis.type(key) == b"hash":
            self.place.redis.hset(key, name, damage)

    @invariant()
    def check(self) -> None:
        self.dumps.append(self.place.contents())
        self.check_version_log()
        self.check_batches()
        self.check_redis()

    def check_version_log(self) -> None:
        """No version changes or is left out, each stands on the one before, and is whole."""
        paths = self.place.records()
        assert [int(path.stem) for path in paths] == list(range(len(paths)))
        texts = [path.read_bytes() for path in paths]
        assert texts[: len(self.finalized)] == [finalized.text for finalized in self.finalized]
        for text in texts[len(self.finalized) :]:
            record = json.loads(text)
            assert record["version"] == len(self.finalized)
            published = self.place.published.get(record["commit"])
            assert record["version"] == 0 or record.items() >= published.items()
            assert record["parent"] == (
                self.finalized[-1].record["commit"] if self.finalized else ""
            )
            self.finalized.append(Finalized(text, record, self.rows_after(record["origin"])))
        newest = len(self.finalized) - 1
        for version, finalized in enumerate(self.finalized):
            if RETENTION.keeps(version, newest):
                self.assert_sound(finalized.record, finalized.rows)
        assert self.outside.exists()
        path = self.place.directory / HEAD_FILE
        if path.exists():
            current = json.loads(path.read_bytes())
            assert current == self.finalized[current["version"]].record

    def check_batches(self) -> None:
        """Each batch that came to its end was learned once, no batch twice, all in order."""
        for query in QUERIES:
            origins = [finalized.record["origin"] for finalized in self.finalized]
            learned = [origin["batch"] for origin in origins if origin.get("query") == query]
            assert learned == list(range(len(learned)))
            assert len(learned) >= self.finished[query]
        newest = self.finalized[-1].rows
        assert len(set(newest)) == len(newest)

    def check_redis(self) -> None:
        """What Redis says is a version, or the one that is about to become the newest."""
        try:
            record = self.observer.store.read()
        except DamagedRecordError:
            return
        if record is None or record.commit in self.forged:
            return
        data = self.observer.store.read_state(record.version)
        if data is None or data == b"text":
            return
        if record.version == len(self.finalized):
            assert record.parent == self.finalized[-1].record["commit"]
            assert rows_in(data) == self.rows_after(record.origin)
        else:
            assert record.version < len(self.finalized)
            if record.commit == self.finalized[record.version].record["commit"]:
                assert rows_in(data) == self.finalized[record.version].rows

    def rows_after(self, origin: dict) -> list[int]:
        """Return the rows of the version that ``origin`` makes of the newest finalized one."""
        if origin["kind"] == "batch":
            return self.finalized[-1].rows + rows_of(origin["query"], origin["batch"])
        return self.finalized[origin["to"]].rows if origin["kind"] == "rollback" else []

    def snapshot(self, finalized: Finalized) -> Path:
        return self.place.directory / finalized.record["snapshot"]

    def learner(self, query: str) -> Learner:
        """Return the newest learner of a query, at work on its next batch."""
        self.others = [process for process in self.others if process.at is not None]
        learner = self.learners.get(query)
        if learner is None or not learner.alive:
            learner = self.learners[query] = Learner(self.place, query, self.finished[query])
        if learner.at is None:
            learner.begin_batch()
            self.note(learner)
        return learner

    def run(self, process: Process, until: str | None = None) -> None:
        if process.at is not None:
            process.run(until)
            self.note(process)

    def note(self, process: Process) -> None:
        """Take note of how a call ended, if it has."""
        if process.at is not None:
            return
        if isinstance(process.error, StaleLearnerError):
            assert process is not self.learners.get(process.query), (
                "the newest learner is no zombie"
            )
            self.happened["zombies refused"] += 1
        elif self.is_refusal(process.error):
            pass
        elif isinstance(process.error, ModelNotFoundError) and self.outlasted(process):
            self.happened["snapshots gone before they were read"] += 1
        elif process.error is not None:
            raise process.error
        elif isinstance(process, Learner):
            process.batch += 1
            self.finished[process.query] = max(self.finished[process.query], process.batch)
            self.happened["batches finished"] += 1

    def outlasted(self, process: Process) -> bool:
        """Tell whether a call took so long that its version was not kept for it."""
        return len(self.place.records()) - process.versions_at_begin >= RETENTION.newest


def rows_in(data: bytes) -> list[int]:
    return safetensors.numpy.load(data)["rows"].tolist()


def machine_at(url: str) -> type[RegistryMachine]:
    """Return the machine for a redis-server, with a count of its own of what happens."""
    return type("RegistryMachine", (RegistryMachine,), {"url": url, "happened": Counter()})


def run(url: str, runs: int, steps: int, seed: int | None = None) -> Counter[str]:
    """Do so many runs, print the shortest that fails, and return what happened in them."""
    machine = machine_at(url)
    if seed is not None:
        machine = hypothesis.seed(seed)(machine)
    settings = hypothesis.settings(
        max_examples=runs,
        stateful_step_count=steps,
        derandomize=seed is None,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=settings)
    return machine.happened


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.registry_machine", description=__doc__
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=40, help="at most, in each run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    started = time.monotonic()
    with EmbeddedRedis() as server:
        happened = run(server.url, options.runs, options.steps, options.seed)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(happened.items()))
    print(f"registry: {counts}, in {time.monotonic() - started:.0f} s: nothing lost, nothing twice")
    return 0


if __name__ == "__main__":
    sys.exit(main())
