"""The network of the paper: one row forward, and back, through all layers and heads.

Each kernel matrix is read once going forward, and read and written once going back, where
the error below it and its own update are taken in one pass. Units are padded with zeros to
a multiple of the vector width; what is padded stays zero. Rows of a kernel whose input is 0,
about half of them after a ReLU, are passed over: they give nothing forward, and neither
they nor the error below them changes going back.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from app.config.learning import DEAD_ROWS, HEAD_BOOST_ROWS, LOSS_BOUND
from app.model.kernels.chance import normal
from app.model.kernels.compiled import Array, Real, compiled
from app.model.kernels.recursive import head_forward, softmax_loss

RAW, MINMAX, BOUNDED = 0, 1, 2
NO_HEAD, SGD, RECURSIVE = 0, 1, 2


class Network(NamedTuple):
    """W inputs, L layers of H units padded to P, C classes, n heads on hidden layers.

    ``kernels`` (W * P + (L - 1) * H * P,), ``biases`` (L, P), ``head_kernels`` (n, C, P),
    ``head_biases`` (n, C), ``input_kernel`` (W * C,) and ``input_bias`` (C,), of the input head;
    ``alpha`` (n or n + 1,). ``silent`` (L,), int64, counts the last rows in which no unit of a
    layer fired, and ``met`` (1,), int64, the layers that started over; empty where none does.
    """

    kernels: Array
    biases: Array
    head_kernels: Array
    head_biases: Array
    input_kernel: Array
    input_bias: Array
    alpha: Array
    silent: Array
    met: Array


class Rule(NamedTuple):
    """How a network learns, see :class:`app.model.learner.UpdateRule`."""

    n_units: int
    first_head: int
    input_kind: int
    hedge_kind: int
    rate: Real
    head_rate: Real
    head_boost: float
    by_alpha: bool
    beta: Real
    floor: Real
    clip: Real
    seed: int


@compiled
def _sum_of_squares(v: Array) -> Real:
    total = v.dtype.type(0)
    for j in range(len(v)):
        total += v[j] * v[j]
    return total


@compiled
def _layer_forward(
    inputs: Array, n_inputs: int, active: Array, kernel: Array, bias: Array, out: Array
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


@compiled
def _layer_backward(
    inputs: Array, n_inputs: int, kernel: Array, delta: Array, step: Real, below: Array
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


@compiled
def _first_layer_update(
    inputs: Array, n_inputs: int, active: Array, kernel: Array, delta: Array, step: Real
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


@compiled
def _clipped(rate: Real, squares: Real, clip: Real) -> Real:
    """Return the step along a gradient whose squared norm is ``squares``; no ``clip`` if 0."""
    if clip > 0 and squares > clip * clip:
        return rate * clip / np.sqrt(squares)
    return rate


@functools.partial(compiled, inline=True)  # Loaded, its own copy rounds otherwise.
def _hedge(alpha: Array, losses: Array, kind: int, beta: Real, floor: Real) -> None:
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


@compiled
def _start_over(
    kernel: Array, bias: Array, n_inputs: int, rule: Rule, row: int, layer: int
) -> None:
    """Draw a layer's kernel anew, by He's initialisation."""
    P, H = len(bias), rule.n_units
    deviation = np.sqrt(2 / n_inputs)
    for i in range(len(kernel) // P):
        for j in range(H):
            place = (layer * len(kernel) + i * P) + j
            kernel[i * P + j] = deviation * normal(rule.seed, row, place)
    bias[:] = 0


@compiled
def _forward(
    z: Array, active: Array, label: int, net: Network, rule: Rule,
    h: Array, logits: Array, p: Array, losses: Array,
) -> None:  # fmt: skip
    """Write a row's layers to ``h``, and what the heads make of it to ``p`` and ``losses``.

    Those of a recursive input head are there already.
    """
    L, P = net.biases.shape
    H, W = rule.n_units, (len(net.kernels) - (L - 1) * rule.n_units * P) // P
    _layer_forward(z, len(z), active, net.kernels[: W * P], net.biases[0], h[0])
    none = active[:0]
    for l in range(1, L):
        start = (W + (l - 1) * H) * P
        _layer_forward(h[l - 1], H, none, net.kernels[start : start + H * P], net.biases[l], h[l])
    on_input = 0 if rule.input_kind == NO_HEAD else 1
    if rule.input_kind == SGD:
        losses[0] = head_forward(z, active, net.input_kernel, net.input_bias, label, logits, p[0])
    for head in range(on_input, len(net.alpha)):
        out, place = h[rule.first_head + head - on_input], head - on_input
        for c in range(len(logits)):
            theta, logit = net.head_kernels[place, c], logits.dtype.type(0)
            for j in range(P):
                logit += out[j] * theta[j]
            logits[c] = logit + net.head_biases[place, c]
        losses[head] = softmax_loss(logits, label, p[head])


@compiled
def _learn(
    z: Array, active: Array, net: Network, rule: Rule, by_heads: Real, row: int, n_columns: int,
    h: Array, errors: Array, delta: Array, below: Array,
) -> None:  # fmt: skip
    """Go back through a row: ``errors`` (n_heads, C) are the heads' own, weighted."""
    L, P = net.biases.shape
    H, W = rule.n_units, (len(net.kernels) - (L - 1) * rule.n_units * P) // P
    on_input = 0 if rule.input_kind == NO_HEAD else 1
    one, zero = delta.dtype.type(1), delta.dtype.type(0)
    for j in range(P):
        delta[j] = zero
    for l in range(L - 1, -1, -1):
        out = h[l]
        if l >= rule.first_head:
            place = l - rule.first_head
            head = place + on_input
            error, weight = errors[head], net.alpha[head]
            scale = weight if rule.by_alpha else one
            squares = _sum_of_squares(error) * (one + _sum_of_squares(out)) * scale * scale
            step = _clipped(by_heads, squares, rule.clip) * scale
            for c in range(len(error)):
                theta = net.head_kernels[place, c]
                down, by = weight * error[c], step * error[c]
                for j in range(P):
                    k = theta[j]
                    delta[j] += down * k
                    theta[j] = k - by * out[j]
                net.head_biases[place, c] -= by
        squares = zero
        for j in range(P):
            d = delta[j] if out[j] > 0 else zero
            delta[j] = d
            squares += d * d
        start = (W + (l - 1) * H) * P if l > 0 else 0
        layer = net.kernels[start : start + (H if l > 0 else W) * P]
        if l > 0:
            step = _clipped(rule.rate, squares * (one + _sum_of_squares(h[l - 1])), rule.clip)
            _layer_backward(h[l - 1], H, layer, delta, step, below)
        else:
            norm = one + _sum_of_squares(z) + delta.dtype.type(len(active))
            step = _clipped(rule.rate, squares * norm, rule.clip)
            _first_layer_update(z, len(z), active, layer, delta, step)
        bias = net.biases[l]
        for j in range(P):
            bias[j] -= step * delta[j]
        if l > 0:
            for j in range(H):
                delta[j] = below[j]
        if len(net.silent) > 0:
            net.silent[l] = 0 if _sum_of_squares(out) > 0 else net.silent[l] + 1
            if net.silent[l] >= DEAD_ROWS:
                _start_over(layer, bias, H if l > 0 else n_columns, rule, row, l)
                net.silent[l] = 0
                net.met[0] += 1
    if rule.input_kind == SGD:
        scale = net.alpha[0] if rule.by_alpha else one
        norm = one + _sum_of_squares(z) + delta.dtype.type(len(active))
        squares = _sum_of_squares(errors[0]) * norm * scale * scale
        step = _clipped(by_heads, squares, rule.clip) * scale
        C = len(errors[0])
        for i in range(len(z)):
            for c in range(C):
                net.input_kernel[i * C + c] -= step * z[i] * errors[0, c]
        for i in active:
            for c in range(C):
                net.input_kernel[i * C + c] -= step * errors[0, c]
        for c in range(C):
            net.input_bias[c] -= step * errors[0, c]


@compiled
def learn_network(
    z: Array, active: Array, n_active: Array, y: Array, weights: Array, count: int,
    n_columns: int, net: Network, rule: Rule, p_input: Array, input_losses: Array,
    hedged: Array, mixed: Array,
) -> None:  # fmt: skip
    """Learn rows in order.

    Parameters
    ----------
    z : (n, N)
    active : (n, A), int64
    n_active : (n,), int64
    y : (n,), int32
    weights : (n,)
        How much each row counts.
    count
        Rows learned before these.
    n_columns
        Inputs of a row that are not 0.
    net
        Changed in place.
    rule
    p_input, input_losses : (n, C), (n,)
        What a recursive input head makes of each row. Written with one that learns by gradient.
    hedged : (n, n_heads) or (0, n_heads)
        The heads' losses that move alpha, if not their present ones.
    mixed : (n, C)
        Written: each row's probabilities from before it.
    """
    L, P = net.biases.shape
    n_heads, C = len(net.alpha), mixed.shape[1]
    real = mixed.dtype.type
    h = np.zeros((L, P), mixed.dtype)
    delta, below = np.zeros(P, mixed.dtype), np.zeros(P, mixed.dtype)
    p, errors = np.zeros((n_heads, C), mixed.dtype), np.zeros((n_heads, C), mixed.dtype)
    losses, logits = np.zeros(n_heads, mixed.dtype), np.zeros(C, mixed.dtype)
    one, zero = real(1), real(0)
    for r in range(len(z)):
        by_heads = rule.head_rate * real(1 + rule.head_boost / (1 + (count + r) / HEAD_BOOST_ROWS))
        ones = active[r, : n_active[r]]
        if rule.input_kind == RECURSIVE:
            p[0, :] = p_input[r]
            losses[0] = input_losses[r]
        _forward(z[r], ones, y[r], net, rule, h, logits, p, losses)
        if rule.input_kind == SGD:
            p_input[r, :] = p[0]
        for c in range(C):
            total = zero
            for head in range(n_heads):
                total += net.alpha[head] * p[head, c]
                errors[head, c] = (p[head, c] - (one if c == y[r] else zero)) * weights[r]
            mixed[r, c] = total
        _learn(z[r], ones, net, rule, by_heads, count + r, n_columns, h, errors, delta, below)
        for head in range(n_heads):
            losses[head] = (hedged[r, head] if len(hedged) > 0 else losses[head]) * weights[r]
        _hedge(net.alpha, losses, rule.hedge_kind, rule.beta, rule.floor)


@compiled
def predict_network(
    z: Array, active: Array, n_active: Array, y: Array, net: Network, rule: Rule,
    p_input: Array, input_losses: Array, mixed: Array, losses: Array,
) -> None:  # fmt: skip
    """Write rows' probabilities to ``mixed`` (n, C), and the heads' losses to ``losses``."""
    n_heads, C = len(net.alpha), mixed.shape[1]
    h, p = np.zeros_like(net.biases), np.zeros((n_heads, C), mixed.dtype)
    logits = np.zeros(C, mixed.dtype)
    for r in range(len(z)):
        if rule.input_kind == RECURSIVE:
            p[0, :] = p_input[r]
            losses[r, 0] = input_losses[r]
        _forward(z[r], active[r, : n_active[r]], y[r], net, rule, h, logits, p, losses[r])
        if rule.input_kind == SGD:
            p_input[r, :] = p[0]
        for c in range(C):
            total = mixed.dtype.type(0)
            for head in range(n_heads):
                total += net.alpha[head] * p[head, c]
            mixed[r, c] = total


@compiled
def random_features(
    z: Array, active: Array, n_active: Array, kernel: Array, bias: Array, out: Array
) -> None:
    """Write rectified random sums of each row's inputs to ``out`` (n, U): ``kernel`` (W * U,)."""
    for r in range(len(z)):
        _layer_forward(z[r], z.shape[1], active[r, : n_active[r]], kernel, bias, out[r])
