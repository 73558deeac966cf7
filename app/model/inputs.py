"""The inputs of the network that are 0 or 1: missing numbers, and the slots of categories.

See the notes of :class:`app.config.model.ModelConfig` for their order.
"""

from __future__ import annotations

from itertools import accumulate

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


def places_of(config: ModelConfig) -> dict[str, np.ndarray]:
    """Return where each column's inputs are, all int64.

    Returns
    -------
    dict
        ``numbers`` (N,), their columns; ``indicators`` (N,), the input of each one's missing
        values, -1 where there is none; ``categories`` (K,), their columns, and ``firsts`` (K,), the
        first of each one's inputs.
    """
    numbers, categories = config.number_columns, config.category_columns
    input_of = {column: config.n_numbers + i for i, column in enumerate(config.indicators)}
    begin = config.n_numbers + len(config.indicators)
    slots = [config.category_slots[column] for column in categories]
    places = {
        "numbers": list(numbers),
        "indicators": [input_of.get(column, -1) for column in numbers],
        "categories": list(categories),
        "firsts": list(accumulate(slots, initial=begin))[:-1],
    }
    return {name: np.array(found, np.int64) for name, found in places.items()}
