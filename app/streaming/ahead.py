"""Learning a batch's rows while they are still being scored and written."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.model.state import State
from app.model_config import ModelConfig
from app.registry.feedback import LearnedRows

if TYPE_CHECKING:
    from app.model import HBPClassifier

_ROWS_THAT_TELL = 256


@dataclass(frozen=True)
class Learned:
    """What learning a batch's rows gave.

    Attributes
    ----------
    wrong : int
        Rows that were predicted wrong just before they were learned.
    state : dict of str to ndarray
    alpha : list of float
    seconds : float
    """

    wrong: int
    state: State
    alpha: list[float]
    seconds: float


class AheadLearner:
    """Learns in a thread of its own; the compiled update leaves Python to the others meanwhile.

    Parameters
    ----------
    classifier : HBPClassifier
        In nobody else's use from :meth:`begin` until :meth:`take` or :meth:`wait` returns.
    """

    def __init__(self, classifier: HBPClassifier) -> None:
        self._classifier = classifier
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "learner")
        self._begun: Future[Learned] | None = None

    def learn(self, rows: LearnedRows) -> Learned:
        """Learn rows here and now."""
        started = time.perf_counter()
        probabilities = self._classifier.partial_fit(rows.features, rows.labels)
        return Learned(
            wrong=int((probabilities.argmax(axis=1) != rows.labels).sum()),
            state=self._classifier.get_state(),
            alpha=self._classifier.alpha.tolist(),
            seconds=time.perf_counter() - started,
        )

    def begin(self, rows: LearnedRows) -> None:
        """Begin to learn rows, and return at once."""
        self._begun = self._thread.submit(self.learn, rows)

    def take(self) -> Learned | None:
        """Wait for what was begun, and return it once; None when nothing was begun since.

        Raises
        ------
        Exception
            What learning raised.
        """
        begun, self._begun = self._begun, None
        return None if begun is None else begun.result()

    def wait(self) -> None:
        """Wait for what was begun, and drop it."""
        begun, self._begun = self._begun, None
        if begun is not None:
            concurrent.futures.wait([begun])


class LayerWatch:
    """Tells once of hidden layers that no longer pass anything on.

    Parameters
    ----------
    config : ModelConfig
    warn : callable
    """

    def __init__(self, config: ModelConfig, warn: Callable[[str], None]) -> None:
        self._config = config
        self._warn = warn
        self._told = False

    def __call__(self, state: State, features: np.ndarray) -> None:
        """Look at what a state does with the last rows, of shape (n, D); few cannot tell."""
        rows = features[-_ROWS_THAT_TELL:]
        if self._told or len(rows) < _ROWS_THAT_TELL:
            return
        # On first use: with it comes TensorFlow, which is imported while the JVM starts.
        from app.model.network import dead_layers

        dead = dead_layers(state, rows.astype(self._config.dtype, copy=False), self._config)
        if dead:
            self._told = True
            layers = ", ".join(str(layer + 1) for layer in dead)
            self._warn(
                f"no unit of hidden layer {layers} fires in the last {len(rows)} rows, so the "
                "heads from there on learn nothing but how common the classes are. Create the "
                "model anew with a smaller --learning-rate or --gradient-clip-norm"
            )
