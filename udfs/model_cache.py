"""The live models of a Python worker, kept from one task to the next.

They are kept in an importable module because a function defined in ``__main__`` is
pickled by value, and its globals start empty in every task. That needs Spark's
worker reuse (on by default). A worker that idles for a minute is ended by
Spark; the next one compiles again.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.scoring.live_model import InitialModel, LiveModel, ModelSource

if TYPE_CHECKING:
    from pyspark import Broadcast

_KEPT_MODELS = 4

_MODELS: dict[str, LiveModel] = {}
_SETTLED: set[str] = set()


@dataclass(frozen=True)
class WorkerModel:
    """What a worker needs to have the model of a run.

    Attributes
    ----------
    run
        Different for each start of a query, so that a worker never serves a new
        run from what it kept of an older one.
    initial
        The version at the start of the query.
    source
        Where later versions are found.
    """

    run: str
    initial: Broadcast[InitialModel]
    source: ModelSource


def live_model(wanted: WorkerModel) -> LiveModel:
    """Return this worker's model of a run, loading it on first use."""
    model = _MODELS.get(wanted.run)
    if model is not None and wanted.run not in _SETTLED:
        # Spark's daemon looks for garbage after each task, in half a million objects of TensorFlow
        # for a third of a second. What the first use has made stays for as long as the worker.
        gc.freeze()
        _SETTLED.add(wanted.run)
    if model is None:
        while len(_MODELS) >= _KEPT_MODELS:
            oldest = next(iter(_MODELS))
            _MODELS.pop(oldest).close()
            _SETTLED.discard(oldest)
        model = _MODELS[wanted.run] = LiveModel(wanted.source, wanted.initial.value)
    return model
