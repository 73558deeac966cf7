"""Running standardisation of rows, part of the state.

Moments follow B. P. Welford, "Note on a Method for Calculating Corrected Sums
of Squares and Products", Technometrics 4(3), 1962. They are float64 whatever
the network's dtype: a float32 sum of squares stops growing after some millions
of rows.
"""

from __future__ import annotations

from app.config.learning import SOFT_LIMIT
from app.config.model import ModelConfig
from app.model.backend import tf


def standardize(x: tf.Tensor, mean: tf.Tensor, m2: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return ``(x - mean) / std``, float64.

    Parameters
    ----------
    x : tf.Tensor, shape (n, D), float64
        The difference of two numbers that are large and close is taken before anything is
        rounded: seconds since 1970 have no float32 of their own.
    mean, m2 : tf.Tensor, shape (D,) or (n, D), float64
    count : tf.Tensor, broadcastable to ``mean``, float64
        Rows in the moments. A feature with no variance so far gives 0.
    """
    variance = m2 / tf.maximum(count, 1.0)
    deviation = x - mean
    return tf.where(variance > 0, deviation / tf.sqrt(variance), 0.0)


def soft_limited(z: tf.Tensor) -> tf.Tensor:
    """Return deviations, of which what is beyond the limit grows by its logarithm."""
    size = tf.abs(z)
    beyond = SOFT_LIMIT * (1 + tf.math.log(tf.maximum(size, SOFT_LIMIT) / SOFT_LIMIT))
    return tf.sign(z) * tf.where(size > SOFT_LIMIT, beyond, size)


def standardized(
    x: tf.Tensor, mean: tf.Tensor, spread: tf.Tensor, count: tf.Tensor, config: ModelConfig
) -> tf.Tensor:
    """Return numbers as the network sees them, of the model's dtype.

    Parameters
    ----------
    x : tf.Tensor, shape (n, N), float64
    mean, spread : tf.Tensor, shape (N,), float64
        See :func:`app.model.state.spread_name`.
    count : tf.Tensor, broadcastable to ``mean``, float64
        Rows in the moments; 1 where the spread is a variance.
    config
    """
    z = standardize(x, mean, spread, count)
    if config.scaler_window:
        z = soft_limited(z)
    z = tf.cast(z, config.dtype)
    return known_or_mean(z, x) if config.imputes else z


def known_or_mean(z: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return standardised numbers, 0 where a number is missing."""
    return tf.where(tf.math.is_nan(x), tf.zeros((), z.dtype), z)
