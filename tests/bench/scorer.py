"""What scoring a batch costs beside its forward pass: ``python -m tests.bench.scorer``.

A Python worker's way from packed rows to packed rows is taken with the real UDF and a real
redis-server, by turns with the compiled forward pass on rows that are ready for it,
on one core. Told are medians; each ratio is the median of its rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from app.config.variants import DEFAULT_VARIANT
from app.contract import Contract
from app.files.sequence import numbered
from app.model import HBPClassifier
from app.model.backend import tf, use_one_thread
from app.model.forward.scorer import PADDED_ROWS
from app.model.numba_scorer import NumbaScorer
from app.model.state import config_to_metadata
from app.parsing.packed_rows import PACKED, RowSource, packed
from app.parsing.row_parser import RowParser
from app.registry.version import ModelVersion
from app.scoring.live_model import InitialModel, LiveModel, ModelSource
from tests.bench.figures import tell
from tests.bench.turns import by_turns, keep_to_one_core
from tests.redis_server import RedisServer
from tests.unit.places import Place
from udfs.model_cache import WorkerModel, live_model
from udfs.score import KindOfRows, RowScorer, score

N_FEATURES, N_CLASSES = 28, 2
BATCH_SIZES = (4096, 10_000)

_LARGEST = 20_000
_SINGLE = 100


class Published:
    """A model of the paper's size on a redis-server, and a worker that scores with it."""

    def __init__(self, place: Place, classifier: HBPClassifier) -> None:
        self._place = place
        self._metadata = config_to_metadata(classifier.config)
        self._state = classifier.get_state()
        self.current = place.registry.create(self._state, self._metadata)
        self.source = ModelSource(
            redis_url=place.url,
            model=place.model,
            min_version=self.current,
            snapshots=str(place.directory),
            fail_on_outage=True,
        )
        initial = InitialModel(self.current, place.registry.read(self.current).data)
        self.wanted = WorkerModel("bench", SimpleNamespace(value=initial), self.source)

    @property
    def live(self) -> LiveModel:
        return live_model(self.wanted)

    def publish(self) -> ModelVersion:
        """Publish another version."""
        state = self._state | {"head_bias_0": self._state["head_bias_0"] + self.current.version}
        origin = {"kind": "rollback", "to": 0}
        self.current = self._place.registry.publish(self.current, origin, state, self._metadata)
        return self.current


class Worker:
    """What a Python worker of Spark does with one batch, its pipe to the JVM left out."""

    def __init__(self, wanted: WorkerModel) -> None:
        names = tuple(f"x{j}" for j in range(N_FEATURES))
        parser = RowParser(Contract(names, names, N_FEATURES, ("0", "1")))
        kind = KindOfRows(RowSource(PACKED, parser), ("sequence", "event_id"), is_scored=True)
        self._function = RowScorer({"event": kind}, wanted)

    def run(self, batch: pa.RecordBatch) -> None:
        """Parse and score packed rows into packed ones."""
        for _ in self._function(iter([batch])):
            pass


def packed_rows(X: np.ndarray) -> pa.RecordBatch:
    """Return rows as the JVM sends them."""
    columns = {f"x{j}": X[:, j] for j in range(X.shape[1])}
    rows = numbered(pa.record_batch(columns).replace_schema_metadata({"format": "parquet"}), 0)
    return pa.record_batch(
        {"kind": ["event"], "sequence": pa.array([None], pa.int64()), "rows": [packed(rows)]}
    )


def forward_of(live: LiveModel, X: np.ndarray) -> Callable[[], object]:
    """Return the compiled forward pass over rows that are padded and on their way already."""
    largest = PADDED_ROWS[-1]
    tensors = []
    for start in range(0, len(X), largest):
        rows = X[start : start + largest]
        padded = np.zeros((min(s for s in PADDED_ROWS if s >= len(rows)), X.shape[1]), X.dtype)
        padded[: len(rows)] = rows
        tensors.append(tf.constant(padded))
    return lambda: [live._scorer._forward(live._tensors, tensor).numpy() for tensor in tensors]


def compare(published: Published, n: int, rounds: int) -> None:
    """Print one line of the table."""
    X = np.random.default_rng(0).normal(size=(n, N_FEATURES))
    worker, batch = Worker(published.wanted), packed_rows(X)
    features = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), N_FEATURES)
    times = by_turns(
        [
            forward_of(published.live, X),
            lambda: score(published.live, published.source, features),
            lambda: worker.run(batch),
            lambda: published.live.refresh(published.source),
        ],
        rounds,
    )
    forward, udf, whole, check = 1e3 * times.T
    tell(
        f"scoring {n:,} rows in the UDF: rows a second over the bare forward's",
        np.median(forward / udf),
        ">= 0.8",
        f"{np.median(udf):.1f} ms, forward {np.median(forward):.1f}",
    )
    share = 100 * np.median(check / udf)
    tell(
        f"the version check, percent of scoring {n:,} rows",
        share,
        "<= 2.0",
        f"{np.median(check):.2f} ms",
    )
    print(
        f"{n:>6} {np.median(forward):>11.1f} {np.median(udf):>8.1f} {np.median(whole):>10.1f}"
        f" {np.median(forward / udf):>9.2f} {np.median(forward / whole):>12.2f}"
        f" {np.median(check):>9.2f} {np.median(check / udf):>8.1%}"
        f" {n / np.median(whole) * 1e3:>10,.0f}"
    )


def _tell_experts(rounds: int) -> None:
    """Tell what the default's scorer costs beside the network's alone, and what one row does."""
    X = np.random.default_rng(0).normal(size=(BATCH_SIZES[0], N_FEATURES))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    models = [HBPClassifier(N_FEATURES, N_CLASSES, variant=v) for v in ("fast", DEFAULT_VARIANT)]
    for model in models:
        model.partial_fit(X, y)
    alone, default = (partial(model.predict_proba, X) for model in models)
    single = NumbaScorer(models[1].config, models[1].get_state())
    keras = partial(models[1].predict_proba, X[:1])
    numba = partial(single.predict_proba, X[:1])
    times = by_turns([alone, default, keras, numba], rounds)
    # One row after another, as requests come.
    times[:, 3] = by_turns([lambda: [numba() for _ in range(_SINGLE)]], rounds)[:, 0] / _SINGLE
    ratio = np.median(times[:, 0] / times[:, 1])
    us = 1e6 * np.median(times, axis=0)
    told = f"{us[1] / len(X):.1f} us a row, alone {us[0] / len(X):.1f}"
    tell("scoring by the default: rows a second over the network's alone", ratio, ">= 0.7", told)
    tell("scoring one row without TensorFlow, us", us[3], "<= 200", f"with it {us[2]:.0f}")
    print(f"the default scores {ratio:.2f} times the rows a second of the network alone")
    print(f"one row takes {us[3]:.0f} us without TensorFlow, with it {us[2]:.0f}")


def traces(published: Published) -> int:
    """Score batches of many sizes and return how often the forward pass was traced."""
    worker = Worker(published.wanted)
    X = np.zeros((_LARGEST, N_FEATURES))
    some = random.Random(0).sample(range(301, _LARGEST), 20)
    for n in (*range(1, 301), *some, _LARGEST):
        worker.run(packed_rows(X[:n]))
    return published.live._scorer.trace_count


def reload_ms(published: Published, rounds: int) -> np.ndarray:
    """Return how long a moved version takes to be ready, in milliseconds, shape (rounds,)."""
    times = np.empty(rounds)
    for turn in range(rounds):
        version = published.publish().version
        started = time.perf_counter()
        published.live.refresh(published.source)
        times[turn] = (time.perf_counter() - started) * 1e3
        assert published.live.version == version, "the new version was not loaded"
    return times


@contextlib.contextmanager
def published() -> Iterator[Published]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(RedisServer(directory))
        place = stack.enter_context(contextlib.closing(Place(server.url, directory / "model")))
        place.directory.mkdir()
        yield Published(place, HBPClassifier(N_FEATURES, N_CLASSES))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scorer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    keep_to_one_core()
    use_one_thread()
    with published() as model:
        print(
            f"{'rows':>6} {'forward ms':>11} {'UDF ms':>8} {'worker ms':>10} {'UDF':>9}"
            f" {'worker':>12} {'check ms':>9} {'of UDF':>8} {'rows/s':>10}"
        )
        for n in BATCH_SIZES:
            compare(model, n, options.rounds)
        times = reload_ms(model, options.rounds)
        print(f"a version that moved is ready after {np.median(times):.1f} ms")
        _tell_experts(options.rounds)
        traced = traces(model)
        tell("a version that moved is ready to score, ms", np.median(times), "<= 10", "")
        tell("compilations for batches of any size", traced, "<= 3", "")
        print(f"batches of any size were traced {traced} times")


if __name__ == "__main__":
    main()
