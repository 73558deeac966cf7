"""The update of one row, compiled by Numba: what :mod:`app.model.numba_learner` calls.

Each kernel matrix is read once going forward, and read and written once going back, where
the error below it and its own update are taken in one pass. Units are padded with zeros to
a multiple of the vector width; what is padded stays zero. Rows of a kernel whose input is 0,
about half of them after a ReLU, are passed over: they give nothing forward, and neither
they nor the error below them changes going back.

Slices are taken of flat arrays, since Numba then knows that a row is contiguous.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from app.config.model import HEAD_BOOST_ROWS, LOSS_BOUND

RAW, MINMAX, BOUNDED = 0, 1, 2
NO_HEAD, SGD, RECURSIVE = 0, 1, 2

# Numba compiles a function for the dtypes it is called with, float32 or float64.
_Array = NDArray[Any]
_Real = Any
"""A scalar of that dtype."""
_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums in any order and fused multiply-adds, which vectors need; but a NaN stays a NaN.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
}


def _compiled(function: _Function, inline: bool = False) -> _Function:
    options = _OPTIONS | {"forceinline": inline}
    try:
        compiled: _Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # No directory to keep the compiled code in: it is compiled in every process.
        compiled = numba.njit(**options)(function)
    return compiled


@_compiled
def _standardize(x: _Array, mean: _Array, m2: _Array, count: int, z: _Array) -> None:
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


@_compiled
def _impute(x: _Array, mean: _Array, m2: _Array, known: _Array, z: _Array) -> None:
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


@_compiled
def _active(
    x: _Array, given: _Array, indicators: _Array, categories: _Array, firsts: _Array,
    active: _Array,
) -> int:  # fmt: skip
    """Write the 0/1 inputs that are 1 in a row to ``active``, and return how many they are."""
    n = 0
    for j in range(len(given)):
        if indicators[j] >= 0 and np.isnan(given[j]):
            active[n] = indicators[j]
            n += 1
    for j in range(len(categories)):
        active[n] = firsts[j] + np.int64(x[categories[j]])
        n += 1
    return n


@_compiled
def _sum_of_squares(v: _Array) -> _Real:
    total = v.dtype.type(0)
    for j in range(len(v)):
        total += v[j] * v[j]
    return total


@_compiled
def _layer_forward(
    inputs: _Array, n_inputs: int, active: _Array, kernel: _Array, bias: _Array, out: _Array
) -> None:
    """Write a layer's output. Inputs in ``active``, behind the ``n_inputs``, are 1."""
    P = len(out)
    for j in range(P):
        out[j] = bias[j]
    for i in range(n_inputs):
        a = inputs[i]
        if a != 0:
            row = kernel[i * P : i * P + P]
            for j in range(P):
                out[j] += a * row[j]
    for i in active:
        row = kernel[i * P : i * P + P]
        for j in range(P):
            out[j] += row[j]
    zero = out.dtype.type(0)
    for j in range(P):
        out[j] = max(out[j], zero)


@_compiled
def _layer_backward(
    inputs: _Array, n_inputs: int, kernel: _Array, delta: _Array, step: _Real, below: _Array
) -> None:
    """Take ``step`` along the gradient; write the error below, which ReLU masks, to ``below``."""
    P = len(delta)
    zero = delta.dtype.type(0)
    for i in range(n_inputs):
        a = inputs[i]
        if a == 0:
            below[i] = zero
        else:
            row = kernel[i * P : i * P + P]
            by, error = step * a, zero
            for j in range(P):
                k, d = row[j], delta[j]
                error += d * k
                row[j] = k - by * d
            below[i] = error


@_compiled
def _first_layer_update(
    inputs: _Array, n_inputs: int, active: _Array, kernel: _Array, delta: _Array, step: _Real
) -> None:
    P = len(delta)
    for i in range(n_inputs):
        by = step * inputs[i]
        row = kernel[i * P : i * P + P]
        for j in range(P):
            row[j] -= by * delta[j]
    for i in active:
        row = kernel[i * P : i * P + P]
        for j in range(P):
            row[j] -= step * delta[j]


@_compiled
def _clipped(rate: _Real, squares: _Real, clip: _Real) -> _Real:
    """Return the step along a gradient whose squared norm is ``squares``; no ``clip`` if 0."""
    if clip > 0 and squares > clip * clip:
        return rate * clip / np.sqrt(squares)
    return rate


@_compiled
def _softmax_error(logits: _Array, label: int, p: _Array) -> _Real:
    """Write the probabilities to ``p``, and return the cross-entropy of ``label``."""
    top = logits.max()
    total = p.dtype.type(0)
    for c in range(len(p)):
        p[c] = np.exp(logits[c] - top)
        total += p[c]
    for c in range(len(p)):
        p[c] /= total
    return top + np.log(total) - logits[label]


@_compiled
def _recursive_update(
    z: _Array, active: _Array, error: _Array, p: _Array, weight: _Real,
    kernel: _Array, bias: _Array, covariance: _Array, variance: _Array, work: _Array,
) -> None:  # fmt: skip
    """Recursive logistic regression, see :class:`app.model.learner.Learner`.

    ``error`` holds the row's ``weight`` already.
    """
    D, C = len(z), len(p)
    curvature = 1.0
    for c in range(C):
        curvature -= np.float64(p[c]) * p[c]
    curvature = max(curvature, 0.0) / (C - 1) * weight
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


@functools.partial(_compiled, inline=True)  # Loaded, its own copy rounds otherwise.
def _hedge(alpha: _Array, losses: _Array, kind: int, beta: _Real, floor: _Real) -> None:
    low, high = losses.min(), losses.max()
    one = alpha.dtype.type(1)
    total = alpha.dtype.type(0)
    for h in range(len(alpha)):
        loss = losses[h]
        if kind == MINMAX:
            loss = (loss - low) / (high - low) if high > low else low - low
        elif kind == BOUNDED:
            loss = min(loss, LOSS_BOUND * one)
        alpha[h] = max(alpha[h] * beta**loss, floor)
        total += alpha[h]
    for h in range(len(alpha)):
        alpha[h] /= total


@_compiled
def learn_rows(
    X: _Array, y: _Array, probabilities: _Array,
    kernels: _Array, biases: _Array, head_kernels: _Array, head_biases: _Array, first_head: int,
    input_kernel: _Array, input_bias: _Array, covariance: _Array, variance: _Array,
    alpha: _Array, mean: _Array, m2: _Array, known: _Array, count: _Array, class_count: _Array,
    numbers: _Array, indicators: _Array, categories: _Array, firsts: _Array, n_units: int,
    rate: _Real, head_rate: _Real, head_boost: float, by_alpha: bool,
    beta: _Real, floor: _Real, clip: _Real, hedge_kind: int, input_kind: int, standardize: bool,
    class_weights: _Array,
) -> None:  # fmt: skip
    """Learn rows in order; write each one's probabilities from before it to ``probabilities``.

    With R rows, D features of which N are numbers, W inputs, L layers of H units padded to P,
    C classes and n heads on hidden layers, the first of them on layer ``first_head``, the shapes
    are

    X (R, D) float64, y (R,) int32, probabilities (R, C); kernels (W * P + (L - 1) * H * P,),
    biases (L, P), head_kernels (n, C, P), head_biases (n, C), input_kernel (W * C,),
    input_bias (C,), covariance ((N + 1)^2,) and variance (W - N,) float64, alpha (n or n + 1,),
    mean and m2 (N,) float64, known the same or empty, count (1,) int64, class_count (C,) int64 or
    empty, class_weights (C,) or empty; and those of :func:`app.model.inputs.places_of`.

    Where no dtype is given, it is the model's. Arrays but X and y are changed in place.
    """
    L, P = biases.shape
    D, C = len(numbers), probabilities.shape[1]
    W = D + len(variance)
    dtype = biases.dtype
    real = dtype.type
    one, zero = real(1), real(0)
    n_heads = len(alpha)
    on_input = 1 if input_kind != NO_HEAD else 0
    h = np.zeros((L, P), dtype)
    z = np.zeros(D, dtype)
    places = np.zeros(D + len(categories), np.int64)
    none = places[:0]
    delta, below = np.zeros(P, dtype), np.zeros(P, dtype)
    p, errors = np.zeros((n_heads, C), dtype), np.zeros((n_heads, C), dtype)
    losses, logits = np.zeros(n_heads, dtype), np.zeros(C, dtype)
    work = np.zeros(D + 1)
    given = np.zeros(D)

    for r in range(len(X)):
        label = y[r]
        by_heads = head_rate * real(1 + head_boost / (1 + count[0] / HEAD_BOOST_ROWS))
        for j in range(D):
            given[j] = X[r, numbers[j]]
        if not standardize:
            z[:] = np.where(np.isnan(given), 0.0, given)
        elif len(known) > 0:
            _impute(given, mean, m2, known, z)
        else:
            _standardize(given, mean, m2, count[0], z)
        active = places[: _active(X[r], given, indicators, categories, firsts, places)]
        row_weight = one
        if len(class_weights) > 0:
            row_weight = class_weights[label]
        elif len(class_count) > 0:
            class_count[label] += 1
            row_weight = real((count[0] + 1) / (C * class_count[label]))

        _layer_forward(z, D, active, kernels[: W * P], biases[0], h[0])
        for l in range(1, L):
            start = (W + (l - 1) * n_units) * P
            layer = kernels[start : start + n_units * P]
            _layer_forward(h[l - 1], n_units, none, layer, biases[l], h[l])

        for head in range(n_heads):
            if head < on_input:
                for c in range(C):
                    logits[c] = input_bias[c]
                for i in range(D):
                    for c in range(C):
                        logits[c] += z[i] * input_kernel[i * C + c]
                for i in active:
                    for c in range(C):
                        logits[c] += input_kernel[i * C + c]
            else:
                out = h[first_head + head - on_input]
                for c in range(C):
                    theta, logit = head_kernels[head - on_input, c], zero
                    for j in range(P):
                        logit += out[j] * theta[j]
                    logits[c] = logit + head_biases[head - on_input, c]
            losses[head] = _softmax_error(logits, label, p[head]) * row_weight
        for c in range(C):
            mixed = zero
            for head in range(n_heads):
                mixed += alpha[head] * p[head, c]
                errors[head, c] = (p[head, c] - (one if c == label else zero)) * row_weight
            probabilities[r, c] = mixed

        for j in range(P):
            delta[j] = zero
        for l in range(L - 1, -1, -1):
            out = h[l]
            if l >= first_head:
                place = l - first_head
                head = place + on_input
                error, weight = errors[head], alpha[head]
                scale = weight if by_alpha else one
                squares = _sum_of_squares(error) * (one + _sum_of_squares(out)) * scale * scale
                step = _clipped(by_heads, squares, clip) * scale
                for c in range(C):
                    theta = head_kernels[place, c]
                    down, by = weight * error[c], step * error[c]
                    for j in range(P):
                        k = theta[j]
                        delta[j] += down * k
                        theta[j] = k - by * out[j]
                    head_biases[place, c] -= by
            squares = zero
            for j in range(P):
                d = delta[j] if out[j] > 0 else zero
                delta[j] = d
                squares += d * d
            if l > 0:
                step = _clipped(rate, squares * (one + _sum_of_squares(h[l - 1])), clip)
                start = (W + (l - 1) * n_units) * P
                layer = kernels[start : start + n_units * P]
                _layer_backward(h[l - 1], n_units, layer, delta, step, below)
            else:
                norm = one + _sum_of_squares(z) + real(len(active))
                step = _clipped(rate, squares * norm, clip)
                _first_layer_update(z, D, active, kernels[: W * P], delta, step)
            bias = biases[l]
            for j in range(P):
                bias[j] -= step * delta[j]
            if l > 0:
                for j in range(n_units):
                    delta[j] = below[j]

        if input_kind == RECURSIVE:
            _recursive_update(
                z, active, errors[0], p[0], row_weight, input_kernel, input_bias, covariance,
                variance, work,
            )  # fmt: skip
        elif input_kind == SGD:
            scale = alpha[0] if by_alpha else one
            norm = one + _sum_of_squares(z) + real(len(active))
            squares = _sum_of_squares(errors[0]) * norm * scale * scale
            step = _clipped(by_heads, squares, clip) * scale
            for i in range(D):
                for c in range(C):
                    input_kernel[i * C + c] -= step * z[i] * errors[0, c]
            for i in active:
                for c in range(C):
                    input_kernel[i * C + c] -= step * errors[0, c]
            for c in range(C):
                input_bias[c] -= step * errors[0, c]

        _hedge(alpha, losses, hedge_kind, beta, floor)
        count[0] += 1
