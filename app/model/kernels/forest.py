"""Trees that split as they learn, see :class:`app.model.learner.Learner`.

A leaf weighs a fixed number of candidate splits, whose thresholds are values that rows had, and
counts the classes on the left of each; so a tree is a few arrays of a fixed size, and a row costs
as much whatever came before.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from app.config.learning import (
    CANDIDATES_PER_ROW,
    LEAST_EXPERT,
    LEAST_SIDE,
    MEAN_TREE_WEIGHT,
    SPLIT_EVERY,
    TREE_DRIFT,
    TREE_ERROR_ROWS,
)
from app.model.kernels.chance import draw, uniform
from app.model.kernels.compiled import Array, Real, compiled

_LEAST_VARIANCE = 0.0025
NO_BEST = 2.0
"""Above any error."""


class Nodes(NamedTuple):
    """What predicts: T trees of M nodes, C classes.

    ``feature`` (T, M), int32, that a node splits on, -1 in a leaf; ``threshold`` (T, M);
    ``child`` (T, M), int32, the left one, before the right one; ``counts`` (T, M, C), weights of a
    leaf's rows by class.
    """

    feature: Array
    threshold: Array
    child: Array
    counts: Array


class Growth(NamedTuple):
    """What grows: T trees of S leaves with K candidates each.

    ``slot`` (T, M), int32, of a leaf; ``first`` (T, S), int32, feature of a slot's first candidate,
    the others follow; ``drawn`` (T, S), int32, candidates that have a threshold; ``candidates``
    (T, S, K), these; ``left`` (T, S, K, C) and ``seen`` (T, S, C), weights of rows by class, on the
    left of each and in all; ``looked`` (T, S), weight at the last look; ``n_nodes`` (T,), int32;
    ``age`` (T,), int64, rows of a tree; ``error`` and ``best`` (T,), float64, its running error,
    and the least bound of it; ``bars`` (T,), float64, what a split must gain.
    """

    slot: Array
    first: Array
    drawn: Array
    candidates: Array
    left: Array
    seen: Array
    looked: Array
    n_nodes: Array
    age: Array
    error: Array
    best: Array
    bars: Array


@compiled
def _goes_left(value: Real, threshold: Real, feature: int, first_category: int) -> bool:
    return bool(value == threshold if feature >= first_category else value <= threshold)


@compiled
def _leaf(row: Array, nodes: Nodes, t: int, first_category: int) -> int:
    node = 0
    while nodes.feature[t, node] >= 0:
        j = nodes.feature[t, node]
        left = _goes_left(row[j], nodes.threshold[t, node], j, first_category)
        node = nodes.child[t, node] + (0 if left else 1)
    return node


@compiled
def _predict(row: Array, nodes: Nodes, first_category: int, n_first: int, p: Array) -> None:
    """Write the geometric means over the first trees, and over the others, to ``p`` (2, C)."""
    T, C = len(nodes.feature), p.shape[1]
    logs = np.zeros((2, C))
    for t in range(T):
        counts = nodes.counts[t, _leaf(row, nodes, t, first_category)]
        total = 1.0
        for c in range(C):
            total += counts[c]
        half = 0 if t < n_first else 1
        for c in range(C):
            logs[half, c] += math.log(max((counts[c] + 1.0 / C) / total, LEAST_EXPERT))
    for half in range(2):
        n = n_first if half == 0 else T - n_first
        total = 0.0
        for c in range(C):
            logs[half, c] = math.exp(logs[half, c] / n)
            total += logs[half, c]
        for c in range(C):
            p[half, c] = logs[half, c] / total


@compiled
def _open(nodes: Nodes, growth: Growth, t: int, node: int, slot: int, first: Real) -> None:
    """Make a node a leaf that has seen nothing, but for its counts."""
    nodes.feature[t, node] = -1
    growth.slot[t, node] = slot
    growth.first[t, slot] = first
    growth.drawn[t, slot] = 0
    growth.looked[t, slot] = 0
    growth.seen[t, slot, :] = 0
    growth.left[t, slot, :, :] = 0


@compiled
def _start_over(nodes: Nodes, growth: Growth, t: int, first: Real) -> None:
    growth.n_nodes[t], growth.age[t] = 1, 0
    growth.error[t], growth.best[t] = 0, NO_BEST
    nodes.counts[t, 0, :] = 0
    _open(nodes, growth, t, 0, 0, first)


@compiled
def _has_drifted(growth: Growth, t: int, wrong: bool) -> bool:
    """Follow a tree's error; return whether it is far above its best.

    As J. Gama et al., "Learning with Drift Detection", SBIA 2004, on an error that forgets.
    """
    growth.age[t] += 1
    rate = max(1 / TREE_ERROR_ROWS, 1 / growth.age[t])
    growth.error[t] += rate * ((1.0 if wrong else 0.0) - growth.error[t])
    error = growth.error[t]
    if growth.age[t] < 3 * TREE_ERROR_ROWS:
        return False
    deviation = math.sqrt(max(error * (1 - error), _LEAST_VARIANCE) / (2 * TREE_ERROR_ROWS))
    growth.best[t] = min(growth.best[t], error + deviation)
    return bool(error > growth.best[t] + TREE_DRIFT * deviation)


@compiled
def _best_split(growth: Growth, t: int, slot: int) -> int:
    """Return the candidate that gains most, -1 if none gains enough."""
    seen, left = growth.seen[t, slot], growth.left[t, slot]
    C = len(seen)
    total, before = 0.0, 0.0
    for c in range(C):
        total += seen[c]
    for c in range(C):
        if seen[c] > 0:
            before -= seen[c] * math.log(seen[c] / total)
    best, gain = -1, 0.0
    for k in range(len(left)):
        on_left = 0.0
        for c in range(C):
            on_left += left[k, c]
        on_right = total - on_left
        if on_left < LEAST_SIDE or on_right < LEAST_SIDE:
            continue
        after = 0.0
        for c in range(C):
            here, there = np.float64(left[k, c]), np.float64(seen[c]) - left[k, c]
            if here > 0:
                after -= here * math.log(here / on_left)
            if there > 1e-3:
                after -= there * math.log(there / on_right)
        # Two candidates may part the rows alike: then the first is taken, whatever the rounding.
        if before - after > gain * (1 + 1e-9):
            best, gain = k, before - after
    return best if 2 * gain / MEAN_TREE_WEIGHT > growth.bars[t] else -1


@compiled
def _split(
    nodes: Nodes, growth: Growth, t: int, node: int, k: int, n_features: int, bits: np.uint64
) -> None:
    slot, child = growth.slot[t, node], growth.n_nodes[t]
    seen, left = growth.seen[t, slot], growth.left[t, slot, k]
    nodes.feature[t, node] = (growth.first[t, slot] + k) % n_features
    nodes.threshold[t, node] = growth.candidates[t, slot, k]
    nodes.child[t, node] = child
    for c in range(len(seen)):
        nodes.counts[t, child, c] = left[c]
        nodes.counts[t, child + 1, c] = max(seen[c] - left[c], 0)
    growth.n_nodes[t] += 2
    n = np.uint64(n_features)
    _open(nodes, growth, t, child, slot, np.int32((bits >> np.uint64(32)) % n))
    other = (growth.n_nodes[t] - 1) // 2
    _open(nodes, growth, t, child + 1, other, np.int32((bits & np.uint64(0xFFFFFFFF)) % n))


@compiled
def _learn_row(
    row: Array, label: int, row_weight: float, nodes: Nodes, growth: Growth, t: int,
    first_category: int, seed: int, place: int,
) -> None:  # fmt: skip
    n_features, K = len(row), growth.candidates.shape[2]
    node = _leaf(row, nodes, t, first_category)
    counts = nodes.counts[t, node]
    T = len(nodes.feature)
    if _has_drifted(growth, t, counts.argmax() != label):
        bits = draw(seed, place, T + t) % np.uint64(n_features)
        _start_over(nodes, growth, t, np.int32(bits))
        node, counts = 0, nodes.counts[t, 0]
    weight = -math.log(uniform(seed, place, t)) * MEAN_TREE_WEIGHT * row_weight
    counts[label] += weight
    slot = growth.slot[t, node]
    drawn, first = growth.drawn[t, slot], growth.first[t, slot]
    candidates = growth.candidates[t, slot]
    if drawn < K:
        stop = min(drawn + CANDIDATES_PER_ROW, K)
        for k in range(drawn, stop):
            candidates[k] = row[(first + k) % n_features]
        growth.drawn[t, slot] = stop
        return
    left, seen = growth.left[t, slot], growth.seen[t, slot]
    j = first
    for k in range(K):
        if _goes_left(row[j], candidates[k], j, first_category):
            left[k, label] += weight
        j += 1
        if j == n_features:
            j = 0
    seen[label] += weight
    total = 0.0
    for c in range(len(seen)):
        total += seen[c]
    if total - growth.looked[t, slot] < SPLIT_EVERY:
        return
    growth.looked[t, slot] = total
    if growth.n_nodes[t] < nodes.feature.shape[1]:
        k = _best_split(growth, t, slot)
        if k >= 0:
            _split(nodes, growth, t, node, k, n_features, draw(seed, place, 2 * T + t))


@compiled
def predict_forest(rows: Array, first_category: int, n_first: int, nodes: Nodes, p: Array) -> None:
    """Write what the trees of each kind say of ``rows`` (n, F) to ``p`` (n, 2, C)."""
    for r in range(len(rows)):
        _predict(rows[r], nodes, first_category, n_first, p[r])


@compiled
def learn_forest(
    rows: Array, y: Array, row_weights: Array, count: int, n_learned: int, group: int,
    first_category: int, n_first: int, seed: int, nodes: Nodes, growth: Growth, p: Array,
) -> None:  # fmt: skip
    """Learn rows one after the other, each after its group was predicted.

    Parameters
    ----------
    rows : (n, F)
        As :func:`app.model.kernels.scaling.tree_rows` writes them.
    y : (n,), int32
    row_weights : (n,)
        How much each row counts.
    count
        Rows learned before these.
    n_learned
        Rows to learn; the others are predicted.
    group
        Rows that are predicted before the first of them is learned.
    first_category
        First of the F features that is a category: it is split by whether it is the threshold.
    n_first
        Trees of the first kind.
    seed
    nodes, growth
        Changed in place.
    p : (n, 2, C)
        Written: what the trees of each kind say, from before a row's group.
    """
    for start in range(0, len(rows), group):
        stop = min(start + group, len(rows))
        predict_forest(rows[start:stop], first_category, n_first, nodes, p[start:stop])
        for r in range(start, min(start + group, n_learned)):
            for t in range(len(nodes.feature)):
                _learn_row(
                    rows[r], y[r], row_weights[r], nodes, growth, t, first_category, seed,
                    count + r,
                )  # fmt: skip
