"""Hedge Backpropagation, compiled: one call learns a chunk of rows, one after the other.

D. Sahoo, Q. Pham, J. Lu, S. C. H. Hoi, "Online Deep Learning: Learning Deep
Neural Networks on the Fly", IJCAI 2018, algorithm 1 and equations (4), (5), (7)
and (8). Letters as there: W hidden kernels, Theta head kernels, alpha hedge
weights, beta discount, s smoothing, eta learning rate.
"""

from __future__ import annotations

import numpy as np

from app.config import ModelConfig
from app.model.backend import tf
from app.model.scaler import learn_and_standardize
from app.model.state import state_layout

ROWS_PER_CHUNK = 1024
"""Rows of one compiled call; fewer are padded and cost only their own time."""

Tensors = dict[str, tf.Tensor]


class Learner:
    """The compiled update of one configuration.

    The gradient of the hedged loss is one backward pass: at each layer the
    head's own error, weighted by its alpha, is added to the error that comes
    from above. Every part of one update uses the alpha from before it.

    With ``update_batch_size`` B > 1 the gradients and the losses of B rows in a
    row are averaged into one update. Rows that do not fill a group wait in the
    state, so the result does not depend on how the stream is cut into calls.

    Parameters
    ----------
    config : ModelConfig

    Attributes
    ----------
    chunk_rows : int
        Rows of one compiled call, a multiple of B.
    trace_count : int
        How often the update was traced: once, whatever it is fed.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.trace_count = 0
        B = config.update_batch_size
        self.chunk_rows = B * max(1, ROWS_PER_CHUNK // B)
        real = tf.as_dtype(config.dtype)
        learned = {
            name: tf.TensorSpec(shape, dtype)
            for name, (shape, dtype) in state_layout(config).items()
            if not name.startswith("pending_")
        }
        self._learn = tf.function(
            self._learn_chunk,
            input_signature=[
                learned,
                tf.TensorSpec((self.chunk_rows, config.n_features), real),
                tf.TensorSpec((self.chunk_rows,), tf.int32),
                tf.TensorSpec((), tf.int32),
            ],
            jit_compile=True,
            autograph=False,
        )

    def learn(self, state: Tensors, X: np.ndarray, y: np.ndarray) -> tuple[Tensors, np.ndarray]:
        """Learn at most ``chunk_rows`` rows, in order.

        Parameters
        ----------
        state : dict of tf.Tensor
            Without the pending rows.
        X : ndarray, shape (n, D), in the model's dtype
        y : ndarray of int, shape (n,)

        Returns
        -------
        state : dict of tf.Tensor
            After ``n - n % B`` rows.
        probabilities : ndarray, shape (n, C)
            Each row's before it was learned.
        """
        n = len(X)
        rows = np.zeros((self.chunk_rows, self.config.n_features), self.config.dtype)
        labels = np.zeros(self.chunk_rows, np.int32)
        rows[:n], labels[:n] = X, y
        state, probabilities = self._learn(
            state, tf.constant(rows), tf.constant(labels), tf.constant(n)
        )
        return state, probabilities.numpy()[:n]

    def _learn_chunk(
        self, state: Tensors, X: tf.Tensor, y: tf.Tensor, n: tf.Tensor
    ) -> tuple[Tensors, tf.Tensor]:
        self.trace_count += 1
        config = self.config
        B, D, C = config.update_batch_size, config.n_features, config.n_classes
        weights = _stack_heads(state, config)

        def group(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # tf.slice states its size; X[k:k+B] would give XLA a dynamic shape, which
            # makes the loop a hundred times slower.
            return tf.slice(X, [k * B, 0], [B, D]), tf.slice(y, [k * B], [B])

        def put(probabilities: tf.Tensor, p: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
            rows = (k * B + tf.range(B))[:, tf.newaxis]
            return tf.tensor_scatter_nd_update(probabilities, rows, p)

        def body(k: tf.Tensor, weights: dict, probabilities: tf.Tensor):
            x, labels = group(k)
            weights, p = self._update(weights, x, labels)
            return k + 1, weights, put(probabilities, p, k)

        full_groups = n // B
        k, weights, probabilities = tf.while_loop(
            lambda k, *_: k < full_groups,
            body,
            [tf.constant(0), weights, tf.zeros((self.chunk_rows, C), X.dtype)],
        )
        if B > 1:
            # The last, partly filled group is predicted and not learned. Where there is
            # none, the clamped index writes over a group that is restored below.
            last = tf.minimum(k, self.chunk_rows // B - 1)
            x, _ = group(last)
            z, _ = self._scale(weights, x)
            _, log_p = _forward(weights, z)
            tail = put(probabilities, _mix(weights["alpha"], tf.exp(log_p)), last)
            probabilities = tf.where(n % B > 0, tail, probabilities)
        return _unstack_heads(weights, config), probabilities

    def _scale(self, weights: dict, x: tf.Tensor) -> tuple[tf.Tensor, dict]:
        if not self.config.standardize:
            return x, {}
        count = tf.cast(weights["row_count"], tf.float64)
        z, mean, m2 = learn_and_standardize(x, weights["scaler_mean"], weights["scaler_m2"], count)
        return z, {"scaler_mean": mean, "scaler_m2": m2}

    def _update(self, weights: dict, x: tf.Tensor, y: tf.Tensor) -> tuple[dict, tf.Tensor]:
        """Learn one group of B rows: return the new weights and the rows' probabilities."""
        config = self.config
        eta, B, alpha = config.learning_rate, config.update_batch_size, weights["alpha"]
        z, moments = self._scale(weights, x)
        h, log_p = _forward(weights, z)
        p = tf.exp(log_p)
        target = tf.one_hot(y, config.n_classes, dtype=p.dtype)
        losses = -tf.reduce_mean(tf.reduce_sum(log_p * target, axis=2), axis=1)
        # d(mean hedged loss) / d(logits), shape (n_heads, B, C).
        error = alpha[:, tf.newaxis, tf.newaxis] * (p - target) / B
        new = dict(weights) | moments

        hidden_error = error
        if config.input_head:
            hidden_error = error[1:]
            kernel, bias = self._gradient(z, error[0])
            new["input_kernel"] = weights["input_kernel"] - eta * kernel
            new["input_bias"] = weights["input_bias"] - eta * bias
        kernel, bias = self._gradient(tf.stack(h[1:]), hidden_error)
        new["Theta"], new["c"] = weights["Theta"] - eta * kernel, weights["c"] - eta * bias

        W, b = list(weights["W"]), list(weights["b"])
        from_heads = tf.matmul(hidden_error, weights["Theta"], transpose_b=True)
        delta = tf.zeros_like(h[-1])
        for l in reversed(range(config.n_hidden_layers)):
            delta = (delta + from_heads[l]) * tf.cast(h[l + 1] > 0, delta.dtype)
            kernel, bias = self._gradient(h[l], delta)
            if l > 0:
                delta = tf.matmul(delta, weights["W"][l], transpose_b=True)
            W[l], b[l] = W[l] - eta * kernel, b[l] - eta * bias
        new["W"], new["b"] = W, b

        new["alpha"] = self._hedge(alpha, losses)
        new["row_count"] = weights["row_count"] + B
        return new, _mix(alpha, p)

    def _gradient(self, h: tf.Tensor, delta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the gradient of a layer's kernel and bias, clipped together.

        ``h`` is (..., B, in), the layer's input; ``delta`` is (..., B, out), the
        error at its output. For B = 1 the gradient is the outer product of
        (h, 1) and delta, whose norm is the product of theirs.
        """
        clip = self.config.gradient_clip_norm
        if self.config.update_batch_size == 1:
            if clip is not None:
                squares = tf.reduce_sum(delta**2, -1, keepdims=True) * (
                    1 + tf.reduce_sum(h**2, -1, keepdims=True)
                )
                delta = delta * _clip_factor(squares, clip)
            return _swap(h) * delta, delta[..., 0, :]
        kernel, bias = tf.matmul(h, delta, transpose_a=True), tf.reduce_sum(delta, axis=-2)
        if clip is not None:
            squares = tf.reduce_sum(kernel**2, (-2, -1)) + tf.reduce_sum(bias**2, -1)
            factor = _clip_factor(squares, clip)[..., tf.newaxis]
            kernel, bias = kernel * factor[..., tf.newaxis], bias * factor
        return kernel, bias

    def _hedge(self, alpha: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        config = self.config
        if config.hedge_loss == "minmax":
            low, high = tf.reduce_min(losses), tf.reduce_max(losses)
            span = high - low
            losses = tf.where(span > 0, (losses - low) / tf.where(span > 0, span, 1), 0)
        alpha = alpha * tf.pow(tf.constant(config.beta, alpha.dtype), losses)
        alpha = tf.maximum(alpha, config.smoothing / config.n_hidden_layers)
        return alpha / tf.reduce_sum(alpha)


def _clip_factor(squares: tf.Tensor, clip: float) -> tf.Tensor:
    norm = tf.sqrt(squares)
    return tf.where(norm > clip, clip / tf.where(norm > clip, norm, 1), 1)


def _swap(h: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matrix_transpose(h)


def _mix(alpha: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(alpha[:, tf.newaxis, tf.newaxis] * p, axis=0)


def _forward(weights: dict, z: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Return h(0)..h(L) and the heads' log-probabilities, shape (n_heads, B, C)."""
    h = [z]
    for W, b in zip(weights["W"], weights["b"], strict=True):
        h.append(tf.nn.relu(tf.matmul(h[-1], W) + b))
    logits = tf.matmul(tf.stack(h[1:]), weights["Theta"]) + weights["c"][:, tf.newaxis]
    if "input_kernel" in weights:
        on_input = tf.matmul(z, weights["input_kernel"]) + weights["input_bias"]
        logits = tf.concat([on_input[tf.newaxis], logits], axis=0)
    return h, tf.nn.log_softmax(logits)


def _stack_heads(state: Tensors, config: ModelConfig) -> dict:
    """Regroup a flat state: lists of W and b, heads stacked to one array each."""
    depths = range(config.n_hidden_layers)
    weights = {
        "W": [state[f"hidden_kernel_{l}"] for l in depths],
        "b": [state[f"hidden_bias_{l}"] for l in depths],
        "Theta": tf.stack([state[f"head_kernel_{l}"] for l in depths]),
        "c": tf.stack([state[f"head_bias_{l}"] for l in depths]),
    }
    if config.input_head:
        weights["input_kernel"] = state["input_head_kernel"]
        weights["input_bias"] = state["input_head_bias"]
    return weights | {name: state[name] for name in _shared_names(config)}


def _unstack_heads(weights: dict, config: ModelConfig) -> Tensors:
    state = {name: weights[name] for name in _shared_names(config)}
    for l in range(config.n_hidden_layers):
        state[f"hidden_kernel_{l}"], state[f"hidden_bias_{l}"] = weights["W"][l], weights["b"][l]
        state[f"head_kernel_{l}"], state[f"head_bias_{l}"] = weights["Theta"][l], weights["c"][l]
    if config.input_head:
        state["input_head_kernel"] = weights["input_kernel"]
        state["input_head_bias"] = weights["input_bias"]
    return state


def _shared_names(config: ModelConfig) -> list[str]:
    return ["alpha", "row_count"] + (["scaler_mean", "scaler_m2"] if config.standardize else [])
