"""The pandas UDF that scores rows with the live model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from pyspark.sql import Column
from pyspark.sql.functions import pandas_udf

from udfs import model_cache
from udfs.model_cache import ModelSource

SCORE_TYPE = (
    "prediction int, probabilities array<float>, model_version long, model_age_ms long, "
    "stale boolean"
)


def score_udf(source: ModelSource) -> Callable[[str], Column]:
    """Return a UDF from ``features`` (array of float, length D, or null) to a struct.

    The struct holds ``prediction`` (int, the class index), ``probabilities``
    (array of float, length C), ``model_version`` (long), ``model_age_ms`` (long: how
    long ago, in milliseconds, that version was published) and ``stale`` (boolean:
    for longer than the run allows, Redis could not be asked for a newer version). A
    row without features gives a struct of nulls, so that bad rows can pass through
    without a filter under which Spark might evaluate the UDF twice.

    Each Arrow batch with a row to score asks Redis for the version first: a row scored after a
    version was published is scored with it or a later one. So the result
    depends on Redis, and the UDF is marked non-deterministic.
    """

    @pandas_udf(SCORE_TYPE)
    def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        model = model_cache.live_model(source)
        for features in batches:
            yield score_batch(model, source, features)

    return score.asNondeterministic()


def score_batch(
    model: model_cache.LiveModel, source: ModelSource, features: pd.Series
) -> pd.DataFrame:
    """Score one Arrow batch with the current version."""
    given = features.notna().to_numpy()
    predictions = pd.array([None] * len(features), "Int32")
    versions = pd.array([None] * len(features), "Int64")
    ages = pd.array([None] * len(features), "Int64")
    stales = pd.array([None] * len(features), "boolean")
    # An object array keeps None where a pandas reindex would put NaN, which is no array.
    probabilities = np.full(len(features), None, object)
    if given.any():
        stale = model.refresh(source)
        proba = model.predict_proba(np.stack(features.to_numpy()[given])).astype(np.float32)
        predictions[given], versions[given] = proba.argmax(axis=1), model.version
        ages[given], stales[given] = model.age_ms(), stale
        for place, row in zip(np.flatnonzero(given), proba, strict=True):
            probabilities[place] = row
    return pd.DataFrame(
        {
            "prediction": predictions,
            "probabilities": probabilities,
            "model_version": versions,
            "model_age_ms": ages,
            "stale": stales,
        }
    )
