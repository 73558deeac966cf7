"""Learning a batch's rows while they are still being scored and written."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.model.state import State
from app.monitor.records import BatchRecord
from app.registry.feedback_log import LearnedRows

if TYPE_CHECKING:
    from app.model import HBPClassifier


@dataclass(frozen=True)
class Learned:
    """What learning a batch's rows gave.

    Attributes
    ----------
    wrong
        Rows that were predicted wrong just before they were learned.
    state
    alpha
    met
        What the learner had to guard against, by the field of a record that counts it.
    seconds
    """

    wrong: int
    state: State
    alpha: list[float]
    met: dict[str, int]
    seconds: float

    def counted_in(self, record: BatchRecord) -> BatchRecord:
        """Return a record that tells of this too."""
        return dataclasses.replace(
            record,
            prequential_errors=self.wrong,
            alpha=self.alpha,
            outliers_clipped=self.met["outliers_clipped"],
            columns_rescaled=self.met["columns_rescaled"],
            layers_reset=self.met["layers_reset"],
        )


class BackgroundLearner:
    """Learns in a thread of its own; the compiled update leaves Python to the others meanwhile.

    Parameters
    ----------
    classifier
        In nobody else's use from :meth:`begin` until :meth:`take` or :meth:`wait` returns.
    """

    def __init__(self, classifier: HBPClassifier) -> None:
        self._classifier = classifier
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "learner")
        self._begun: Future[Learned] | None = None

    def learn(self, rows: LearnedRows) -> Learned:
        """Learn rows here and now."""
        started, met = time.perf_counter(), self._classifier.met
        probabilities = self._classifier.partial_fit(rows.features, rows.labels)
        return Learned(
            wrong=int((probabilities.argmax(axis=1) != rows.labels).sum()),
            state=self._classifier.get_state(),
            alpha=self._classifier.alpha.tolist(),
            met={name: n - met[name] for name, n in self._classifier.met.items()},
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
