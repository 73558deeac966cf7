"""Trees that split as they learn, one node and one candidate at a time."""

from __future__ import annotations

import math

import numpy as np

from tests.oracle.chance import draw, uniform

KEYS = (
    "tree_feature", "tree_threshold", "tree_child", "tree_counts", "tree_slot", "leaf_first",
    "leaf_drawn", "leaf_candidates", "leaf_left", "leaf_seen", "leaf_looked", "tree_nodes",
    "tree_age", "tree_error", "tree_best",
)  # fmt: skip


class Trees:
    """All trees of a model.

    Parameters
    ----------
    state
        The trees are taken out of it.
    first_category
        Features from there on are split by whether they are the threshold.
    seed
    """

    def __init__(self, state: dict[str, np.ndarray], first_category: int, seed: int) -> None:
        self.arrays = {key: state.pop(key) for key in KEYS}
        self.first_category, self.seed = first_category, seed
        self.n = len(self.arrays["tree_feature"])

    def predict(self, row: np.ndarray) -> list[np.ndarray]:
        """Return the geometric mean of each kind of trees."""
        careful = (self.n + 1) // 2
        return [self._mean(row, range(careful)), self._mean(row, range(careful, self.n))]

    def learn(self, row: np.ndarray, label: int, weight: float, place: int) -> None:
        for t in range(self.n):
            Tree(self, t).learn(row, label, weight, place)

    def _mean(self, row: np.ndarray, trees: range) -> np.ndarray:
        logs = []
        for t in trees:
            tree = Tree(self, t)
            counts = tree["tree_counts"][tree.leaf(row)]
            p = (counts + 1 / len(counts)) / (counts.sum() + 1)
            logs.append(np.log(np.maximum(p, 1e-3)))
        mean = np.exp(np.mean(logs, axis=0))
        return mean / mean.sum()


class Tree:
    """One tree: views of its part of the arrays."""

    def __init__(self, trees: Trees, t: int) -> None:
        self.trees, self.t = trees, t

    def __getitem__(self, key: str) -> np.ndarray:
        return self.trees.arrays[key][self.t : self.t + 1][0]

    def __setitem__(self, key: str, value: float) -> None:
        self.trees.arrays[key][self.t] = value

    def leaf(self, row: np.ndarray) -> int:
        node = 0
        while (feature := self["tree_feature"][node]) >= 0:
            left = self._goes_left(row, feature, self["tree_threshold"][node])
            node = self["tree_child"][node] + (not left)
        return int(node)

    def learn(self, row: np.ndarray, label: int, weight: float, place: int) -> None:
        seed, n, F = self.trees.seed, self.trees.n, len(row)
        node = self.leaf(row)
        if self._drifts(int(self["tree_counts"][node].argmax()) != label):
            self["tree_nodes"], self["tree_age"] = 1, 0
            self["tree_error"], self["tree_best"] = 0, 2
            self["tree_counts"][0] = 0
            self._open(0, 0, draw(seed, place, n + self.t) % F)
            node = 0
        weight *= 6 * -math.log(uniform(seed, place, self.t))
        self["tree_counts"][node, label] += weight
        slot = self["tree_slot"][node]
        drawn, candidates = self["leaf_drawn"][slot], self["leaf_candidates"][slot]
        features = [(self["leaf_first"][slot] + k) % F for k in range(len(candidates))]
        if drawn < len(candidates):
            for k in range(drawn, min(drawn + 4, len(candidates))):
                candidates[k] = row[features[k]]
            self["leaf_drawn"][slot] = min(drawn + 4, len(candidates))
            return
        for k, feature in enumerate(features):
            if self._goes_left(row, feature, candidates[k]):
                self["leaf_left"][slot, k, label] += weight
        seen = self["leaf_seen"][slot]
        seen[label] += weight
        if seen.sum() - self["leaf_looked"][slot] < 50:
            return
        self["leaf_looked"][slot] = seen.sum()
        if self["tree_nodes"] < len(self["tree_feature"]):
            gains = [self._gain(seen, left) for left in self["leaf_left"][slot]]
            # Two may part the rows alike, but for rounding.
            best = int(np.argmax(np.array(gains) * (1 + 1e-9) >= max(gains)))
            if 2 * gains[best] / 6 > (20 if self.t < (n + 1) // 2 else 10):
                self._split(node, best, features[best], draw(seed, place, 2 * n + self.t), F)

    def _goes_left(self, row: np.ndarray, feature: int, threshold: float) -> bool:
        if feature >= self.trees.first_category:
            return bool(row[feature] == threshold)
        return bool(row[feature] <= threshold)

    def _drifts(self, wrong: bool) -> bool:
        self["tree_age"] = self["tree_age"] + 1
        rate = max(1 / 500, 1 / self["tree_age"])
        error = self["tree_error"] + rate * (wrong - self["tree_error"])
        self["tree_error"] = error
        if self["tree_age"] < 1500:
            return False
        deviation = math.sqrt(max(error * (1 - error), 0.0025) / 1000)
        self["tree_best"] = min(self["tree_best"], error + deviation)
        return bool(error > self["tree_best"] + 6 * deviation)

    @staticmethod
    def _gain(seen: np.ndarray, left: np.ndarray) -> float:
        right = seen - left
        if left.sum() < 5 or right.sum() < 5:
            return 0.0
        return _nats(seen, 0) - _nats(left, 0) - _nats(right, 1e-3)

    def _open(self, node: int, slot: int, first: int) -> None:
        self["tree_feature"][node], self["tree_slot"][node] = -1, slot
        self["leaf_first"][slot] = first
        for key in ("leaf_drawn", "leaf_looked", "leaf_seen", "leaf_left"):
            self[key][slot] = 0

    def _split(self, node: int, k: int, feature: int, bits: int, F: int) -> None:
        slot, child = self["tree_slot"][node], int(self["tree_nodes"])
        left = self["leaf_left"][slot, k].copy()
        self["tree_feature"][node], self["tree_child"][node] = feature, child
        self["tree_threshold"][node] = self["leaf_candidates"][slot, k]
        self["tree_counts"][child] = left
        self["tree_counts"][child + 1] = np.maximum(self["leaf_seen"][slot] - left, 0)
        self["tree_nodes"] = child + 2
        self._open(child, slot, (bits >> 32) % F)
        self._open(child + 1, (child + 1) // 2, (bits & 0xFFFFFFFF) % F)


def _nats(counts: np.ndarray, least: float) -> float:
    counted = counts[counts > least]
    return -float((counted * np.log(counted / counts.sum())).sum())
