"""Logistic regression on what experts say."""

from __future__ import annotations

import numpy as np

from tests.oracle.recursive import log_softmax


class Stack:
    """Weights of the experts' log-probabilities and votes, shared by the classes."""

    def __init__(self, weights: np.ndarray, covariance: np.ndarray, has_horizon: bool) -> None:
        self.weights, self.covariance, self.has_horizon = weights, covariance, has_horizon

    @staticmethod
    def features(experts: np.ndarray) -> np.ndarray:
        logs = np.log(np.maximum(experts, 1e-3))
        votes = experts**8 / (experts**8).sum(axis=1, keepdims=True)
        centred = logs - logs.mean(axis=1, keepdims=True)
        return np.vstack([centred, 2 * (votes - 1 / experts.shape[1])])

    def predict(self, experts: np.ndarray) -> np.ndarray:
        """Return the mixture, shape (C,), of probabilities of shape (E, C)."""
        return np.exp(log_softmax(self.weights @ self.features(experts)))

    def learn(self, experts: np.ndarray, label: int, weight: float) -> None:
        f, p = self.features(experts), self.predict(experts)
        v = f[:, label] - f @ p
        odds = weight * min(p[label] / max(1 - p[label], 1e-3), 10)
        direction = self.covariance @ v
        damping = 1 + odds * (v @ direction)
        self.weights = self.weights + weight * direction / damping
        if self.has_horizon:
            self.weights = np.maximum(self.weights, 0)
        self.covariance = self.covariance - odds * np.outer(direction, direction) / damping
        if not self.has_horizon:
            self.covariance += 1e-6 * np.eye(len(v))
