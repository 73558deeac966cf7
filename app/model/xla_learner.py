"""Hedge Backpropagation, compiled by XLA: one call learns a chunk of rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.config.model import BALANCED, HEAD_BOOST_ROWS, LOSS_BOUND, ModelConfig
from app.model.backend import tf
from app.model.inputs import numbers_of, with_binary
from app.model.learner import UpdateRule
from app.model.scaler import known_or_mean, learn_and_impute, learn_and_standardize
from app.model.state import State, state_layout

ROWS_PER_CHUNK = 1024
"""Rows of one compiled call; fewer are padded and cost only their own time."""

_MOMENTS = ("scaler_mean", "scaler_m2", "scaler_count")

Tensors = dict[str, tf.Tensor]
"""A state's arrays by their key."""

_Weights = dict[str, Any]
"""A state regrouped: tensors, and lists of them under ``W`` and ``b``."""


class XlaLearner:
    """A :class:`app.model.learner.Learner` for updates of any number of rows.

    Parameters
    ----------
    config

    Attributes
    ----------
    trace_count
        How often the update was traced: once, whatever it is fed.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._rule = UpdateRule.of(config)
        self.trace_count = 0
        B = config.update_batch_size
        self._chunk_rows = B * max(1, ROWS_PER_CHUNK // B)
        self._tensors: Tensors = {}
        learned = {
            name: tf.TensorSpec(shape, dtype)
            for name, (shape, dtype) in state_layout(config).items()
            if not name.startswith("pending_")
        }
        self._learn = tf.function(
            self._learn_chunk,
            input_signature=[
                learned,
                tf.TensorSpec((self._chunk_rows, config.n_features), tf.float64),
                tf.TensorSpec((self._chunk_rows,), tf.int32),
                tf.TensorSpec((), tf.int32),
            ],
            jit_compile=True,
            autograph=False,
        )

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._tensors = {name: tf.constant(array) for name, array in state.items()}

    def get_state(self) -> State:
        return {name: tensor.numpy() for name, tensor in self._tensors.items()}

    @property
    def alpha(self) -> np.ndarray:
        alpha: np.ndarray = self._tensors["alpha"].numpy()
        return alpha

    def learn(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        probabilities = np.empty((len(X), self._config.n_classes), self._config.dtype)
        for start in range(0, len(X), self._chunk_rows):
            chunk = slice(start, start + self._chunk_rows)
            self._tensors, probabilities[chunk] = self._learn_padded(X[chunk], y[chunk])
        return probabilities

    def compile(self) -> None:
        # What it returns is dropped: another thread may have learned meanwhile.
        none = np.zeros((0, self._config.n_features))
        self._learn_padded(none, np.zeros(0, np.int32))

    def _learn_padded(self, X: np.ndarray, y: np.ndarray) -> tuple[Tensors, np.ndarray]:
        n = len(X)
        rows = np.zeros((self._chunk_rows, self._config.n_features))
        labels = np.zeros(self._chunk_rows, np.int32)
        rows[:n], labels[:n] = X, y
        state, probabilities = self._learn(
            self._tensors, tf.constant(rows), tf.constant(labels), tf.constant(n)
        )
        return state, probabilities.numpy()[:n]

    def _learn_chunk(
        self, state: Tensors, X: tf.Tensor, y: tf.Tensor, n: tf.Tensor
    ) -> tuple[Tensors, tf.Tensor]:
        self.trace_count += 1
        config = self._config
        B, D, C = config.update_batch_size, config.n_features, config.n_classes
        weights = _stack_heads(state, config)

        def group(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # tf.slice states its size; X[k:k+B] would give XLA a dynamic shape, which
            # makes the loop a hundred times slower.
            return tf.slice(X, [k * B, 0], [B, D]), tf.slice(y, [k * B], [B])

        def put(probabilities: tf.Tensor, p: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
            rows = (k * B + tf.range(B))[:, tf.newaxis]
            return tf.tensor_scatter_nd_update(probabilities, rows, p)

        def body(
            k: tf.Tensor, weights: _Weights, probabilities: tf.Tensor
        ) -> tuple[tf.Tensor, _Weights, tf.Tensor]:
            x, labels = group(k)
            weights, p = self._update(weights, x, labels)
            return k + 1, weights, put(probabilities, p, k)

        full_groups = n // B
        k, weights, probabilities = tf.while_loop(
            lambda k, *_: k < full_groups,
            body,
            [tf.constant(0), weights, tf.zeros((self._chunk_rows, C), config.dtype)],
        )
        if B > 1:
            # The last, partly filled group is predicted and not learned. Where there is
            # none, the clamped index writes over a group that is restored below.
            last = tf.minimum(k, self._chunk_rows // B - 1)
            x, _ = group(last)
            z, _ = self._scale(weights, x)
            _, log_p = _forward(weights, z)
            tail = put(probabilities, _mix(weights["alpha"], tf.exp(log_p)), last)
            probabilities = tf.where(n % B > 0, tail, probabilities)
        return _unstack_heads(weights, config), probabilities

    def _scale(self, weights: _Weights, x: tf.Tensor) -> tuple[tf.Tensor, _Weights]:
        config, numbers = self._config, numbers_of(x, self._config)
        moments: _Weights = {}
        if not config.standardize:
            z = known_or_mean(tf.cast(numbers, config.dtype), numbers)
        elif config.imputes:
            mean, m2, count = (weights[name] for name in _MOMENTS)
            z, *after = learn_and_impute(numbers, mean, m2, count, config.dtype)
            moments = dict(zip(_MOMENTS, after, strict=True))
        else:
            mean, m2 = (weights[name] for name in _MOMENTS[:2])
            count = tf.cast(weights["row_count"], tf.float64)
            z, *after = learn_and_standardize(numbers, mean, m2, count, config.dtype)
            moments = dict(zip(_MOMENTS, after, strict=False))
        return with_binary(z, x, config), moments

    def _update(self, weights: _Weights, x: tf.Tensor, y: tf.Tensor) -> tuple[_Weights, tf.Tensor]:
        """Learn one group of B rows: return the new weights and the rows' probabilities."""
        config, rule = self._config, self._rule
        eta, B, alpha = rule.eta, config.update_batch_size, weights["alpha"]
        rows = tf.cast(weights["row_count"], tf.float64)
        boost = 1 + rule.head_boost / (1 + rows / HEAD_BOOST_ROWS)
        head_eta = tf.cast(rule.head_eta * boost, config.dtype)
        z, moments = self._scale(weights, x)
        h, log_p = _forward(weights, z)
        p = tf.exp(log_p)
        target = tf.one_hot(y, config.n_classes, dtype=p.dtype)
        losses = -tf.reduce_sum(log_p * target, axis=2)
        # d(mean loss of each head) / d(its logits), and d(mean hedged loss) / d(logits), both
        # of shape (n_heads, B, C).
        own_error = (p - target) / B
        row_weights, counts = self._row_weights(weights, y)
        if row_weights is not None:
            losses *= row_weights
            own_error *= row_weights[:, tf.newaxis]
        losses = tf.reduce_mean(losses, axis=1)
        hedged_error = alpha[:, tf.newaxis, tf.newaxis] * own_error
        error = hedged_error if rule.scale_heads_by_alpha else own_error
        new = dict(weights) | moments | counts

        on_input = int(config.has_input_head)
        if rule.input_head == "recursive":
            new |= _learn_recursively(weights, z, target, row_weights, config.n_numbers)
        elif rule.input_head == "sgd":
            kernel, bias = self._gradient(z, error[0])
            new["input_kernel"] = weights["input_kernel"] - head_eta * kernel
            new["input_bias"] = weights["input_bias"] - head_eta * bias
        first = config.head_layers[0]
        kernel, bias = self._gradient(tf.stack(h[first + 1 :]), error[on_input:])
        new["Theta"] = weights["Theta"] - head_eta * kernel
        new["c"] = weights["c"] - head_eta * bias

        W, b = list(weights["W"]), list(weights["b"])
        from_heads = tf.matmul(hedged_error[on_input:], weights["Theta"], transpose_b=True)
        delta = tf.zeros_like(h[-1])
        for l in reversed(range(config.n_hidden_layers)):
            if l >= first:
                delta += from_heads[l - first]
            delta *= tf.cast(h[l + 1] > 0, delta.dtype)
            kernel, bias = self._gradient(h[l], delta)
            if l > 0:
                delta = tf.matmul(delta, weights["W"][l], transpose_b=True)
            W[l], b[l] = W[l] - eta * kernel, b[l] - eta * bias
        new["W"], new["b"] = W, b

        new["alpha"] = self._hedge(alpha, losses)
        new["row_count"] = weights["row_count"] + B
        return new, _mix(alpha, p)

    def _row_weights(self, weights: _Weights, y: tf.Tensor) -> tuple[tf.Tensor | None, _Weights]:
        """Return how much each row counts, None when all count the same, and the new counts."""
        config = self._config
        if config.class_weights:
            return tf.gather(tf.constant(config.class_weights, config.dtype), y), {}
        if config.class_weight != BALANCED:
            return None, {}
        seen = weights["class_count"] + tf.cumsum(
            tf.one_hot(y, config.n_classes, dtype=tf.int64), axis=0
        )
        total = tf.cast(tf.reduce_sum(seen, axis=1), tf.float64)
        own = tf.cast(tf.gather(seen, y, axis=1, batch_dims=1), tf.float64)
        row_weights = total / (config.n_classes * own)
        return tf.cast(row_weights, config.dtype), {"class_count": seen[-1]}

    def _gradient(self, h: tf.Tensor, delta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the gradient of a layer's kernel and bias, clipped together.

        ``h`` is (..., B, in), the layer's input; ``delta`` is (..., B, out), the
        error at its output. For B = 1 the gradient is the outer product of
        (h, 1) and delta, whose norm is the product of theirs.
        """
        clip = self._rule.clip
        if self._config.update_batch_size == 1:
            if clip > 0:
                squares = tf.reduce_sum(delta**2, -1, keepdims=True) * (
                    1 + tf.reduce_sum(h**2, -1, keepdims=True)
                )
                delta = delta * _clip_factor(squares, clip)
            return _swap(h) * delta, delta[..., 0, :]
        kernel, bias = tf.matmul(h, delta, transpose_a=True), tf.reduce_sum(delta, axis=-2)
        if clip > 0:
            squares = tf.reduce_sum(kernel**2, (-2, -1)) + tf.reduce_sum(bias**2, -1)
            factor = _clip_factor(squares, clip)[..., tf.newaxis]
            kernel, bias = kernel * factor[..., tf.newaxis], bias * factor
        return kernel, bias

    def _hedge(self, alpha: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        rule = self._rule
        if rule.hedge_loss == "minmax":
            low, high = tf.reduce_min(losses), tf.reduce_max(losses)
            span = high - low
            losses = tf.where(span > 0, (losses - low) / tf.where(span > 0, span, 1), 0)
        elif rule.hedge_loss == "bounded":
            losses = tf.minimum(losses, LOSS_BOUND)
        alpha = alpha * tf.pow(tf.constant(rule.beta, alpha.dtype), losses)
        alpha = tf.maximum(alpha, rule.floor)
        return alpha / tf.reduce_sum(alpha)


def _clip_factor(squares: tf.Tensor, clip: float) -> tf.Tensor:
    norm = tf.sqrt(squares)
    return tf.where(norm > clip, clip / tf.where(norm > clip, norm, 1), 1)


def _swap(h: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matrix_transpose(h)


def _mix(alpha: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(alpha[:, tf.newaxis, tf.newaxis] * p, axis=0)


def _forward(weights: _Weights, z: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Return h(0)..h(L) and the heads' log-probabilities, shape (n_heads, B, C)."""
    h = [z]
    for W, b in zip(weights["W"], weights["b"], strict=True):
        h.append(tf.nn.relu(tf.matmul(h[-1], W) + b))
    with_heads = h[-weights["Theta"].shape[0] :]
    logits = tf.matmul(tf.stack(with_heads), weights["Theta"]) + weights["c"][:, tf.newaxis]
    if "input_kernel" in weights:
        on_input = tf.matmul(z, weights["input_kernel"]) + weights["input_bias"]
        logits = tf.concat([on_input[tf.newaxis], logits], axis=0)
    return h, tf.nn.log_softmax(logits)


def _stack_heads(state: Tensors, config: ModelConfig) -> _Weights:
    """Regroup a flat state: lists of W and b, heads stacked to one array each."""
    depths = range(config.n_hidden_layers)
    weights = {
        "W": [state[f"hidden_kernel_{l}"] for l in depths],
        "b": [state[f"hidden_bias_{l}"] for l in depths],
        "Theta": tf.stack([state[f"head_kernel_{l}"] for l in config.head_layers]),
        "c": tf.stack([state[f"head_bias_{l}"] for l in config.head_layers]),
    }
    if config.has_input_head:
        weights["input_kernel"] = state["input_head_kernel"]
        weights["input_bias"] = state["input_head_bias"]
    return weights | {name: state[name] for name in _shared_names(config)}


def _unstack_heads(weights: _Weights, config: ModelConfig) -> Tensors:
    state = {name: weights[name] for name in _shared_names(config)}
    for l in range(config.n_hidden_layers):
        state[f"hidden_kernel_{l}"], state[f"hidden_bias_{l}"] = weights["W"][l], weights["b"][l]
    for place, l in enumerate(config.head_layers):
        state[f"head_kernel_{l}"] = weights["Theta"][place]
        state[f"head_bias_{l}"] = weights["c"][place]
    if config.has_input_head:
        state["input_head_kernel"] = weights["input_kernel"]
        state["input_head_bias"] = weights["input_bias"]
    return state


def _shared_names(config: ModelConfig) -> list[str]:
    stacked = re.compile(r"(hidden|head)_(kernel|bias)_\d+|input_head_(kernel|bias)|pending_.*")
    return [name for name in state_layout(config) if not stacked.fullmatch(name)]


def _learn_recursively(
    weights: _Weights,
    z: tf.Tensor,
    target: tf.Tensor,
    row_weights: tf.Tensor | None,
    n_numbers: int,
) -> _Weights:
    """Return the recursive input head after each row of (B, W) ``z`` in turn."""
    C = target.shape[1]
    rows = tf.cast(z, tf.float64)
    # Cut here: a part of rows[k] would have a dynamic shape.
    numbers, binaries = rows[:, :n_numbers], rows[:, n_numbers:]
    no_variance = tf.zeros(0, tf.float64)
    names = ["input_head_covariance"]
    names += ["input_head_variance"] if "input_head_variance" in weights else []

    def learn(
        k: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, P: tf.Tensor, v: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        logits = tf.linalg.matvec(kernel, z[k], transpose_a=True) + bias
        p = tf.nn.softmax(logits)
        error = tf.cast(p - target[k], tf.float64)
        x = tf.concat([numbers[k], tf.ones(1, tf.float64)], axis=0)
        binary = binaries[k]
        w = tf.maximum(1 - tf.reduce_sum(tf.cast(p, tf.float64) ** 2), 0) / (C - 1)
        if row_weights is not None:
            weight = tf.cast(row_weights[k], tf.float64)
            w, error = weight * w, weight * error
        Px, vb = tf.linalg.matvec(P, x), v * binary
        spread = tf.tensordot(x, Px, 1) + tf.tensordot(binary, vb, 1)
        gain = 1 / (1 + w * tf.maximum(spread, 0))
        direction = tf.concat([Px[:-1], vb, Px[-1:]], axis=0)
        step = tf.cast(gain * direction[:, tf.newaxis] * error, kernel.dtype)
        P -= w * gain * Px[:, tf.newaxis] * Px
        v -= w * gain * vb * vb
        return k + 1, kernel - step[:-1], bias - step[-1], P, v

    _, kernel, bias, P, v = tf.while_loop(
        lambda k, *_: k < z.shape[0],
        learn,
        [
            tf.constant(0),
            weights["input_kernel"],
            weights["input_bias"],
            weights["input_head_covariance"],
            weights.get("input_head_variance", no_variance),
        ],
    )
    learned = dict(zip(names, (P, v), strict=False))
    return {"input_kernel": kernel, "input_bias": bias} | learned
