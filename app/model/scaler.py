"""Running standardisation of rows, part of the state.

Moments follow B. P. Welford, "Note on a Method for Calculating Corrected Sums
of Squares and Products", Technometrics 4(3), 1962. They are float64 whatever
the network's dtype: a float32 sum of squares stops growing after some millions
of rows.
"""

from __future__ import annotations

from app.model.backend import tf


def standardize(
    x: tf.Tensor, mean: tf.Tensor, m2: tf.Tensor, count: tf.Tensor, dtype: str
) -> tf.Tensor:
    """Return ``(x - mean) / std`` in ``dtype``.

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
    z = tf.where(variance > 0, deviation / tf.sqrt(variance), 0.0)
    return tf.cast(z, dtype)


def learn_and_standardize(
    x: tf.Tensor, mean: tf.Tensor, m2: tf.Tensor, count: tf.Tensor, dtype: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Add rows to the moments one by one, each standardised by those that include it.

    Parameters
    ----------
    x : tf.Tensor, shape (n, D), float64
    mean, m2 : tf.Tensor, shape (D,), float64
    count : tf.Tensor, scalar, float64
        Rows in the moments before ``x``.

    Returns
    -------
    z : tf.Tensor, shape (n, D), ``dtype``
    mean, m2 : tf.Tensor, shape (D,), float64
        The moments after the last row.
    """
    n = x.shape[0]
    counts = count + tf.range(1, n + 1, dtype=tf.float64)[:, tf.newaxis]
    # Sums of deviations, and the first row's from itself: a constant feature keeps a variance
    # of exactly 0, and so stays 0 when standardised.
    origin = tf.where(count > 0, mean, x[0])
    means = origin + tf.cumsum(x - origin) / counts
    means_before = tf.concat([mean[tf.newaxis], means[:-1]], axis=0)
    m2s = m2 + tf.cumsum((x - means_before) * (x - means))
    return standardize(x, means, m2s, counts, dtype), means[-1], m2s[-1]
