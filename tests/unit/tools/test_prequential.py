"""The commands that judge a learner: their streams, their counts, their tables and figures."""

from __future__ import annotations

import numpy as np
import pytest

from app.model import HBPClassifier
from tests.bench import paper
from tests.bench.prequential import Course, learn
from tests.bench.streams import ELECTRICITY, STREAMS

SMALL = {"n_hidden_layers": 2, "n_hidden_units": 4}


def rows_with_a_line(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(3).normal(size=(n, 3)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(np.int32)


def course(error: float) -> Course:
    return Course(
        rows=np.array([50, 100]),
        mistakes=np.array([int(100 * error), 0]),
        alpha=np.full((2, 3), 1 / 3),
        finite=True,
        dead_layers=(),
    )


@pytest.fixture
def courses():
    """Fixed depths at 0.3, but one of them; the hedged at 0.2."""
    of = {name: course(0.2 if name in paper.HEDGED else 0.3) for name in paper.LEARNERS}
    return {"syn8": of, "cd1": of | {"BP, 4 layers": course(0.1)}}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_of_float32_rows_and_class_numbers_and_comes_again(name):
    if name == "electricity" and not ELECTRICITY.exists():
        pytest.skip(f"the data set {ELECTRICITY} is not beside the checkout")
    (X, y), (again, labels) = (STREAMS[name](400, 1) for _ in range(2))
    assert (X.dtype, len(X), X.ndim) == (np.float32, 400, 2)
    assert set(y) == set(range(y.max() + 1))
    np.testing.assert_array_equal(X, again)
    np.testing.assert_array_equal(y, labels)


def test_a_mistake_is_a_row_whose_class_was_not_the_most_probable():
    X, y = rows_with_a_line(300)
    blocks = [(X[:100], y[:100]), (X[100:], y[100:])]
    told = learn(HBPClassifier(3, 2, **SMALL), blocks)
    wrong = HBPClassifier(3, 2, **SMALL).partial_fit(X, y).argmax(axis=1) != y
    assert told.mistakes.tolist() == [wrong[:100].sum(), wrong[100:].sum()]
    assert told.rows.tolist() == [100, 300]
    assert told.error == wrong.mean() < 0.2
    assert told.alpha.shape == (2, 3)
    assert told.finite and told.dead_layers == ()


def test_a_row_without_a_probability_is_a_mistake():
    X, y = rows_with_a_line(300)
    model = HBPClassifier(3, 2, variant="paper", learning_rate=1e30, **SMALL)
    told = learn(model, [(X[:1], y[:1]), (X[200:], np.zeros(100, np.int32))])
    assert not told.finite
    assert told.mistakes[1] > 50


def test_a_hedged_network_is_compared_with_the_best_fixed_depth(courses):
    verdicts = paper.verdicts(courses)
    assert verdicts[1] == (
        "syn8: HBP, default is at or below the best fixed depth (BP, 2 layers): -10.00"
    )
    assert verdicts[3] == "cd1: HBP, default is above the best fixed depth (BP, 4 layers): +10.00"


def test_the_table_has_a_line_for_each_learner(courses):
    lines = paper.table(courses).splitlines()
    assert lines[0] == "| learner | syn8 | cd1 |"
    assert len(lines) == 2 + len(paper.LEARNERS)
    assert "| BP, 4 layers | 30.00 | 10.00 |" in lines


def test_both_figures_are_drawn(courses, tmp_path):
    for place, figure in enumerate(
        [paper.draw_errors(courses), paper.draw_alpha(courses, "HBP, default")]
    ):
        figure.savefig(tmp_path / f"{place}.png")
        assert len(figure.axes) == 2
    bars = figure.axes[0].patches
    assert len(bars) == 3 * len(paper.PERIODS)
    assert all(bar.get_height() == pytest.approx(1 / 3) for bar in bars)


def test_a_stream_of_the_paper_is_learned_by_a_fixed_depth():
    told = paper.course("cd2", "BP, 2 layers", 900, 0)
    assert told.rows[-1] == 900
    assert told.alpha.tolist() == [[1.0]] * len(told.rows)
    assert 0.2 < told.error < 0.6
