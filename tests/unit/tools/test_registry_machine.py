"""The state machine over the loop and the registry: its short form, and orders it once found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.registry_machine import RegistryMachine, machine_at, run


def test_no_order_of_commits_deaths_and_losses_loses_a_batch_or_counts_one_twice(server):
    happened = run(server.url, runs=40, steps=40)

    # What the runs met is what they are for.
    for what in (
        *("batches finished", "deaths", "replies lost", "races lost", "zombies refused"),
        *("records forged", "forgeries refused", "snapshots harmed"),
    ):
        assert happened[what] > 0, happened


@pytest.fixture
def machine(server) -> Iterator[RegistryMachine]:
    """Return a machine whose model is at version 1, which learned the first batch of q1."""
    machine = machine_at(server.url)()
    machine.two_create_the_model(turns=[])
    machine.finish_a_batch("q1")
    machine.check()
    yield machine
    machine.check()
    machine.recover()
    machine.teardown()


def newest(machine: RegistryMachine) -> int:
    machine.check()
    return len(machine.finalized) - 1


@pytest.mark.parametrize("turns", [[], [0], [1], [0, 1], [1, 1], [1, 0, 1, 0]])
def test_two_that_create_a_model_at_once_share_its_snapshot(server, turns):
    machine = machine_at(server.url)()
    machine.two_create_the_model(turns=turns)
    machine.check()
    machine.redis_loses("*")
    machine.recover()
    machine.teardown()


def test_commit_that_comes_back_with_redis_is_not_learned_again(machine):
    machine.die("q1", "append", back=0)
    machine.check()
    machine.redis_loses("*")
    machine.run_a_batch("q1", "publish")
    machine.redis_goes_back(1)
    machine.finish_a_batch("q1")

    assert newest(machine) == 2


@pytest.mark.parametrize("then", ["commit", "publish"])
def test_commit_that_a_zombie_finalizes_is_not_learned_again(machine, then):
    machine.overtake("q1", "append", back=1, then=then)
    machine.others_finish(0)
    machine.finish_a_batch("q1")

    assert newest(machine) == 2


def test_zombie_is_refused_by_a_redis_that_went_back_to_its_epoch(machine):
    machine.run_a_batch("q1", "commit")
    machine.check()
    machine.overtake("q1", "commit", back=0, then="commit")
    machine.redis_goes_back(1)
    machine.others_finish(0)

    assert newest(machine) == 1
    machine.finish_a_batch("q1")
    assert newest(machine) == 2


def test_state_that_redis_lost_before_it_was_finalized_is_given_back_to_it(machine):
    machine.die("q1", "append", back=0)
    machine.redis_loses("state:*")
    machine.recover()

    assert newest(machine) == 2


def test_bystander_accepts_that_what_it_saw_was_undone(machine):
    machine.die("q1", "append", back=0)
    machine.recover_in_part("append")
    machine.redis_loses("*")
    machine.finish_a_batch("q2")
    machine.others_finish(0)

    assert newest(machine) == 2
    assert machine.finalized[2].record["origin"]["query"] == "q2"


def test_bystander_that_comes_too_late_to_restore_returns_the_newest_version(machine):
    machine.redis_loses("*")
    machine.recover_in_part("restore")
    bystander = machine.others[0]
    machine.finish_a_batch("q1")
    machine.run(bystander)

    assert bystander.result.version == newest(machine) == 2


def test_commit_whose_reply_was_lost_stands_though_others_built_on_it(machine):
    machine.lose_the_next_reply("q1")
    machine.run_a_batch("q1", "another try")
    machine.finish_a_batch("q2")
    machine.finish_a_batch("q1")

    assert newest(machine) == 3
    assert [finalized.record["origin"]["query"] for finalized in machine.finalized[2:]] == [
        "q1",
        "q2",
    ]


def test_two_that_roll_back_to_one_version_share_no_snapshot_to_lose(machine):
    machine.roll_back(0, ["append", "publish"])
    machine.others_finish(1)
    machine.others_finish(0)
    machine.redis_loses("*")
    machine.recover()

    assert newest(machine) == 3


def test_learner_of_another_query_that_loses_the_race_learns_on_top_of_the_winner(machine):
    machine.run_a_batch("q2", "commit")
    machine.finish_a_batch("q3")
    machine.finish_a_batch("q2")

    assert newest(machine) == 3
    assert machine.happened["races lost"] > 0


def test_commit_whose_record_was_forged_is_refused_and_its_batch_learned_again(machine):
    machine.die("q1", "append", back=0)
    machine.forge_what_was_learned("q1", 20)
    machine.recover()
    machine.finish_a_batch("q1")

    assert machine.happened["forgeries refused"] == 1
    assert newest(machine) == 2


def test_learner_at_work_refuses_a_later_version_that_was_forged(machine):
    machine.run_a_batch("q1", "commit")
    machine.forge_a_later_version(5, follows=False)
    machine.finish_a_batch("q1")
    machine.finish_a_batch("q1")

    assert machine.happened["forgeries refused"] == 1
    assert newest(machine) == 2


@pytest.mark.parametrize("how", ["removed", "emptied", "flipped"])
def test_newest_snapshot_is_made_again_from_the_rows(machine, how):
    machine.finish_a_batch("q2")
    machine.harm_the_newest_snapshot(how)
    machine.redis_loses("*")
    machine.recover()
    machine.check()

    assert not machine.harmed
    assert newest(machine) == 2
