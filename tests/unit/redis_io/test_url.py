"""A Redis URL is checked before it is used, and shown without its password."""

from __future__ import annotations

import pytest

from app.errors import InvalidParameterError
from app.redis_io.url import check_redis_url, has_password, without_password
from app.registry.redis_store import RedisVersionStore

SECRET = "hunter2"

WITH_PASSWORD = [
    f"redis://learner:{SECRET}@cache:6380/1",
    f"redis://:{SECRET}@cache",
    f"rediss://learner:{SECRET}@cache",
    f"redis://learner:p@{SECRET}@cache",
    f"redis://cache/0?password={SECRET}",
    f"unix://learner:{SECRET}@/run/redis.sock",
    f"unix:///run/redis.sock?db=1&password={SECRET}",
    f"redis://learner:12/{SECRET}@cache:6380/1",
    f"redis://learner:12#{SECRET}@cache:6380/1",
    f"redis://learner:12?{SECRET}@cache:6380/1",
]
WITHOUT_PASSWORD = [
    "redis://cache",
    "redis://cache:6380/1",
    "redis://learner@cache",
    "redis://[::1]:6379/0",
    "rediss://cache/0?ssl_ca_certs=/etc/ssl/cache.pem",
    "unix:///run/redis.sock",
]


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_shown_url_has_no_password(url):
    assert SECRET not in without_password(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://learner:pw@cache:6380/1", "redis://cache:6380/1"),
        ("rediss://cache", "rediss://cache"),
        ("redis://:pw@[::1]:6379", "redis://[::1]:6379"),
        ("redis://cache?socket_timeout=5", "redis://cache"),
        ("unix://learner:pw@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_shown_url_names_the_server(url, shown):
    assert without_password(url) == shown


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_password_is_noticed(url):
    assert has_password(url)


@pytest.mark.parametrize("url", WITHOUT_PASSWORD)
def test_no_password_is_noticed_where_there_is_none(url):
    assert not has_password(url)


@pytest.mark.parametrize(
    "url",
    [
        *WITHOUT_PASSWORD,
        "redis://learner:p%2Fw@cache:6380/1?socket_timeout=5",
        "redis://:p%40w%23%3F@cache",
        "unix://learner:pw@/run/redis.sock?db=1",
    ],
)
def test_usable_url_is_taken(url):
    check_redis_url(url)
    RedisVersionStore(url, "m").close()


UNUSABLE = [
    "",
    "cache",
    "cache:6379",
    "//cache:6379",
    f"http://learner:{SECRET}@cache:6379",
    "redis:",
    "redis://",
    "redis:///0",
    f"redis://:{SECRET}@",
    "redis://cache:port",
    "redis://cache:65536",
    "redis://[::1",
    f"redis://learner:{SECRET}/w@cache",
    f"redis://learner:12/{SECRET}@cache:6380/1",
    f"redis://learner:12#{SECRET}@cache:6380/1",
    f"redis://learner:12?{SECRET}@cache:6380/1",
    f"redis://{'x' * 64}.example",
    "REDIS://cache",
    " redis://cache",
    "unix:/run/redis.sock",
]


@pytest.mark.parametrize("url", UNUSABLE)
def test_unusable_url_is_refused_and_not_shown(url):
    with pytest.raises(InvalidParameterError, match="^redis_url must look like") as caught:
        RedisVersionStore(url, "m")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["cache", "redis://cache/0?nonsense=1"])
def test_url_is_refused_under_the_name_of_its_setting(url):
    with pytest.raises(InvalidParameterError, match="^executor_redis_url") as caught:
        check_redis_url(url, "executor_redis_url")
    assert caught.value.name == "executor_redis_url"


@pytest.mark.parametrize(
    "url", ["redis://cache/0?socket_timeout=soon", "redis://cache/0?nonsense=1"]
)
def test_option_that_the_client_does_not_take_is_refused_as_a_setting(url):
    with pytest.raises(InvalidParameterError, match="^redis_url has an option"):
        RedisVersionStore(url, "m")
