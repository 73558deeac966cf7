"""How long one source of a live stream may lag behind the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.run import StreamSettings
from app.errors import InvalidParameterError


def settings(**changes: float) -> StreamSettings:
    return StreamSettings(workdir=Path("w"), **changes)


@pytest.mark.parametrize(
    ("given", "lag"),
    [
        ({}, 3600.0),
        ({"label_timeout": 60.0}, 3600.0),
        ({"label_timeout": 172_800.0}, 172_800.0),
        ({"label_timeout": 172_800.0, "max_lag": 3600.0}, 3600.0),
        ({"max_lag": 0.0}, 0.0),
    ],
)
def test_labels_that_may_come_late_are_waited_for_that_long_unless_said_otherwise(given, lag):
    assert settings(**given).lag == lag


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1"])
def test_a_lag_is_a_number_of_seconds(value):
    with pytest.raises(InvalidParameterError, match="max_lag"):
        settings(max_lag=value)
