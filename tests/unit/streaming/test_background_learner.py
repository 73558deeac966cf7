"""What is learned ahead is what would be learned here and now, and is handed over once."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from app.model import HBPClassifier
from app.model.state import state_sha256
from app.registry.feedback_log import LearnedRows
from app.streaming.background_learner import BackgroundLearner


def rows(n: int = 40) -> LearnedRows:
    X = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return LearnedRows([str(i) for i in range(n)], X, (X[:, 0] > 0).astype(np.int32))


def classifier() -> HBPClassifier:
    return HBPClassifier(3, 2, n_hidden_layers=2, n_hidden_units=4)


def test_rows_learned_ahead_give_the_same_as_those_learned_at_once():
    model = classifier()
    wrong = int(
        (model.partial_fit(rows().features, rows().labels).argmax(1) != rows().labels).sum()
    )
    ahead = BackgroundLearner(classifier())
    ahead.begin(rows())
    learned = ahead.take()
    assert state_sha256(learned.state) == state_sha256(model.get_state())
    assert (learned.wrong, learned.alpha) == (wrong, model.alpha.tolist())


def test_what_was_learned_is_taken_once():
    ahead = BackgroundLearner(classifier())
    assert ahead.take() is None
    ahead.begin(rows())
    assert ahead.take() is not None
    assert ahead.take() is None


class Slow:
    """Learns when it is told to."""

    def __init__(self) -> None:
        self.met: dict[str, int] = {}
        self.may_go_on = threading.Event()
        self.done = False

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        assert self.may_go_on.wait(10)
        self.done = True
        raise ArithmeticError


def test_what_was_dropped_is_waited_for_and_its_error_is_not_told():
    slow = Slow()
    ahead = BackgroundLearner(slow)
    ahead.begin(rows())
    assert not slow.done, "begin waited"
    slow.may_go_on.set()
    ahead.wait()
    assert slow.done
    assert ahead.take() is None


def test_an_error_of_learning_is_told_to_who_takes_it():
    slow = Slow()
    slow.may_go_on.set()
    ahead = BackgroundLearner(slow)
    ahead.begin(rows())
    with pytest.raises(ArithmeticError):
        ahead.take()
