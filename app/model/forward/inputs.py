"""The inputs of the network that are 0 or 1: missing numbers, and the slots of categories.

See the notes of :class:`app.config.model.ModelConfig` for their order.
"""

from __future__ import annotations

import numpy as np

from app.config.model import ModelConfig
from app.model.backend import tf


def numbers_of(X: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """Return the columns of rows that are numbers, shape (n, N), float64."""
    if not config.category_slots:
        return X
    return tf.gather(X, tf.constant(config.number_columns, tf.int32), axis=1)


def with_binary(z: tf.Tensor, X: tf.Tensor, config: ModelConfig) -> tf.Tensor:
    """Return all inputs of rows, shape (n, W).

    Parameters
    ----------
    z : tf.Tensor, shape (n, N)
        The standardised numbers.
    X : tf.Tensor, shape (n, D), float64
        The rows.
    config
    """
    if config.n_inputs == config.n_numbers:
        return z
    parts = [z]
    if config.indicators:
        parts.append(tf.cast(tf.math.is_nan(tf.gather(X, config.indicators, axis=1)), z.dtype))
    for column in config.category_columns:
        slots = tf.cast(X[:, column], tf.int32)
        parts.append(tf.one_hot(slots, config.category_slots[column], dtype=z.dtype))
    return tf.concat(parts, axis=1)


def tree_rows(X: tf.Tensor, origin: tf.Tensor | None, config: ModelConfig) -> tf.Tensor:
    """Return what trees see of rows, shape (n, D), see :func:`app.model.kernels.scaling.tree_rows`.

    Parameters
    ----------
    X : tf.Tensor, shape (n, D), float64
    origin : tf.Tensor, shape (N,), float64, or None for 0
    config
    """
    largest = float(np.finfo(config.dtype).max)
    numbers = numbers_of(X, config)
    found = numbers if origin is None else numbers - origin
    found = tf.clip_by_value(found, -largest, largest)
    found = tf.where(tf.math.is_nan(found), tf.constant(-largest, found.dtype), found)
    if config.category_columns:
        found = tf.concat([found, tf.gather(X, config.category_columns, axis=1)], axis=1)
    return tf.cast(found, config.dtype)
