"""A head learned by recursive logistic regression, see :class:`app.model.learner.Learner`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.config.learning import LEAST_CURVATURE
from app.model.kernels.compiled import Array, Real, compiled


class Recursive(NamedTuple):
    """W inputs, of which the first N are dense, and C classes.

    ``kernel`` (W * C,), ``bias`` (C,), ``covariance`` ((N + 1)^2,) and ``variance`` (W - N,)
    float64.
    """

    kernel: Array
    bias: Array
    covariance: Array
    variance: Array


@compiled
def softmax_loss(logits: Array, label: int, p: Array) -> Real:
    """Write the probabilities to ``p``, and return the cross-entropy of ``label``."""
    top = logits.max()
    total = p.dtype.type(0)
    for c in range(len(p)):
        p[c] = np.exp(logits[c] - top)
        total += p[c]
    for c in range(len(p)):
        p[c] /= total
    return top + np.log(total) - logits[label]


@compiled
def head_forward(
    z: Array, active: Array, kernel: Array, bias: Array, label: int, logits: Array, p: Array
) -> Real:
    """Write a row's probabilities to ``p``, and return the cross-entropy of ``label``."""
    C = len(p)
    for c in range(C):
        logits[c] = bias[c]
    for i in range(len(z)):
        for c in range(C):
            logits[c] += z[i] * kernel[i * C + c]
    for i in active:
        for c in range(C):
            logits[c] += kernel[i * C + c]
    return softmax_loss(logits, label, p)


@compiled
def _update(
    z: Array, active: Array, label: int, p: Array, weight: Real, head: Recursive,
    drift: float, error: Array, work: Array,
) -> None:  # fmt: skip
    D, C = len(z), len(p)
    one, zero = p.dtype.type(1), p.dtype.type(0)
    kernel, bias, covariance, variance = head.kernel, head.bias, head.covariance, head.variance
    curvature = 1.0
    for c in range(C):
        error[c] = (p[c] - (one if c == label else zero)) * weight
        curvature -= np.float64(p[c]) * p[c]
    curvature = max(curvature, LEAST_CURVATURE if drift > 0 else 0.0) / (C - 1) * weight
    spread = 0.0
    for i in range(D + 1):
        row = covariance[i * (D + 1) : (i + 1) * (D + 1)]
        product = row[D]
        for j in range(D):
            product += row[j] * z[j]
        work[i] = product
        spread += product * (z[i] if i < D else 1.0)
    for i in active:
        spread += variance[i - D]
    gain = 1 / (1 + curvature * max(spread, 0.0))
    for i in active:
        by = gain * variance[i - D]
        for c in range(C):
            kernel[i * C + c] -= by * error[c]
        variance[i - D] -= curvature * by * variance[i - D]
        if variance[i - D] < 1:
            variance[i - D] += drift
    for i in range(D):
        for c in range(C):
            kernel[i * C + c] -= gain * work[i] * error[c]
    for c in range(C):
        bias[c] -= gain * work[D] * error[c]
    for i in range(D + 1):
        row = covariance[i * (D + 1) : (i + 1) * (D + 1)]
        by = curvature * gain * work[i]
        for j in range(D + 1):
            row[j] -= by * work[j]
        if row[i] < 1:
            row[i] += drift


@compiled
def predict_recursively(
    z: Array, active: Array, n_active: Array, y: Array, head: Recursive, p: Array, losses: Array
) -> None:
    """Write rows' probabilities to ``p``, and their cross-entropies to ``losses``."""
    logits = np.zeros_like(p[0])
    for r in range(len(z)):
        ones = active[r, : n_active[r]]
        losses[r] = head_forward(z[r], ones, head.kernel, head.bias, y[r], logits, p[r])


@compiled
def learn_recursively(
    z: Array, active: Array, n_active: Array, y: Array, weights: Array, n_learned: int, group: int,
    head: Recursive, drift: float, p: Array, losses: Array,
) -> None:  # fmt: skip
    """Learn rows one after the other, each after its group was predicted.

    Parameters
    ----------
    z : (n, N)
    active : (n, A), int64
    n_active : (n,), int64
    y : (n,), int32
    weights : (n,)
        How much each row counts.
    n_learned
        Rows to learn; the others are predicted.
    group
        Rows that are predicted before the first of them is learned.
    head
        Changed in place.
    drift
        What is added to a variance below 1 with each row.
    p : (n, C)
        Written: each row's probabilities.
    losses : (n,)
        Written: each row's cross-entropy.
    """
    logits, again, error = np.zeros_like(p[0]), np.zeros_like(p[0]), np.zeros_like(p[0])
    work = np.zeros(z.shape[1] + 1)
    for start in range(0, len(z), group):
        part = slice(start, min(start + group, len(z)))
        predict_recursively(
            z[part], active[part], n_active[part], y[part], head, p[part], losses[part]
        )
        for r in range(start, min(start + group, n_learned)):
            ones = active[r, : n_active[r]]
            again[:] = p[r]
            if r > start:
                head_forward(z[r], ones, head.kernel, head.bias, y[r], logits, again)
            _update(z[r], ones, y[r], again, weights[r], head, drift, error, work)
