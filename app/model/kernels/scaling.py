"""Numbers in deviations from their mean, and the places of the inputs that are 1."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from app.config.learning import (
    MOMENTS_WARM_UP,
    OUTLIER,
    RECENT_ROWS,
    SCALE_CHANGE,
    SHIFT,
    SOFT_LIMIT,
)
from app.model.kernels.compiled import Array, compiled


class Places(NamedTuple):
    """Where each column's inputs are, see :func:`app.model.columns.places_of`."""

    numbers: Array
    indicators: Array
    categories: Array
    firsts: Array


class Moments(NamedTuple):
    """Running moments of the numbers, each (N,) float64, or empty where not kept.

    ``spread`` is the sum of squared deviations, or with a window the variance; ``known`` how many
    numbers are in them; ``recent_mean`` and ``recent_variance`` are those of the last rows;
    ``origin`` is the first number of each column; ``met``, (2,) int64, counts outliers, and
    restarts.
    """

    mean: Array
    spread: Array
    known: Array
    recent_mean: Array
    recent_variance: Array
    origin: Array
    met: Array


@compiled
def _add_complete(x: Array, mean: Array, m2: Array, count: int, z: Array) -> None:
    """Add a row to the moments, and write it to ``z`` in deviations from the mean."""
    for j in range(len(x)):
        value = np.float64(x[j])
        if count > 0:
            now = mean[j] + (value - mean[j]) / (count + 1)
            m2[j] += (value - mean[j]) * (value - now)
            mean[j] = now
        else:
            mean[j] = value
        if m2[j] > 0:
            z[j] = (value - mean[j]) / np.sqrt(m2[j] / (count + 1))
        else:
            z[j] = 0


@compiled
def _add_known(x: Array, mean: Array, m2: Array, known: Array, z: Array) -> None:
    """Do that with a row of which numbers may be missing: those are 0, and leave moments alone."""
    for j in range(len(x)):
        z[j] = 0
        if not np.isnan(x[j]):
            known[j] += 1
            now = mean[j] + (x[j] - mean[j]) / known[j] if known[j] > 1 else x[j]
            m2[j] += (x[j] - mean[j]) * (x[j] - now) if known[j] > 1 else 0
            mean[j] = now
            if m2[j] > 0:
                z[j] = (x[j] - now) / np.sqrt(m2[j] / known[j])


@compiled
def _winsorised(deviation: float, variance: float, count: float) -> float:
    limit = OUTLIER * math.sqrt(variance)
    if count < MOMENTS_WARM_UP or variance == 0 or abs(deviation) <= limit:
        return deviation
    return limit if deviation > 0 else -limit


@compiled
def soft_limited(z: float) -> float:
    """Return a number of deviations, of which what is beyond the limit grows by its logarithm."""
    size = abs(z)
    if size <= SOFT_LIMIT:
        return z
    size = SOFT_LIMIT * (1 + math.log(size / SOFT_LIMIT))
    return size if z > 0 else -size


@compiled
def _track(x: Array, moments: Moments, window: int, z: Array) -> None:
    """Do that with moments that forget, that no outlier moves far, and that follow a change."""
    mean, variance, known = moments.mean, moments.spread, moments.known
    for j in range(len(x)):
        z[j] = 0
        if np.isnan(x[j]):
            continue
        if known[j] == 0:
            moments.origin[j] = x[j]
        deviation = _winsorised(x[j] - mean[j], variance[j], known[j])
        if deviation != x[j] - mean[j]:
            moments.met[0] += 1
        rate = 1 / min(known[j] + 1, np.float64(window))
        mean[j] += rate * deviation
        variance[j] = (1 - rate) * (variance[j] + rate * deviation * deviation)
        known[j] += 1
        recent, recent_variance = moments.recent_mean[j], moments.recent_variance[j]
        deviation = _winsorised(x[j] - recent, recent_variance, known[j] - 1)
        rate = 1 / min(known[j], np.float64(RECENT_ROWS))
        recent += rate * deviation
        recent_variance = (1 - rate) * (recent_variance + rate * deviation * deviation)
        moments.recent_mean[j], moments.recent_variance[j] = recent, recent_variance
        if known[j] > 2 * RECENT_ROWS:
            shift = recent - mean[j]
            if (
                shift * shift > SHIFT * SHIFT * variance[j]
                or recent_variance > SCALE_CHANGE * variance[j]
                or recent_variance * SCALE_CHANGE < variance[j]
            ):
                mean[j], variance[j], known[j] = recent, recent_variance, RECENT_ROWS // 2
                moments.met[1] += 1
        if variance[j] > 0:
            z[j] = soft_limited((x[j] - mean[j]) / math.sqrt(variance[j]))


@compiled
def _write_active(
    row: Array, indicators: Array, numbers: Array, categories: Array, firsts: Array, active: Array
) -> int:
    """Write the 0/1 inputs that are 1 in a row to ``active``, and return how many they are."""
    n = 0
    for j in range(len(numbers)):
        if indicators[j] >= 0 and np.isnan(row[numbers[j]]):
            active[n] = indicators[j]
            n += 1
    for j in range(len(categories)):
        active[n] = firsts[j] + np.int64(row[categories[j]])
        n += 1
    return n


@compiled
def standardize_rows(
    X: Array, places: Places, moments: Moments, count: int, window: int, standardize: bool,
    z: Array, active: Array, n_active: Array,
) -> None:  # fmt: skip
    """Add rows to the moments, and write each one's inputs by the moments that include it.

    Parameters
    ----------
    X : (n, D), float64
    places, moments
    count
        Rows in the moments before these.
    window
        Rows that the moments reach back; 0 for all.
    standardize
    z : (n, N)
        Written: the standardised numbers.
    active : (n, N + K), int64
        Written: the inputs, of those that are 0 or 1, which are 1.
    n_active : (n,), int64
        Written: how many these are.
    """
    numbers = places.numbers
    given = np.zeros(len(numbers))
    for r in range(len(X)):
        for j in range(len(numbers)):
            given[j] = X[r, numbers[j]]
        if not standardize:
            for j in range(len(numbers)):
                z[r, j] = 0.0 if np.isnan(given[j]) else given[j]
        elif window > 0:
            _track(given, moments, window, z[r])
        elif len(moments.known) > 0:
            _add_known(given, moments.mean, moments.spread, moments.known, z[r])
        else:
            _add_complete(given, moments.mean, moments.spread, count + r, z[r])
        n_active[r] = _write_active(
            X[r], places.indicators, numbers, places.categories, places.firsts, active[r]
        )


@compiled
def apply_moments(
    X: Array, places: Places, moments: Moments, count: int, window: int, standardize: bool,
    z: Array, active: Array, n_active: Array,
) -> None:  # fmt: skip
    """Write what :func:`standardize_rows` does, by moments that stay as they are."""
    numbers = places.numbers
    for r in range(len(X)):
        for j in range(len(numbers)):
            x = X[r, numbers[j]]
            z[r, j] = 0
            if np.isnan(x):
                continue
            if not standardize:
                z[r, j] = x
            elif moments.spread[j] > 0:
                if window > 0:
                    z[r, j] = soft_limited((x - moments.mean[j]) / math.sqrt(moments.spread[j]))
                else:
                    known = moments.known[j] if len(moments.known) > 0 else np.float64(count)
                    z[r, j] = (x - moments.mean[j]) / math.sqrt(moments.spread[j] / known)
        n_active[r] = _write_active(
            X[r], places.indicators, numbers, places.categories, places.firsts, active[r]
        )


@compiled
def tree_rows(X: Array, places: Places, origin: Array, largest: float, out: Array) -> None:
    """Write what trees see of rows to ``out`` (n, D): numbers, then categories.

    A number is counted from its column's first, so that the model's dtype holds what tells large
    ones apart. It is not standardised: moments that move would move each threshold. What is
    missing is below all numbers; ``largest`` is the largest that the dtype holds.
    """
    N = len(places.numbers)
    for r in range(len(X)):
        for j in range(N):
            value = X[r, places.numbers[j]] - (origin[j] if len(origin) > 0 else 0.0)
            out[r, j] = -largest if np.isnan(value) else min(max(value, -largest), largest)
        for k in range(len(places.categories)):
            out[r, N + k] = X[r, places.categories[k]]
