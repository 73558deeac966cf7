"""Running moments of numbers, per column; a number may be NaN, then it is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of the numbers seen."""

    count: np.ndarray
    mean: np.ndarray
    m2: np.ndarray

    def adding(self, row: np.ndarray) -> Moments:
        """Return the moments with one more row, by Welford's recurrence."""
        count = self.count + ~np.isnan(row)
        # What is missing is where the mean is: it moves nothing.
        number = np.where(np.isnan(row), self.mean, row)
        mean = self.mean + (number - self.mean) / np.maximum(count, 1)
        return Moments(count, mean, self.m2 + (number - self.mean) * (number - mean))

    def standardise(self, row: np.ndarray) -> np.ndarray:
        """Return the row in standard deviations from the mean, 0 where nothing varied."""
        standardised = np.zeros_like(row)
        varied = (self.m2 > 0) & ~np.isnan(row)
        deviation = np.sqrt(self.m2[varied] / self.count[varied])
        standardised[varied] = (row[varied] - self.mean[varied]) / deviation
        return standardised


@dataclass(frozen=True)
class Column:
    """Moments of one column that forget, cut outliers, and follow a change."""

    mean: float
    variance: float
    count: float
    recent_mean: float
    recent_variance: float
    origin: float
    outliers: int = 0
    rescales: int = 0

    def adding(self, x: float, window: int) -> Column:
        if math.isnan(x):
            return self
        cut = self._cut(x - self.mean, self.variance)
        mean, variance = _blended(self.mean, self.variance, cut, 1 / min(self.count + 1, window))
        recent = _blended(
            self.recent_mean,
            self.recent_variance,
            self._cut(x - self.recent_mean, self.recent_variance),
            1 / min(self.count + 1, 100),
        )
        count, outliers = self.count + 1, self.outliers + (cut != x - self.mean)
        ratio = recent[1] / variance if variance else math.inf if recent[1] else 1
        apart = abs(recent[0] - mean) > 4 * math.sqrt(variance)
        if count > 200 and (apart or not 1 / 30 <= ratio <= 30):
            return Column(*recent, 50, *recent, self.origin, outliers, self.rescales + 1)
        origin = self.origin if self.count else x
        return Column(mean, variance, count, *recent, origin, outliers, self.rescales)

    def standardise(self, x: float) -> float:
        if math.isnan(x) or self.variance == 0:
            return 0.0
        z = (x - self.mean) / math.sqrt(self.variance)
        return z if abs(z) <= 5 else math.copysign(5 * (1 + math.log(abs(z) / 5)), z)

    def _cut(self, deviation: float, variance: float) -> float:
        limit = 8 * math.sqrt(variance)
        if self.count < 20 or variance == 0 or abs(deviation) <= limit:
            return deviation
        return math.copysign(limit, deviation)


def _blended(mean: float, variance: float, deviation: float, rate: float) -> tuple[float, float]:
    return mean + rate * deviation, (1 - rate) * (variance + rate * deviation**2)


@dataclass(frozen=True)
class WindowedMoments:
    columns: tuple[Column, ...]
    window: int

    @classmethod
    def of(cls, state: dict[str, np.ndarray], window: int) -> WindowedMoments:
        """Take the moments out of a state."""
        names = ("mean", "variance", "count", "recent_mean", "recent_variance", "origin")
        arrays = [state.pop(f"scaler_{name}") for name in names]
        columns = [Column(*map(float, values)) for values in zip(*arrays, strict=True)]
        met = int(state.pop("outlier_count")), int(state.pop("rescale_count"))
        if columns:
            columns[0] = replace(columns[0], outliers=met[0], rescales=met[1])
        return cls(tuple(columns), window)

    def adding(self, row: np.ndarray) -> WindowedMoments:
        columns = zip(self.columns, row, strict=True)
        return replace(self, columns=tuple(c.adding(float(x), self.window) for c, x in columns))

    def standardise(self, row: np.ndarray) -> np.ndarray:
        columns = zip(self.columns, row, strict=True)
        return np.array([c.standardise(float(x)) for c, x in columns])

    def state(self) -> dict[str, np.ndarray]:
        names = ("mean", "variance", "count", "recent_mean", "recent_variance", "origin")
        state = {
            f"scaler_{name}": np.array([getattr(c, name) for c in self.columns]) for name in names
        }
        state["outlier_count"] = np.array(sum(c.outliers for c in self.columns))
        state["rescale_count"] = np.array(sum(c.rescales for c in self.columns))
        return state
