"""Logistic regression learned as an extended Kalman filter."""

from __future__ import annotations

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


class Recursive:
    """Weights of dense inputs, of others that are 0 or 1, and of a bias; and their covariance.

    The measurement is the class, its variance the inverse of the mean curvature. The covariance is
    a block of the dense inputs and the bias, and a diagonal of the others.
    """

    def __init__(
        self,
        kernel: np.ndarray,
        bias: np.ndarray,
        covariance: np.ndarray,
        variance: np.ndarray,
        drift: float,
    ) -> None:
        self.theta = np.vstack([kernel, bias])
        self.covariance, self.variance, self.drift = covariance, variance, drift

    def log_probabilities(self, row: np.ndarray) -> np.ndarray:
        return log_softmax(np.append(row, 1.0) @ self.theta)

    def learn(self, row: np.ndarray, label: int, weight: float) -> None:
        n, n_others = len(self.covariance) - 1, len(self.variance)
        block, others = [*range(n), n + n_others], list(range(n, n + n_others))
        x = np.append(row, 1.0)
        whole = np.zeros((len(x), len(x)))
        whole[np.ix_(block, block)] = self.covariance
        whole[others, others] = self.variance
        p = np.exp(self.log_probabilities(row))
        curvature = np.mean([q * (1 - q) for q in p]) * len(p)
        if self.drift:
            curvature = max(curvature, 0.02)
        curvature *= weight / (len(p) - 1)
        direction = whole @ x
        damping = 1 + curvature * (x @ direction)
        surprise = weight * (np.eye(len(p))[label] - p)
        self.theta = self.theta + np.outer(direction, surprise) / damping
        whole -= curvature * np.outer(direction, direction) / damping
        # What is 0 in a row was not looked at.
        drifting = (np.diag(whole) < 1) & ((x != 0) | np.isin(np.arange(len(x)), block))
        whole[drifting, drifting] += self.drift
        self.covariance, self.variance = whole[np.ix_(block, block)], whole[others, others]
