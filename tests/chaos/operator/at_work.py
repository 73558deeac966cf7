"""Moves that do something while a run is at work."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import redis

from app.cli.main import cli
from app.config.run import EXIT, TAKEOVER, WAIT
from tests.chaos.operator.faults import damage_file, files_of
from tests.chaos.operator.keys import KEY_FAULTS
from tests.chaos.operator.place import SERVER
from tests.chaos.operator.step import IN_USE, STOPPED, TAKEN_OVER, Step
from tests.chaos.operator.worker import Worker, wait_for
from tests.chaos.replays import epochs

_ROWS = 70


def _append(step: Step) -> None:
    step.place.input.append(_ROWS)


def _until_claimed(step: Step, worker: Worker) -> bool:
    """Wait until a run may be told to end; tell whether it still runs."""
    return wait_for(worker, lambda: list(step.place.workdir.glob(".runs/[0-9]*")))


def _until_batch(step: Step, worker: Worker, more: int = 1) -> bool:
    before = step.place.batches()
    return wait_for(worker, lambda: step.place.batches() >= before + more)


def _until_learner(step: Step, worker: Worker, before: int) -> bool:
    return wait_for(worker, lambda: epochs(step.place.workdir) > before)


def _somewhere(step: Step, worker: Worker, before: int) -> None:
    """Let a run get on to a random place: its start, its first batch, or a later one."""
    where = step.rng.choice(["start", "learner", "batch"])
    step.notes.append(f"in its {where}")
    if where == "learner":
        _until_learner(step, worker, before)
    elif where == "batch":
        _until_batch(step, worker)
    step.pause(1.5)


def sigterm(step: Step) -> None:
    _append(step)
    before = epochs(step.place.workdir)
    with step.at_work() as worker:
        if _until_claimed(step, worker):
            _somewhere(step, worker, before)
            worker.terminate()
        step.judge_ended(worker.wait(), STOPPED, is_over=True)
    step.finish()


def sigterm_before_the_query(step: Step) -> None:
    _append(step)
    with step.at_work() as worker:
        if _until_claimed(step, worker):
            worker.terminate()
        step.judge_ended(worker.wait(), STOPPED, is_over=True)
    step.finish()


def sigkill(step: Step) -> None:
    _append(step)
    before = epochs(step.place.workdir)
    with step.at_work() as worker:
        _somewhere(step, worker, before)
        worker.kill()
    step.finish()


def sigkill_twice(step: Step) -> None:
    """Killed, and killed again in the batch that is tried again."""
    _append(step)
    for _ in range(2):
        before = epochs(step.place.workdir)
        with step.at_work() as worker:
            if _until_learner(step, worker, before):
                step.pause(1.0)
            worker.kill()
    step.finish()


def jvm_killed(step: Step) -> None:
    _append(step)
    with step.at_work() as worker:
        if _until_batch(step, worker):
            step.pause(0.5)
            worker.kill_jvm()
        step.judge_ended(worker.wait(), 1, is_over=True)
        worker.kill()
    step.finish()


def two_at_once(step: Step, if_running: str) -> None:
    """A second run begins while one is at work."""
    _append(step)
    first, second = step.pool.take(2)
    with step.at_work():
        if _until_claimed(step, first):
            step.pause(3.0)
        arguments = step.place.arguments({"if-running": if_running})
        second.start(arguments)
        ends = second.wait(), first.wait()
        step.judge_ended(ends[0], *([IN_USE] if if_running == EXIT else []))
        step.judge_ended(ends[1], *([TAKEN_OVER, STOPPED] if if_running == TAKEOVER else []))
    step.finish()


def keys_at_work(step: Step) -> None:
    """Several things happen to Redis."""
    _append(step)
    with step.at_work() as worker, step.place.client() as client:
        _until_batch(step, worker)
        for name in step.rng.sample(list(KEY_FAULTS), 4):
            step.pause(0.6)
            try:
                KEY_FAULTS[name](client, step.rng)
            except (redis.RedisError, IndexError, TypeError, ValueError, AttributeError):
                # What an earlier fault has left is no model's any more.
                continue
            step.notes.append(name)
        step.judge_ended(worker.wait(), 1, is_over=True)
    step.finish()


def flushall(step: Step) -> None:
    _append(step)
    with step.at_work() as worker, step.place.client() as client:
        _until_batch(step, worker)
        for _ in range(3):
            step.pause(0.8)
            client.flushall()
        step.judge_ended(worker.wait(), is_over=True)
    step.finish()


def files_lost(step: Step) -> None:
    """What can be made again is lost or damaged."""
    _append(step)
    faults = []
    with step.at_work() as worker:
        _until_batch(step, worker)
        for target in step.rng.sample(["snapshot", "HEAD.json", "snapshot"], 2):
            step.pause(0.7)
            how = step.rng.choice(["remove", "cut", "garbage"])
            if paths := files_of(step.place.workdir, target):
                try:
                    faults.append(damage_file(step.place.workdir, paths[-1], how, step.rng))
                except FileNotFoundError:
                    # The run was first.
                    continue
                step.notes.append(faults[-1].what)
        step.judge_ended(worker.wait(), 1, is_over=True)
    step.finish()


def rollback(step: Step) -> None:
    """A rollback to a random version while a run is at work."""
    _append(step)
    versions = [int(path.name[1:11]) for path in files_of(step.place.workdir, "snapshot")]
    arguments = ["rollback", "--workdir", str(step.place.workdir), "--json"]
    arguments += ["--to", str(step.rng.choice(versions))]
    if step.place.server is not None:
        arguments += ["--redis-url", step.place.server.url]
    _beside(step, arguments)


def compact(step: Step) -> None:
    """Files are brought together while a run is at work."""
    _append(step)
    if "compact" not in cli.commands:
        step.notes.append("there is no such command")
        step.finish()
        return
    arguments = ["compact", "--workdir", str(step.place.workdir)]
    if step.place.server is not None and any(
        parameter.name == "redis_url" for parameter in cli.commands["compact"].params
    ):
        arguments += ["--redis-url", step.place.server.url]
    _beside(step, arguments)


def _beside(step: Step, arguments: list[str]) -> None:
    """Run another command while a run is at work."""
    first, second = step.pool.take(2)
    step.notes.append(arguments[0])
    with step.at_work():
        if _until_batch(step, first):
            step.pause(1.5)
        second.start(arguments)
        ended = second.wait()
        # Between two runs it may find that one has only just begun or ended.
        step.judge_ended(ended, IN_USE)
        if arguments[0] == "rollback" and ended.code == 0:
            found = re.search(r"\{.*\}", ended.out)
            version = json.loads(found[0])["version"] if found else None
            step.notes.append(f"made version {version}")
        step.judge_ended(first.wait())
    step.finish()


MOVES: dict[str, tuple[Callable[[Step], None], tuple[str, ...], float]] = {
    "SIGTERM": (sigterm, (), 2.0),
    "SIGTERM before the query is up": (sigterm_before_the_query, (), 1.0),
    "SIGKILL": (sigkill, (), 2.0),
    "SIGKILL twice": (sigkill_twice, (), 0.5),
    "JVM killed": (jvm_killed, (), 0.7),
    "two at once, exit": (lambda step: two_at_once(step, EXIT), (), 1.0),
    "two at once, wait": (lambda step: two_at_once(step, WAIT), (), 1.0),
    "two at once, takeover": (lambda step: two_at_once(step, TAKEOVER), (), 1.5),
    "keys of Redis": (keys_at_work, (SERVER,), 2.0),
    "FLUSHALL": (flushall, (SERVER,), 1.0),
    "snapshots lost": (files_lost, (), 1.0),
    "rollback": (rollback, (), 1.0),
    "compact": (compact, (), 1.0),
}
