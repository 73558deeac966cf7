"""The short form of the state machine over the loop and the registry."""

from __future__ import annotations

from app.registry.embedded import EmbeddedRedis
from tests.chaos.registry_machine import run


def test_no_order_of_commits_deaths_and_losses_loses_a_batch_or_counts_one_twice():
    with EmbeddedRedis() as server:
        happened = run(server.url, runs=40, steps=40)
    # What the runs met is what they are for.
    assert (
        min(
            happened[what]
            for what in ("batches finished", "deaths", "zombies refused", "races lost")
        )
        > 0
    ), happened
