"""Waiting for Redis: as long as asked, telling when it begins and when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import redis

from app.errors import (
    DamagedRecordError,
    RegistryError,
    RegistryUnavailableError,
    VersionConflictError,
)
from app.redis_io import retry as retry_module
from app.redis_io.embedded import EmbeddedRedis
from app.redis_io.retry import OutageRetry
from app.registry.redis_store import RedisVersionStore


class Clock:
    """A time that passes by sleeping only."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retry_module, "time", clock)
    return clock


@pytest.fixture
def messages() -> list[str]:
    return []


def failing(times: float, error: Exception | None = None) -> Callable[[], str]:
    """Return an action that fails so many times and then succeeds, counting its calls."""

    def action() -> str:
        action.calls += 1
        if action.calls <= times:
            raise error or RegistryUnavailableError("no Redis")
        return "done"

    action.calls = 0
    return action


def test_action_that_succeeds_is_called_once_and_nothing_is_reported(clock, messages):
    action = failing(0)

    assert OutageRetry(60, messages.append)(action) == "done"
    assert (action.calls, clock.pauses, messages) == (1, [], [])


def test_action_is_repeated_until_it_succeeds(clock, messages):
    action = failing(5)

    assert OutageRetry(60, messages.append)(action) == "done"
    assert action.calls == 6


def test_outage_is_reported_when_it_begins_and_when_it_ends(clock, messages):
    OutageRetry(60, messages.append)(failing(3))

    assert messages == [
        "waiting up to 60 s: no Redis",
        f"Redis is back after {sum(clock.pauses):.1f} s",
    ]


def test_pauses_grow_and_have_an_end(clock, messages):
    OutageRetry(60, messages.append)(failing(12))

    assert clock.pauses == sorted(clock.pauses)
    assert clock.pauses[:3] == [0.05, 0.1, 0.2]
    assert clock.pauses[-1] == 2.0


def test_outage_that_outlasts_the_patience_is_raised(clock, messages):
    with pytest.raises(RegistryUnavailableError, match="no Redis"):
        OutageRetry(30, messages.append)(failing(float("inf")))

    assert 30 < sum(clock.pauses) <= 32
    assert messages == ["waiting up to 30 s: no Redis"]


def test_no_patience_is_one_more_try(clock, messages):
    action = failing(float("inf"))

    with pytest.raises(RegistryUnavailableError):
        OutageRetry(0, messages.append)(action)
    assert action.calls == 2


def test_each_outage_has_the_whole_patience(clock, messages):
    patiently = OutageRetry(30, messages.append)
    for _ in range(3):
        patiently(failing(12))

    assert sum(clock.pauses) > 30
    assert [line.split()[0] for line in messages] == ["waiting", "Redis"] * 3


@pytest.mark.parametrize(
    "error",
    [VersionConflictError("x"), DamagedRecordError("x"), RegistryError("x"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_raised_at_once(clock, messages, error):
    action = failing(1, error)

    with pytest.raises(type(error)):
        OutageRetry(60, messages.append)(action)
    assert (action.calls, clock.pauses, messages) == (1, [], [])


@pytest.mark.redis
@pytest.mark.redis
def test_server_that_refuses_for_a_while_is_waited_for():
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(server.url) as client,
        contextlib.closing(RedisVersionStore(server.url, "m")) as store,
    ):
        client.config_set("maxmemory", 1)
        with pytest.raises(RegistryUnavailableError):
            store.replace_epoch("q", b"", 3)
        messages: list[str] = []

        def free_memory(line: str) -> None:
            messages.append(line)
            client.config_set("maxmemory", 0)

        assert OutageRetry(60, free_memory)(lambda: store.replace_epoch("q", b"", 3))
        assert len(messages) == 2
        assert messages[1].startswith("Redis is back")
