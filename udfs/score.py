"""The pandas UDF that scores rows with the live model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import types as T
from pyspark.sql.functions import pandas_udf  # type: ignore[attr-defined]  # PySpark has no type for it.

from app.scoring.live_model import LiveModel, ModelSource
from udfs import model_cache
from udfs.model_cache import WorkerModel

# Not as text, which only a JVM could parse.
SCORE_TYPE = (
    T.StructType()
    .add("prediction", T.IntegerType())
    .add("probabilities", T.ArrayType(T.FloatType()))
    .add("model_version", T.LongType())
    .add("model_age_ms", T.LongType())
    .add("stale", T.BooleanType())
)

ScoreUdf = Callable[[str | Column], Column]
"""From the features to a column of :data:`SCORE_TYPE`."""


def score_udf(wanted: WorkerModel) -> ScoreUdf:
    """Return a UDF from ``features`` (array of float, length D, or null) to a struct.

    The struct holds ``prediction`` (int, the class index), ``probabilities``
    (array of float, length C), ``model_version`` (long), ``model_age_ms`` (long: how
    long ago, in milliseconds, that version was published) and ``stale`` (boolean:
    for longer than the run allows, Redis could not be asked for a newer version). A
    row without features gives a struct of nulls, so that bad rows can pass through
    without a filter under which Spark might evaluate the UDF twice.

    Each Arrow batch with a row to score asks Redis for the version first: a row scored after a
    version was published is scored with it or a later one. So the result depends on Redis, and
    the UDF is marked non-deterministic.
    """

    def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        model = model_cache.live_model(wanted)
        for features in batches:
            yield score_batch(model, wanted.source, features)

    udf: ScoreUdf = pandas_udf(score, SCORE_TYPE).asNondeterministic()
    return udf


def score_batch(model: LiveModel, source: ModelSource, features: pd.Series) -> pd.DataFrame:
    """Score one Arrow batch with the current version.

    Raises
    ------
    ArrowInvalid
        When rows differ in length.
    """
    missing = features.isna().to_numpy()
    given = ~missing
    n = len(features)
    predictions, probabilities = np.zeros(n, np.int32), np.full(n, None, object)
    version, age, stale = 0, 0, False
    if given.any():
        stale = model.refresh(source)
        proba = model.predict_proba(_as_matrix(features.to_numpy()[given])).astype(np.float32)
        version, age = model.version, model.age_ms()
        predictions[given] = proba.argmax(axis=1)
        # Lists of Python's floats: of an array, Spark would make a NumPy scalar of each value,
        # which takes ten times as long.
        probabilities[given] = _as_objects(proba.tolist())
    return pd.DataFrame(
        {
            "prediction": pd.arrays.IntegerArray(predictions, missing),
            "probabilities": probabilities,
            "model_version": pd.arrays.IntegerArray(np.full(n, version, np.int64), missing),
            "model_age_ms": pd.arrays.IntegerArray(np.full(n, age, np.int64), missing),
            "stale": pd.arrays.BooleanArray(np.full(n, stale), missing),
        },
        copy=False,
    )


def _as_matrix(rows: np.ndarray) -> np.ndarray:
    """Return an array of n rows, each an array of D values, as one of shape (n, D)."""
    # Arrow copies the values in one go, and refuses a row of another length.
    width = len(rows[0])
    arrow = pa.array(rows, pa.list_(pa.float32(), width))
    matrix: np.ndarray = arrow.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return matrix


def _as_objects(values: list[list[float]]) -> np.ndarray:
    """Return a list of lists as an array of lists, and not of their items."""
    objects = np.empty(len(values), object)
    objects[:] = values
    return objects
