"""Hedge Backpropagation in plain NumPy, one row and one head at a time.

Written from the paper's algorithm and the project's design, not from its code, to be
compared with it. Slow on purpose: every head is propagated back on its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.config.model import ModelConfig


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of the numbers seen, per column.

    A number may be NaN: then it is missing.
    """

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


class NumpyHBP:
    """What ``HBPClassifier`` must compute, in float64.

    Parameters
    ----------
    config : ModelConfig
        ``dtype`` and ``seed`` are not used.
    state : mapping of str to ndarray
        As :mod:`app.model.state` describes it; copied.

    Attributes
    ----------
    layer_updates, clipped_updates : int
        Gradients of a layer applied so far, and those of them that were clipped.
    floored_alphas : int
        Times that a head's weight was raised to the floor.
    """

    def __init__(self, config: ModelConfig, state: dict[str, np.ndarray]) -> None:
        self.config = config
        state = {name: np.array(array) for name, array in state.items()}
        self.alpha = state.pop("alpha")
        self.row_count = int(state.pop("row_count"))
        if config.standardize:
            mean, m2 = state.pop("scaler_mean"), state.pop("scaler_m2")
            count = state.pop("scaler_count", np.full(len(mean), float(self.row_count)))
            self.moments = Moments(count, mean, m2)
        self.class_count = state.pop("class_count", None)
        self.waiting: list[tuple[np.ndarray, int]] = []
        if config.update_batch_size > 1:
            features, labels = state.pop("pending_features"), state.pop("pending_labels")
            count = int(state.pop("pending_count"))
            self.waiting = list(zip(features[:count], labels[:count], strict=True))
        self.covariance = state.pop("input_head_covariance", None)
        self.variance = state.pop("input_head_variance", np.zeros(0))
        self.weights = state
        self.layer_updates = self.clipped_updates = self.floored_alphas = 0

        L = config.n_hidden_layers
        self.hidden = [(f"hidden_kernel_{i}", f"hidden_bias_{i}") for i in range(L)]
        # A head reads the output of as many hidden layers as its depth says.
        self.depths = list(range(1, L + 1)) if config.heads == "all" else [L]
        self.heads = [(f"head_kernel_{d - 1}", f"head_bias_{d - 1}") for d in self.depths]
        if config.input_head != "none":
            self.heads.insert(0, ("input_head_kernel", "input_head_bias"))
            self.depths.insert(0, 0)

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Learn rows in order; return each one's probabilities from before it was learned."""
        probabilities = []
        for row, label in zip(X, y, strict=True):
            self.waiting.append((np.asarray(row, float), int(label)))
            standardised, moments = self._standardise_waiting()
            probabilities.append(self._predict(standardised[-1]))
            if len(self.waiting) == self.config.update_batch_size:
                self._learn_group(standardised, [label for _, label in self.waiting])
                self.row_count += len(self.waiting)
                self.waiting = []
                if self.config.standardize:
                    self.moments = moments
        return np.array(probabilities).reshape(-1, self.config.n_classes)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        rows = [self._inputs(np.asarray(row, float), self.moments_or_none()) for row in X]
        return np.array([self._predict(row) for row in rows])

    def moments_or_none(self) -> Moments | None:
        return self.moments if self.config.standardize else None

    def _inputs(self, row: np.ndarray, moments: Moments | None) -> np.ndarray:
        """Return the inputs of a row: numbers, missing ones, and a category's slots."""
        slots = self.config.category_slots or (0,) * len(row)
        numbers = self._numbers(row)
        found = [np.nan_to_num(numbers) if moments is None else moments.standardise(numbers)]
        found += [[float(np.isnan(row[column]))] for column in self.config.indicators]
        found += [np.eye(n)[int(value)] for n, value in zip(slots, row, strict=True) if n]
        return np.concatenate(found)

    def _numbers(self, row: np.ndarray) -> np.ndarray:
        slots = self.config.category_slots
        return row[[not n for n in slots]] if slots else row

    def get_state(self) -> dict[str, np.ndarray]:
        """Return a state of the layout of :mod:`app.model.state`."""
        state = {name: array.copy() for name, array in self.weights.items()}
        state["alpha"] = self.alpha.copy()
        state["row_count"] = np.array(self.row_count)
        if self.covariance is not None:
            state["input_head_covariance"] = self.covariance.copy()
            if len(self.variance):
                state["input_head_variance"] = self.variance.copy()
        if self.class_count is not None:
            state["class_count"] = self.class_count.copy()
        if self.config.standardize:
            state["scaler_mean"], state["scaler_m2"] = self.moments.mean, self.moments.m2
            if self.config.imputes:
                state["scaler_count"] = self.moments.count
        places = self.config.update_batch_size - 1
        if places:
            state["pending_features"] = np.zeros((places, self.config.n_features))
            state["pending_labels"] = np.zeros(places, int)
            for place, (row, label) in enumerate(self.waiting):
                state["pending_features"][place] = row
                state["pending_labels"][place] = label
            state["pending_count"] = np.array(len(self.waiting))
        return state

    def _standardise_waiting(self) -> tuple[list[np.ndarray], Moments | None]:
        """Return the waiting rows, each standardised after it was added to the moments."""
        moments, inputs = self.moments_or_none(), []
        for row, _ in self.waiting:
            if moments is not None:
                moments = moments.adding(self._numbers(row))
            inputs.append(self._inputs(row, moments))
        return inputs, moments

    def _forward(self, row: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return h(0)..h(L) and the log-probabilities of each head."""
        h = [row]
        for kernel, bias in self.hidden:
            h.append(np.maximum(h[-1] @ self.weights[kernel] + self.weights[bias], 0))
        log_probabilities = [
            log_softmax(h[depth] @ self.weights[kernel] + self.weights[bias])
            for (kernel, bias), depth in zip(self.heads, self.depths, strict=True)
        ]
        return h, log_probabilities

    def _predict(self, row: np.ndarray) -> np.ndarray:
        _, log_probabilities = self._forward(row)
        return self.alpha @ np.exp(log_probabilities)

    def _losses_and_gradients(
        self, row: np.ndarray, label: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return each head's cross-entropy, and the gradients.

        A hidden layer's is of the heads' alpha-weighted sum; a head's own is of its loss,
        times its alpha if that is so configured.
        """
        h, log_probabilities = self._forward(row)
        losses = np.array([-log_p[label] for log_p in log_probabilities])
        target = np.eye(self.config.n_classes)[label]
        gradients = {name: np.zeros_like(array) for name, array in self.weights.items()}
        for j, (kernel, bias) in enumerate(self.heads):
            depth = self.depths[j]
            d_logits = np.exp(log_probabilities[j]) - target
            scale = self.alpha[j] if self.config.scale_heads_by_alpha else 1.0
            gradients[kernel] += scale * np.outer(h[depth], d_logits)
            gradients[bias] += scale * d_logits
            d_h = self.alpha[j] * self.weights[kernel] @ d_logits
            for layer in reversed(range(depth)):
                kernel_below, bias_below = self.hidden[layer]
                d_z = d_h * (h[layer + 1] > 0)
                gradients[kernel_below] += np.outer(h[layer], d_z)
                gradients[bias_below] += d_z
                d_h = self.weights[kernel_below] @ d_z
        return losses, gradients

    def _learn_group(self, rows: list[np.ndarray], labels: list[int]) -> None:
        per_row = []
        weights = [self._row_weight(label) for label in labels]
        for row, label, weight in zip(rows, labels, weights, strict=True):
            losses, gradients = self._losses_and_gradients(row, label)
            weighted = {name: weight * gradient for name, gradient in gradients.items()}
            per_row.append((weight * losses, weighted))
        losses = np.mean([losses for losses, _ in per_row], axis=0)
        eta, head_eta = self.config.learning_rate, self._head_rate()
        steps = [(pair, eta) for pair in self.hidden] + [(pair, head_eta) for pair in self.heads]
        if self.covariance is not None:
            self._learn_recursively(rows, labels, weights)
            del steps[len(self.hidden)]
        for (kernel, bias), step in steps:
            d_kernel = np.mean([gradients[kernel] for _, gradients in per_row], axis=0)
            d_bias = np.mean([gradients[bias] for _, gradients in per_row], axis=0)
            scale = self._clip_scale(d_kernel, d_bias)
            self.weights[kernel] -= step * scale * d_kernel
            self.weights[bias] -= step * scale * d_bias
        self._hedge(losses)

    def _row_weight(self, label: int) -> float:
        if self.class_count is None:
            return (*self.config.class_weights, *[1.0] * self.config.n_classes)[label]
        self.class_count[label] += 1
        return self.class_count.sum() / (len(self.class_count) * self.class_count[label])

    def _head_rate(self) -> float:
        boost = 1 + self.config.head_boost / (1 + self.row_count / 2000)
        return self.config.learning_rate * self.config.head_rate * boost

    def _learn_recursively(
        self, rows: list[np.ndarray], labels: list[int], weights: list[float]
    ) -> None:
        """Take the input head through the rows as an extended Kalman filter.

        The measurement is the class, its variance the inverse of the mean curvature.
        """
        kernel, bias = self.heads[0]
        theta = np.vstack([self.weights[kernel], self.weights[bias]])
        # The covariance of all inputs and the bias: a block of the numbers and the bias, a
        # diagonal of the others.
        n, n_binary = len(self.covariance) - 1, len(self.variance)
        block = [*range(n), n + n_binary]
        others = list(range(n, n + n_binary))
        for row, label, weight in zip(rows, labels, weights, strict=True):
            x = np.append(row, 1.0)
            whole = np.zeros((len(x), len(x)))
            whole[np.ix_(block, block)] = self.covariance
            whole[others, others] = self.variance
            p = np.exp(log_softmax(x @ theta))
            curvature = np.mean([q * (1 - q) for q in p]) * len(p) / (len(p) - 1) * weight
            direction = whole @ x
            damping = 1 + curvature * (x @ direction)
            surprise = weight * (np.eye(self.config.n_classes)[label] - p)
            theta = theta + np.outer(direction, surprise) / damping
            shrunk = whole - curvature * np.outer(direction, direction) / damping
            self.covariance = shrunk[np.ix_(block, block)]
            self.variance = shrunk[others, others]
        self.weights[kernel], self.weights[bias] = theta[:-1], theta[-1]

    def _clip_scale(self, d_kernel: np.ndarray, d_bias: np.ndarray) -> float:
        self.layer_updates += 1
        limit = self.config.gradient_clip_norm
        norm = np.linalg.norm(np.concatenate([d_kernel.ravel(), d_bias]))
        if limit == 0 or norm <= limit:
            return 1.0
        self.clipped_updates += 1
        return limit / norm

    def _hedge(self, losses: np.ndarray) -> None:
        if self.config.hedge_loss == "minmax":
            spread = losses.max() - losses.min()
            losses = (losses - losses.min()) / spread if spread > 0 else np.zeros_like(losses)
        elif self.config.hedge_loss == "bounded":
            losses = np.minimum(losses, 4.0)
        alpha = self.alpha * self.config.beta**losses
        floor = self.config.smoothing / self.config.n_hidden_layers
        self.floored_alphas += int((alpha < floor).sum())
        alpha = np.maximum(alpha, floor)
        self.alpha = alpha / alpha.sum()
