"""A job that no executor has a core for does not wait in silence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from app.streaming.spark.runtime import wants_core
from app.streaming.spark.waiting import waits_told
from tests.waiting import wait_until

# Task sets that are to be run, and how many tasks run.
IDLE, WAITING, RUNNING = ([], 0), (["tasks"], 0), (["tasks"], 2)


class Spark:
    """Stands in for a session, and for what its scheduler is asked."""

    def __init__(self, state) -> None:
        self.state = state
        self.asked = 0
        scheduler = SimpleNamespace(rootPool=lambda: self)
        context = SimpleNamespace(taskScheduler=lambda: scheduler)
        self.sparkContext = SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: context))

    def runningTasks(self) -> int:
        self.asked += 1
        if self.state is None:
            raise ConnectionRefusedError
        return self.state[1]

    def getSortedTaskSetQueue(self):
        return SimpleNamespace(isEmpty=lambda: not self.state[0])


@pytest.mark.parametrize(("state", "wants"), [(IDLE, False), (WAITING, True), (RUNNING, False)])
def test_a_core_is_wanted_when_tasks_wait_and_none_runs(state, wants):
    assert wants_core(Spark(state)) is wants


def test_each_wait_is_told_once_and_so_is_its_end():
    spark, told = Spark(WAITING), []

    def wait(messages: int) -> None:
        spark.state = WAITING
        wait_until(lambda: len(told) == messages + 1, "the wait is told")
        asked = spark.asked
        wait_until(lambda: spark.asked > asked + 5, "it goes on")
        spark.state = RUNNING
        wait_until(lambda: len(told) == messages + 2, "its end is told")

    with waits_told(spark, told.append, patience_seconds=0.003, poll_seconds=0.001):
        wait(0)
        wait(2)
    assert [message.partition(";")[0] for message in told] == [
        "no executor has a free core",
        "an executor has a free core",
    ] * 2


@pytest.mark.parametrize("state", [IDLE, RUNNING])
def test_nothing_is_told_of_a_run_that_does_not_wait(state):
    spark, told = Spark(state), []
    with waits_told(spark, told.append, patience_seconds=0.001, poll_seconds=0.001):
        wait_until(lambda: spark.asked > 5, "Spark is asked")
    assert told == []


def test_a_short_wait_is_not_worth_a_word():
    spark, told = Spark(WAITING), []
    with waits_told(spark, told.append, patience_seconds=60.0, poll_seconds=0.001):
        wait_until(lambda: spark.asked > 5, "Spark is asked")
    assert told == []


def test_the_end_of_spark_ends_the_watch_without_a_word():
    spark, told = Spark(None), []
    with waits_told(spark, told.append, poll_seconds=0.001):
        wait_until(lambda: spark.asked, "Spark is asked")
    assert (spark.asked, told) == (1, [])
