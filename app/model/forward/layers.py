"""What the Keras network is made of beside dense layers."""

from __future__ import annotations

from app.config.learning import LEAST_EXPERT
from app.config.model import ModelConfig
from app.model.backend import tf
from app.model.forward.inputs import tree_rows
from app.model.forward.scaler import known_or_mean, standardized
from app.model.state import spread_name

# After the backend, which imports TensorFlow its own way.
import keras  # isort: skip


class RunningStandardizer(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Standardises numbers by moments that the learner keeps, see :mod:`app.model.forward.scaler`.

    Parameters
    ----------
    config
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="standardizer", dtype=config.dtype, trainable=False, autocast=False)
        wide = {"shape": (config.n_numbers,), "initializer": "zeros", "dtype": "float64"}
        self._config, has_window = config, bool(config.scaler_window)
        self.mean = self.add_weight(name="mean", autocast=False, **wide)
        self.spread = self.add_weight(name="spread", autocast=False, **wide)
        self.row_count = self.known_count = None
        if config.imputes and not has_window:
            self.known_count = self.add_weight(name="known_count", autocast=False, **wide)
        if not has_window:
            self.row_count = self.add_weight(
                name="count", shape=(), initializer="zeros", dtype="int64", autocast=False
            )

    def call(self, x: tf.Tensor) -> tf.Tensor:
        mean, spread = tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.spread)
        x = tf.cast(x, tf.float64)
        count = tf.ones((), tf.float64)
        if self.known_count is not None:
            count = tf.convert_to_tensor(self.known_count)
        elif self.row_count is not None:
            count = tf.cast(tf.convert_to_tensor(self.row_count), tf.float64)
        return standardized(x, mean, spread, count, self._config)

    def named_variables(self) -> dict[str, keras.Variable]:
        """Return its variables by their state key."""
        named = {"scaler_mean": self.mean, spread_name(self._config): self.spread}
        if self.row_count is not None:
            named["row_count"] = self.row_count
        if self.known_count is not None:
            named["scaler_count"] = self.known_count
        return named


class Numbers(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Numbers as they are, but for missing ones, which are 0."""

    def __init__(self, dtype: str) -> None:
        super().__init__(name="numbers", dtype=dtype, trainable=False, autocast=False)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return known_or_mean(tf.cast(x, self.compute_dtype), x)


class Trees(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types.
    """Two kinds of trees, and the geometric mean of what each kind's leaves say.

    Calling it on rows of shape (n, D), float64, gives probabilities of shape (2, n, C).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(name="trees", dtype=config.dtype, trainable=False, autocast=False)
        T, M = config.n_trees or 0, 2 * config.n_tree_leaves - 1
        self._n_careful = config.n_careful_trees
        self._config = config

        def array(name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
            return self.add_weight(
                name=name, shape=shape, initializer="zeros", dtype=dtype, autocast=False
            )

        self.feature = array("feature", (T, M), "int32")
        self.threshold = array("threshold", (T, M), config.dtype)
        self.child = array("child", (T, M), "int32")
        self.counts = array("counts", (T, M, config.n_classes), config.dtype)
        self.origin = None
        if config.scaler_window:
            self.origin = array("origin", (config.n_numbers,), "float64")

    def call(self, X: tf.Tensor) -> tf.Tensor:
        origin = None if self.origin is None else tf.convert_to_tensor(self.origin)
        rows = tree_rows(tf.cast(X, tf.float64), origin, self._config)
        feature, child = (tf.convert_to_tensor(each) for each in (self.feature, self.child))
        threshold = tf.convert_to_tensor(self.threshold)
        T, M = feature.shape
        n, F = tf.shape(rows)[0], rows.shape[1]
        # All nodes of all trees in one row, and all values of all rows in another.
        roots = tf.range(T)[tf.newaxis] * M
        feature, child = (
            tf.reshape(feature, [-1]),
            tf.reshape(child + roots[0][:, tf.newaxis], [-1]),
        )
        threshold = tf.reshape(threshold, [-1])
        values, starts = tf.reshape(rows, [-1]), tf.range(n)[:, tf.newaxis] * F

        def down(node: tf.Tensor, j: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            value = tf.gather(values, starts + tf.maximum(j, 0))
            limit = tf.gather(threshold, node)
            right = value > limit
            if self._config.category_columns:
                right = tf.where(j >= self._config.n_numbers, value != limit, right)
            below = tf.gather(child, node) + tf.cast(right, tf.int32)
            node = tf.where(j >= 0, below, node)
            return node, tf.gather(feature, node)

        node = tf.broadcast_to(roots, [n, T])
        node, _ = tf.while_loop(
            lambda _, j: tf.reduce_any(j >= 0), down, (node, tf.gather(feature, node))
        )
        counts = tf.reshape(tf.convert_to_tensor(self.counts), [T * M, -1])
        C = counts.shape[1]
        smoothed = (counts + 1 / C) / (tf.reduce_sum(counts, axis=1, keepdims=True) + 1)
        logs = tf.gather(tf.math.log(tf.maximum(smoothed, LEAST_EXPERT)), node)
        kinds = logs[:, : self._n_careful], logs[:, self._n_careful :]
        means = tf.stack([tf.reduce_mean(kind, axis=1) for kind in kinds])
        return tf.nn.softmax(means)

    def named_variables(self) -> dict[str, keras.Variable]:
        """Return its variables by their state key."""
        origin = {} if self.origin is None else {"scaler_origin": self.origin}
        return origin | {
            "tree_feature": self.feature,
            "tree_threshold": self.threshold,
            "tree_child": self.child,
            "tree_counts": self.counts,
        }


def stacked(experts: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the stack's mixture, shape (n, C), of probabilities of shape (E, n, C)."""
    logs = tf.math.log(tf.maximum(experts, LEAST_EXPERT))
    logs -= tf.reduce_mean(logs, axis=2, keepdims=True)
    # Not a power, which XLA takes by way of logarithms.
    sharp = tf.square(tf.square(tf.square(experts)))
    votes = 2 * (sharp / tf.reduce_sum(sharp, axis=2, keepdims=True) - 1 / experts.shape[2])
    features = tf.concat([logs, votes], axis=0)
    return tf.nn.softmax(tf.tensordot(tf.cast(weights, experts.dtype), features, axes=1))
