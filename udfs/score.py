"""The UDF that parses and scores rows, in one hop to one Python worker.

It is the Arrow form of a pandas UDF, for ``DataFrame.mapInArrow``: an operator of the plan that
runs once for each row, where Spark may run a function in an expression once for each use of it.
Rows come and go packed, so that the JVM touches none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as T

from app.parsing.packed_rows import RowSource, bytes_of, packed
from app.scoring.live_model import LiveModel, ModelSource
from udfs import model_cache
from udfs.model_cache import WorkerModel

RAW_SCHEMA = (
    T.StructType()
    .add("kind", T.StringType())
    .add("sequence", T.LongType())
    .add("rows", T.BinaryType())
)
"""What a :class:`RowScorer` takes: which source a value is of, and what that says of it."""

SCORED_SCHEMA = T.StructType().add("kind", T.StringType()).add("rows", T.BinaryType())
"""What it gives: packed rows of one kind."""

SERVED = pa.schema(
    [
        ("prediction", pa.int32()),
        ("probabilities", pa.list_(pa.float32())),
        ("model_version", pa.int64()),
        ("model_age_ms", pa.int64()),
        ("stale", pa.bool_()),
    ]
)
"""Columns of what a row is served with."""

_SCORED = pa.schema([("kind", pa.string()), ("rows", pa.binary())])


@dataclass(frozen=True)
class KindOfRows:
    """What is done with the rows of one kind.

    Attributes
    ----------
    source
    is_scored
    columns
        Those of the parser that are returned.
    with_rows
        Whether good rows are returned as JSON too.
    with_features
        Whether ``features`` are returned, as :func:`app.parsing.packed_rows.bytes_of` gives them.
    """

    source: RowSource
    columns: tuple[str, ...]
    is_scored: bool = False
    with_rows: bool = False
    with_features: bool = False

    def schema(self, has_model: bool) -> pa.Schema:
        """Return the columns of the rows that come back."""
        fields = [self.source.parser.schema.field(name) for name in self.columns]
        kept = [pa.field("features", pa.binary())] if self.with_features else []
        return pa.schema([*fields, *kept, *(SERVED if self.is_scored and has_model else ())])


class RowScorer:
    """A function for ``mapInArrow``, from :data:`RAW_SCHEMA` to :data:`SCORED_SCHEMA`.

    Parameters
    ----------
    kinds
        By the name of each kind.
    wanted
        None scores nothing.
    as_they_are
        Kinds that come back in the columns that they have, but for ``rows``.
    """

    def __init__(
        self,
        kinds: Mapping[str, KindOfRows],
        wanted: WorkerModel | None,
        as_they_are: Sequence[str] = (),
    ) -> None:
        self._kinds = dict(kinds)
        self._wanted = wanted
        self._as_they_are = tuple(as_they_are)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for name, kind in self._kinds.items():
                of_kind = batch.filter(pc.equal(batch["kind"], name))
                for raw in kind.source.batches(of_kind["sequence"], of_kind["rows"]):
                    yield _packed(name, self._done(kind, raw))
            for name in self._as_they_are:
                of_kind = batch.filter(pc.equal(batch["kind"], name))
                if len(of_kind):
                    yield _packed(name, of_kind.drop_columns(["kind", "rows"]))

    def _done(self, kind: KindOfRows, raw: pa.RecordBatch) -> pa.RecordBatch:
        parsed = kind.source.parser.parse(raw, with_rows=kind.with_rows)
        columns = [parsed[name] for name in kind.columns]
        if kind.with_features:
            columns.append(bytes_of(parsed["features"]))
        if kind.is_scored and self._wanted is not None:
            model = model_cache.live_model(self._wanted)
            columns += score(model, self._wanted.source, parsed["features"])
        schema = kind.schema(has_model=self._wanted is not None)
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _packed(kind: str, rows: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch([pa.array([kind]), pa.array([packed(rows)], pa.binary())], _SCORED)


class WarmUp:
    """A function for ``mapInArrow`` that readies a worker to score, whatever it is given.

    Parameters
    ----------
    wanted
    rows
        How many rows a worker will be given at once.
    n_features
    """

    def __init__(self, wanted: WorkerModel, rows: int, n_features: int) -> None:
        self._wanted = wanted
        self._shape = rows, n_features

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        zeros = np.zeros(self._shape)
        for batch in batches:
            model_cache.live_model(self._wanted).predict_proba(zeros)
            yield batch


def score(model: LiveModel, source: ModelSource, features: pa.Array) -> list[pa.Array]:
    """Score rows with the current version.

    Redis is asked for the version first, if there is a row to score: a row scored after a
    version was published is scored with it or a later one.

    Parameters
    ----------
    model
    source
    features : fixed-size list of float64, shape (n, D)
        Null where a row is of no use.

    Returns
    -------
    list of pa.Array, each of shape (n,)
        The columns of :data:`SERVED`: ``prediction`` (int32, the class index), ``probabilities``
        (list of float32, length C), ``model_version`` (int64), ``model_age_ms`` (int64: how long
        ago, in milliseconds, that version was published) and ``stale`` (bool: for longer than the
        run allows, Redis could not be asked for a newer version). Null for a row without features.
    """
    n = len(features)
    given = np.asarray(pc.is_valid(features))
    stale, version, age = False, 0, 0
    proba = np.zeros((0, model.n_classes), np.float32)
    if given.any():
        stale = model.refresh(source)
        # Flattened, a list that is null leaves nothing.
        X = features.flatten().to_numpy().reshape(-1, features.type.list_size)
        proba = model.predict_proba(X).astype(np.float32, copy=False)
        version, age = model.version, model.age_ms()
    columns = [
        pa.array(proba.argmax(axis=1), pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(proba.reshape(-1)), proba.shape[1]).cast(
            pa.list_(pa.float32())
        ),
        pa.array(np.full(len(proba), version, np.int64)),
        pa.array(np.full(len(proba), age, np.int64)),
        pa.array(np.full(len(proba), stale)),
    ]
    if len(proba) < n:
        places = pa.array(np.cumsum(given) - 1, mask=~given)
        columns = [column.take(places) for column in columns]
    return columns
