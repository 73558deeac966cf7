"""The networks learned by groups of rows, compiled by XLA: one call learns a chunk."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from app.config.learning import DEAD_ROWS, HEAD_BOOST_ROWS, LOSS_BOUND
from app.config.model import ModelConfig
from app.model.backend import tf
from app.model.engines.packed import Packed, padded_units
from app.model.engines.rows import Lesson
from app.model.engines.rules import network_rule, shallow_rule
from app.model.kernels import network as kinds
from app.model.kernels.network import Network, Rule

ROWS_PER_CHUNK = 1024
"""Rows of one compiled call; fewer are padded and cost only their own time."""

_Weights = dict[str, Any]
"""A network's tensors, and lists of them, by layer, under ``W`` and ``b``."""


class XlaNetworks:
    """:class:`app.model.engines.rows.Networks` for updates of any number of rows.

    Parameters
    ----------
    config

    Attributes
    ----------
    trace_count
        How often an update was traced: once for each network, whatever it is fed.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._main = _XlaNetwork(config, network_rule(config), bool(config.horizon))
        self._shallow = None
        if config.shallow_layers:
            self._shallow = _XlaNetwork(config, shallow_rule(config), False)

    @property
    def trace_count(self) -> int:
        return self._main.trace_count + (self._shallow.trace_count if self._shallow else 0)

    @property
    def alpha(self) -> np.ndarray:
        alpha: np.ndarray = self._main.weights["alpha"].numpy()
        return alpha

    @property
    def n_reset(self) -> int:
        return int(self._main.weights["met"].numpy().sum())

    def take(self, packed: Packed) -> None:
        self._main.take(packed.network)
        if self._shallow is not None:
            self._shallow.take(packed.shallow)

    def give(self, packed: Packed) -> None:
        self._main.give(packed.network)
        if self._shallow is not None:
            self._shallow.give(packed.shallow)

    def compile(self) -> None:
        for network in (self._main, self._shallow):
            if network is not None:
                network.compile()

    def learn(self, packed: Packed, lesson: Lesson) -> np.ndarray:
        return self._main.learn(lesson)

    def learn_shallow(self, packed: Packed, lesson: Lesson) -> np.ndarray:
        assert self._shallow is not None
        return self._shallow.learn(lesson)


class _Chunk(NamedTuple):
    """Rows as the compiled update takes them, see :class:`app.model.engines.rows.Lesson`."""

    inputs: Any
    y: Any
    row_weights: Any
    p_input: Any
    input_losses: Any
    hedged: Any


class _XlaNetwork:
    """One network, and its compiled update."""

    def __init__(self, config: ModelConfig, rule: Rule, is_hedged_apart: bool) -> None:
        self._config, self._rule = config, rule
        self._n_hedged = config.n_heads if is_hedged_apart else 0
        self.trace_count = 0
        self.weights: _Weights = {}
        B = config.update_batch_size
        self._chunk_rows = B * max(1, ROWS_PER_CHUNK // B)
        self._learn = tf.function(self._learn_chunk, jit_compile=True, autograph=False)

    def take(self, network: Network) -> None:
        H, P = self._config.n_hidden_units, padded_units(self._config)
        L, W = len(network.biases), self._config.n_inputs
        sizes = [W, *[H] * (L - 1)]
        ends = np.cumsum(sizes)[:-1] * P
        kernels = [part.reshape(-1, P)[:, :H] for part in np.split(network.kernels, ends)]
        arrays = {
            "Theta": network.head_kernels[:, :, :H].transpose(0, 2, 1),
            "c": network.head_biases,
            "alpha": network.alpha,
            "silent": network.silent,
            "met": network.met,
        }
        if self._rule.input_kind == kinds.SGD:
            arrays["input_kernel"] = network.input_kernel.reshape(W, -1)
            arrays["input_bias"] = network.input_bias
        self.weights = {name: tf.constant(array) for name, array in arrays.items()}
        self.weights["W"] = [tf.constant(kernel) for kernel in kernels]
        self.weights["b"] = [tf.constant(bias[:H]) for bias in network.biases]

    def give(self, network: Network) -> None:
        """Write the weights to arrays as :meth:`take` was given."""
        weights, start = self.weights, 0
        H, P = self._config.n_hidden_units, padded_units(self._config)
        for l, (kernel, bias) in enumerate(zip(weights["W"], weights["b"], strict=True)):
            stop = start + kernel.shape[0] * P
            network.kernels[start:stop].reshape(-1, P)[:, :H] = kernel.numpy()
            network.biases[l, :H] = bias.numpy()
            start = stop
        network.head_kernels[:, :, :H] = weights["Theta"].numpy().transpose(0, 2, 1)
        network.head_biases[:] = weights["c"].numpy()
        for name in ("alpha", "silent", "met"):
            getattr(network, name)[:] = weights[name].numpy()
        if self._rule.input_kind == kinds.SGD:
            network.input_kernel[:] = weights["input_kernel"].numpy().ravel()
            network.input_bias[:] = weights["input_bias"].numpy()

    def compile(self) -> None:
        # What it returns is dropped: another thread may have learned meanwhile.
        config, real = self._config, self._config.dtype
        shapes = ((config.n_inputs,), (), (), (config.n_classes,), (), (self._n_hedged,))
        dtypes = (real, np.int32, real, real, real, real)
        arrays = zip(shapes, dtypes, strict=True)
        none = _Chunk(*(np.zeros((0, *shape), dtype) for shape, dtype in arrays))
        self._call(none, 0)

    def learn(self, lesson: Lesson) -> np.ndarray:
        config, n = self._config, len(lesson.y)
        inputs = np.zeros((n, config.n_inputs), config.dtype)
        inputs[:, : lesson.rows.z.shape[1]] = lesson.rows.z
        for place in range(lesson.rows.active.shape[1]):
            here = np.flatnonzero(lesson.rows.n_active > place)
            inputs[here, lesson.rows.active[here, place]] = 1
        hedged = np.zeros((n, self._n_hedged), config.dtype)
        if self._n_hedged and len(lesson.hedged):
            # Otherwise no group is full, and nothing is learned.
            hedged = lesson.hedged
        rows = _Chunk(inputs, lesson.y, lesson.weights, lesson.p_input, lesson.input_losses, hedged)
        mixed = np.empty_like(lesson.p_input)
        for start in range(0, n, self._chunk_rows):
            chunk = slice(start, start + self._chunk_rows)
            part = _Chunk(*(array[chunk] for array in rows))
            mixed[chunk] = self._learn_padded(part, lesson.n_before + start, lesson.p_input[chunk])
        return mixed

    def _learn_padded(self, chunk: _Chunk, count: int, p_input: np.ndarray) -> np.ndarray:
        n = len(chunk.y)
        self.weights, mixed, said = self._call(chunk, count)
        if self._rule.input_kind == kinds.SGD:
            p_input[:] = said.numpy()[:n]
        found: np.ndarray = mixed.numpy()[:n]
        return found

    def _call(self, chunk: _Chunk, count: int) -> tuple[_Weights, tf.Tensor, tf.Tensor]:
        n, padded = len(chunk.y), []
        for array in chunk:
            rows = np.zeros((self._chunk_rows, *array.shape[1:]), array.dtype)
            rows[:n] = array
            padded.append(tf.constant(rows))
        found: tuple[_Weights, tf.Tensor, tf.Tensor] = self._learn(
            self.weights, _Chunk(*padded), tf.constant(count, tf.int64), tf.constant(n)
        )
        return found

    def _learn_chunk(
        self, weights: _Weights, chunk: _Chunk, count: tf.Tensor, n: tf.Tensor
    ) -> tuple[_Weights, tf.Tensor, tf.Tensor]:
        self.trace_count += 1
        config = self._config
        B, C = config.update_batch_size, config.n_classes

        def group(k: tf.Tensor) -> _Chunk:
            # tf.slice states its size; rows[k:k+B] would give XLA a dynamic shape, which
            # makes the loop a hundred times slower.
            return _Chunk(
                *(
                    tf.slice(each, [k * B, *[0] * (len(each.shape) - 1)], [B, *each.shape[1:]])
                    for each in chunk
                )
            )

        def put(rows: tf.Tensor, p: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
            return tf.tensor_scatter_nd_update(rows, (k * B + tf.range(B))[:, tf.newaxis], p)

        def body(
            k: tf.Tensor, weights: _Weights, mixed: tf.Tensor, said: tf.Tensor
        ) -> tuple[tf.Tensor, _Weights, tf.Tensor, tf.Tensor]:
            row = count + tf.cast(k, tf.int64) * B
            weights, p, of_input = self._update(weights, group(k), row)
            return k + 1, weights, put(mixed, p, k), put(said, of_input, k)

        full_groups = n // B
        none = tf.zeros((self._chunk_rows, C), config.dtype)
        k, weights, mixed, said = tf.while_loop(
            lambda k, *_: k < full_groups, body, [tf.constant(0), weights, none, none]
        )
        if B > 1:
            # The last, partly filled group is predicted and not learned. Where there is
            # none, the clamped index writes over a group that is restored below.
            last = tf.minimum(k, self._chunk_rows // B - 1)
            _, log_p = self._forward(weights, group(last))
            p = tf.exp(log_p)
            has_rest = n % B > 0
            mixed = tf.where(has_rest, put(mixed, _mix(weights["alpha"], p), last), mixed)
            said = tf.where(has_rest, put(said, p[0], last), said)
        return weights, mixed, said

    def _forward(self, weights: _Weights, rows: _Chunk) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Return h(0)..h(L) and the heads' log-probabilities, shape (n_heads, B, C)."""
        h = [rows.inputs]
        for W, b in zip(weights["W"], weights["b"], strict=True):
            h.append(tf.nn.relu(tf.matmul(h[-1], W) + b))
        with_heads = h[-weights["Theta"].shape[0] :]
        logits = tf.matmul(tf.stack(with_heads), weights["Theta"]) + weights["c"][:, tf.newaxis]
        log_p = tf.nn.log_softmax(logits)
        if self._rule.input_kind == kinds.SGD:
            on_input = tf.matmul(rows.inputs, weights["input_kernel"]) + weights["input_bias"]
            log_p = tf.concat([tf.nn.log_softmax(on_input)[tf.newaxis], log_p], axis=0)
        elif self._rule.input_kind == kinds.RECURSIVE:
            log_p = tf.concat([tf.math.log(rows.p_input)[tf.newaxis], log_p], axis=0)
        return h, log_p

    def _update(
        self, weights: _Weights, rows: _Chunk, count: tf.Tensor
    ) -> tuple[_Weights, tf.Tensor, tf.Tensor]:
        """Learn one group: return the new weights, the mixture, and what the input head says."""
        config, rule = self._config, self._rule
        B, alpha = config.update_batch_size, weights["alpha"]
        boost = 1 + rule.head_boost / (1 + tf.cast(count, tf.float64) / HEAD_BOOST_ROWS)
        head_eta = tf.cast(tf.cast(rule.head_rate, tf.float64) * boost, config.dtype)
        h, log_p = self._forward(weights, rows)
        p = tf.exp(log_p)
        target = tf.one_hot(rows.y, config.n_classes, dtype=p.dtype)
        losses = -tf.reduce_sum(log_p * target, axis=2)
        if rule.input_kind == kinds.RECURSIVE:
            losses = tf.concat([rows.input_losses[tf.newaxis], losses[1:]], axis=0)
        if self._n_hedged:
            losses = tf.transpose(rows.hedged)
        losses = tf.reduce_mean(losses * rows.row_weights, axis=1)
        # d(mean loss of each head) / d(its logits), and d(mean hedged loss) / d(logits), both
        # of shape (n_heads, B, C).
        own_error = (p - target) / B * rows.row_weights[:, tf.newaxis]
        hedged_error = alpha[:, tf.newaxis, tf.newaxis] * own_error
        error = hedged_error if rule.by_alpha else own_error
        new = dict(weights)
        if rule.input_kind == kinds.SGD:
            kernel, bias = self._gradient(rows.inputs, error[0])
            new["input_kernel"] = weights["input_kernel"] - head_eta * kernel
            new["input_bias"] = weights["input_bias"] - head_eta * bias
        on_input = int(rule.input_kind != kinds.NO_HEAD)
        first = rule.first_head
        kernel, bias = self._gradient(tf.stack(h[first + 1 :]), error[on_input:])
        new["Theta"] = weights["Theta"] - head_eta * kernel
        new["c"] = weights["c"] - head_eta * bias

        W, b = list(weights["W"]), list(weights["b"])
        from_heads = tf.matmul(hedged_error[on_input:], weights["Theta"], transpose_b=True)
        delta = tf.zeros_like(h[-1])
        for l in reversed(range(len(W))):
            if l >= first:
                delta += from_heads[l - first]
            delta *= tf.cast(h[l + 1] > 0, delta.dtype)
            kernel, bias = self._gradient(h[l], delta)
            if l > 0:
                delta = tf.matmul(delta, weights["W"][l], transpose_b=True)
            W[l], b[l] = W[l] - rule.rate * kernel, b[l] - rule.rate * bias
        new["W"], new["b"] = W, b
        if weights["silent"].shape[0]:
            self._revive(new, h[1:], count)
        new["alpha"] = self._hedge(alpha, losses)
        return new, _mix(alpha, p), p[0]

    def _revive(self, new: _Weights, h: list[tf.Tensor], count: tf.Tensor) -> None:
        """Draw layers anew of which no unit has fired for long."""
        silent = []
        for l, out in enumerate(h):
            fires = tf.reduce_any(out > 0)
            waited = new["silent"][l] + self._config.update_batch_size
            rows = tf.where(fires, tf.zeros_like(waited), waited)
            is_dead = rows >= DEAD_ROWS
            shape = new["W"][l].shape
            n_inputs = shape[0] if l else self._config.n_features

            def drawn(l: int = l, shape: Any = shape, n_inputs: int = n_inputs) -> tf.Tensor:
                normal = _normal(self._rule.seed, count, _places(l, shape, self._config))
                return tf.cast(math.sqrt(2 / n_inputs) * normal, self._config.dtype)

            new["W"][l] = tf.cond(is_dead, drawn, lambda l=l: new["W"][l])
            new["b"][l] = tf.where(is_dead, tf.zeros_like(new["b"][l]), new["b"][l])
            new["met"] += tf.cast(is_dead, tf.int64)
            silent.append(tf.where(is_dead, tf.zeros_like(rows), rows))
        new["silent"] = tf.stack(silent)

    def _gradient(self, h: tf.Tensor, delta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the gradient of a layer's kernel and bias, clipped.

        ``h`` of shape (..., B, in) is what the layer sees and ``delta`` (..., B, out), the
        error at its output. For B = 1 the gradient is the outer product of
        (h, 1) and delta, whose norm is the product of theirs.
        """
        clip = float(self._rule.clip)
        if self._config.update_batch_size == 1:
            if clip > 0:
                squares = tf.reduce_sum(delta**2, -1, keepdims=True) * (
                    1 + tf.reduce_sum(h**2, -1, keepdims=True)
                )
                delta = delta * _clip_factor(squares, clip)
            return tf.linalg.matrix_transpose(h) * delta, delta[..., 0, :]
        kernel, bias = tf.matmul(h, delta, transpose_a=True), tf.reduce_sum(delta, axis=-2)
        if clip > 0:
            squares = tf.reduce_sum(kernel**2, (-2, -1)) + tf.reduce_sum(bias**2, -1)
            factor = _clip_factor(squares, clip)[..., tf.newaxis]
            kernel, bias = kernel * factor[..., tf.newaxis], bias * factor
        return kernel, bias

    def _hedge(self, alpha: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        rule = self._rule
        if rule.hedge_kind == kinds.MINMAX:
            low, high = tf.reduce_min(losses), tf.reduce_max(losses)
            span = high - low
            losses = tf.where(span > 0, (losses - low) / tf.where(span > 0, span, 1), 0)
        elif rule.hedge_kind == kinds.BOUNDED:
            losses = tf.minimum(losses, LOSS_BOUND)
        alpha = alpha * tf.pow(tf.constant(rule.beta, alpha.dtype), losses)
        alpha = tf.maximum(alpha, rule.floor)
        return alpha / tf.reduce_sum(alpha)


def _clip_factor(squares: tf.Tensor, clip: float) -> tf.Tensor:
    norm = tf.sqrt(squares)
    return tf.where(norm > clip, clip / tf.where(norm > clip, norm, 1), 1)


def _mix(alpha: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(alpha[:, tf.newaxis, tf.newaxis] * p, axis=0)


def _places(layer: int, shape: Any, config: ModelConfig) -> np.ndarray:
    """Return where each weight of a layer's kernel is drawn, as the other engine counts."""
    rows = (layer * shape[0] + np.arange(shape[0]))[:, np.newaxis]
    places: np.ndarray = rows * padded_units(config) + np.arange(shape[1])
    return places


def _normal(seed: int, row: tf.Tensor, places: np.ndarray) -> tf.Tensor:
    """Return what :func:`app.model.kernels.chance.normal` does, for an array of places."""
    first, second = (_uniform(seed, row, 2 * places + more) for more in (0, 1))
    return tf.sqrt(-2 * tf.math.log(first)) * tf.cos(2 * math.pi * second)


def _uniform(seed: int, row: tf.Tensor, places: np.ndarray) -> tf.Tensor:
    def constant(value: int) -> tf.Tensor:
        return tf.constant(value, tf.uint64)

    def mixed(bits: tf.Tensor, shift: int) -> tf.Tensor:
        return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, constant(shift)))

    bits = constant(seed)
    for part in (tf.cast(row, tf.uint64), tf.constant(places, tf.uint64)):
        bits = tf.bitwise.bitwise_xor(bits, part)
        bits += constant(0x9E3779B97F4A7C15)
        bits = mixed(bits, 30) * constant(0xBF58476D1CE4E5B9)
        bits = mixed(bits, 27) * constant(0x94D049BB133111EB)
        bits = mixed(bits, 31)
    top = tf.cast(tf.bitwise.right_shift(bits, constant(11)), tf.float64)
    return (top + 0.5) / 2**53
