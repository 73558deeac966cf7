"""The update in C, by which benchmarks measure, is the learner's."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench.learner import SIZES, model, rows
from tests.bench.yardstick import Yardstick, compiled


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory):
    library = compiled(tmp_path_factory.mktemp("yardstick"))
    if library is None:
        pytest.skip("no C compiler is on the PATH")
    return library


@pytest.mark.parametrize("size", [*SIZES[:3], (1, 5)])
def test_it_learns_what_the_learner_learns(library, size):
    learner = model(*size)
    yardstick = Yardstick(library, learner.config, learner.get_state())
    # Of rows in which no unit is so near 0 that rounding decides whether it fires.
    X, y = rows(300, seed=1)
    for part in (slice(0, 1), slice(1, 300)):
        np.testing.assert_allclose(
            yardstick.partial_fit(X[part], y[part]),
            learner.partial_fit(X[part], y[part]),
            atol=2e-5,
        )
    np.testing.assert_allclose(yardstick.alpha, learner.alpha, atol=2e-5)
