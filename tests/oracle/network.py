"""The network of the paper, one row and one head at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.config.model import ModelConfig
from tests.oracle.chance import normal
from tests.oracle.recursive import Recursive, log_softmax

DEAD_ROWS = 256


class Network:
    """L hidden layers, their heads and their hedge, on the inputs of a row.

    Parameters
    ----------
    config : ModelConfig
        ``dtype`` is not used.
    state : mapping of str to ndarray
        What is the network's is taken out of it.

    Attributes
    ----------
    layer_updates, clipped_updates : int
        Gradients of a layer applied so far, and those of them that were clipped.
    floored_alphas : int
        Times that a head's weight was raised to the floor.
    """

    def __init__(self, config: ModelConfig, state: dict[str, np.ndarray], n_columns: int) -> None:
        self.config, self.n_columns = config, n_columns
        L = config.n_hidden_layers
        self.hidden = [(f"hidden_kernel_{i}", f"hidden_bias_{i}") for i in range(L)]
        # A head reads the output of as many hidden layers as its depth says.
        self.depths = list(range(1, L + 1)) if config.heads == "all" else [L]
        self.heads = [(f"head_kernel_{d - 1}", f"head_bias_{d - 1}") for d in self.depths]
        self.recursive = None
        if config.input_head == "recursive":
            names = ("input_head_kernel", "input_head_bias", "input_head_covariance")
            variance = state.pop("input_head_variance", np.zeros(0))
            parts = [state.pop(name) for name in names]
            self.recursive = Recursive(*parts, variance, config.recursive_drift)
        if config.input_head == "sgd":
            self.heads.insert(0, ("input_head_kernel", "input_head_bias"))
            self.depths.insert(0, 0)
        names = [name for pair in (*self.hidden, *self.heads) for name in pair]
        self.weights = {name: state.pop(name) for name in names}
        self.alpha = state.pop("alpha")
        self.silence = state.pop("layer_silence", None)
        self.resets = int(state.pop("layer_reset_count", 0))
        self.layer_updates = self.clipped_updates = self.floored_alphas = 0

    def state(self) -> dict[str, np.ndarray]:
        state = {name: array.copy() for name, array in self.weights.items()}
        state["alpha"] = self.alpha.copy()
        if self.recursive is not None:
            theta = self.recursive.theta
            state["input_head_kernel"], state["input_head_bias"] = theta[:-1], theta[-1]
            state["input_head_covariance"] = self.recursive.covariance
            if len(self.recursive.variance):
                state["input_head_variance"] = self.recursive.variance
        if self.silence is not None:
            state["layer_silence"] = self.silence.copy()
            state["layer_reset_count"] = np.array(self.resets)
        return state

    def forward(self, row: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return h(0)..h(L), and the log-probabilities of the heads, shallow to deep."""
        h = [row]
        for kernel, bias in self.hidden:
            h.append(np.maximum(h[-1] @ self.weights[kernel] + self.weights[bias], 0))
        log_probabilities = [
            log_softmax(h[depth] @ self.weights[kernel] + self.weights[bias])
            for (kernel, bias), depth in zip(self.heads, self.depths, strict=True)
        ]
        if self.recursive is not None:
            log_probabilities.insert(0, self.recursive.log_probabilities(row))
        return h, np.array(log_probabilities)

    def losses(self, row: np.ndarray, label: int) -> np.ndarray:
        return -self.forward(row)[1][:, label]

    def _gradients(self, row: np.ndarray, label: int) -> dict[str, np.ndarray]:
        """Return the gradients of a row.

        A hidden layer's is of the heads' alpha-weighted sum; a head's own is of its loss,
        times its alpha if that is so configured.
        """
        h, log_probabilities = self.forward(row)
        skipped = int(self.recursive is not None)
        alpha, log_probabilities = self.alpha[skipped:], log_probabilities[skipped:]
        target = np.eye(self.config.n_classes)[label]
        gradients = {name: np.zeros_like(array) for name, array in self.weights.items()}
        for j, (kernel, bias) in enumerate(self.heads):
            depth = self.depths[j]
            d_logits = np.exp(log_probabilities[j]) - target
            scale = alpha[j] if self.config.scale_heads_by_alpha else 1.0
            gradients[kernel] += scale * np.outer(h[depth], d_logits)
            gradients[bias] += scale * d_logits
            d_h = alpha[j] * self.weights[kernel] @ d_logits
            for layer in reversed(range(depth)):
                kernel_below, bias_below = self.hidden[layer]
                d_z = d_h * (h[layer + 1] > 0)
                gradients[kernel_below] += np.outer(h[layer], d_z)
                gradients[bias_below] += d_z
                d_h = self.weights[kernel_below] @ d_z
        return gradients

    def learn(
        self,
        rows: Sequence[np.ndarray],
        labels: Sequence[int],
        weights: Sequence[float],
        hedged: Sequence[np.ndarray],
        row_count: int,
    ) -> None:
        """Learn a group of rows; ``hedged`` are the losses that move alpha, by row."""
        lessons = list(zip(rows, labels, weights, strict=True))
        per_row = []
        for row, label, weight in lessons:
            gradients = self._gradients(row, label)
            per_row.append({name: weight * gradient for name, gradient in gradients.items()})
        outputs = [self.forward(row)[0][1:] for row in rows]
        eta, head_eta = self.config.learning_rate, self._head_rate(row_count)
        steps = [(pair, eta) for pair in self.hidden] + [(pair, head_eta) for pair in self.heads]
        for row, label, weight in lessons if self.recursive else ():
            self.recursive.learn(row, label, weight)
        for (kernel, bias), step in steps:
            d_kernel = np.mean([gradients[kernel] for gradients in per_row], axis=0)
            d_bias = np.mean([gradients[bias] for gradients in per_row], axis=0)
            scale = self._clip_scale(d_kernel, d_bias)
            self.weights[kernel] -= step * scale * d_kernel
            self.weights[bias] -= step * scale * d_bias
        if self.silence is not None:
            self._revive(outputs, row_count)
        losses = [weight * loss for weight, loss in zip(weights, hedged, strict=True)]
        self._hedge(np.mean(losses, axis=0))

    def _revive(self, outputs: list[list[np.ndarray]], row_count: int) -> None:
        """Draw layers anew of which no unit has fired for long."""
        for l, (kernel, bias) in enumerate(self.hidden):
            fires = any(h[l].any() for h in outputs)
            self.silence[l] = 0 if fires else self.silence[l] + len(outputs)
            if self.silence[l] < DEAD_ROWS:
                continue
            n_inputs, H = self.weights[kernel].shape
            padded = -(-H // 16) * 16
            deviation = np.sqrt(2 / (n_inputs if l else self.n_columns))
            for i in range(n_inputs):
                for j in range(H):
                    place = (l * n_inputs + i) * padded + j
                    drawn = normal(self.config.seed, row_count, place)
                    self.weights[kernel][i, j] = deviation * drawn
            self.weights[bias][:] = 0
            self.silence[l] = 0
            self.resets += 1

    def _head_rate(self, row_count: int) -> float:
        boost = 1 + self.config.head_boost / (1 + row_count / 2000)
        return self.config.learning_rate * self.config.head_rate * boost

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
