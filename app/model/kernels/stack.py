"""Stacking: logistic regression on what the experts say, see :class:`app.model.learner.Learner`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from app.config.learning import (
    LEAST_EXPERT,
    STACK_CURVATURE,
)
from app.model.kernels.compiled import Array, compiled


class Stack(NamedTuple):
    """``weights`` (2 E,) and ``covariance`` (2 E, 2 E), float64, of E experts."""

    weights: Array
    covariance: Array


@compiled
def _features(p: Array, f: Array) -> None:
    """Write to ``f`` (2 E, C) the experts' centred log-probabilities, and their votes."""
    E, C = p.shape
    for e in range(E):
        mean, total = 0.0, 0.0
        for c in range(C):
            q = np.float64(p[e, c])
            f[e, c] = math.log(max(q, LEAST_EXPERT))
            mean += f[e, c]
            f[E + e, c] = ((q * q) * (q * q)) * ((q * q) * (q * q))
            total += f[E + e, c]
        for c in range(C):
            f[e, c] -= mean / C
            f[E + e, c] = 2 * (f[E + e, c] / total - 1 / C)


@compiled
def _mix(f: Array, weights: Array, p: Array) -> None:
    C = len(p)
    for c in range(C):
        p[c] = 0.0
        for i in range(len(weights)):
            p[c] += weights[i] * f[i, c]
    top, total = p.max(), 0.0
    for c in range(C):
        p[c] = math.exp(p[c] - top)
        total += p[c]
    for c in range(C):
        p[c] /= total


@compiled
def predict_stack(experts: Array, weights: Array, out: Array) -> None:
    """Write the mixture of ``experts`` (n, E, C) to ``out`` (n, C)."""
    n, E, C = experts.shape
    f, p = np.zeros((2 * E, C)), np.zeros(C)
    for r in range(n):
        _features(experts[r], f)
        _mix(f, weights, p)
        for c in range(C):
            out[r, c] = p[c]


@compiled
def learn_stack(
    experts: Array, lessons: Array, y: Array, row_weights: Array, n_learned: int, group: int,
    stack: Stack, least: float, drift: float, out: Array,
) -> None:  # fmt: skip
    """Mix the experts, and learn from each row in order.

    Parameters
    ----------
    experts : (n, E, C)
        What they say of each row.
    lessons : (n, E, C)
        What is learned from, which with a horizon is what they said some rows ago.
    y : (n,), int32
    row_weights : (n,)
    n_learned
        Rows to learn; the others are mixed alone.
    group
        Rows that are mixed before the first of them is learned.
    stack
        Changed in place.
    least
        Least value of a weight.
    drift
        What is added to the variance of a weight with each row.
    out : (n, C)
        Written: the mixture, by the weights from before the row's group.
    """
    n, _, C = experts.shape
    weights, covariance = stack.weights, stack.covariance
    d = len(weights)
    f, p = np.zeros((d, C)), np.zeros(C)
    v, direction = np.zeros(d), np.zeros(d)
    for start in range(0, n, group):
        stop = min(start + group, n)
        predict_stack(experts[start:stop], weights, out[start:stop])
        for r in range(start, min(start + group, n_learned)):
            _features(lessons[r], f)
            _mix(f, weights, p)
            weight = np.float64(row_weights[r])
            for i in range(d):
                v[i] = f[i, y[r]]
                for c in range(C):
                    v[i] -= p[c] * f[i, c]
            q = p[y[r]]
            curvature = weight * min(q / max(1 - q, 1e-3), STACK_CURVATURE)
            spread = 0.0
            for i in range(d):
                direction[i] = 0.0
                for j in range(d):
                    direction[i] += covariance[i, j] * v[j]
                spread += direction[i] * v[i]
            gain = 1 / (1 + curvature * spread)
            for i in range(d):
                weights[i] = max(weights[i] + weight * gain * direction[i], least)
                for j in range(d):
                    covariance[i, j] -= curvature * gain * direction[i] * direction[j]
                covariance[i, i] += drift
