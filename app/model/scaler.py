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


def known_or_mean(z: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Return standardised numbers, 0 where a number is missing."""
    return tf.where(tf.math.is_nan(x), tf.zeros((), z.dtype), z)


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


def learn_and_impute(
    x: tf.Tensor, mean: tf.Tensor, m2: tf.Tensor, count: tf.Tensor, dtype: str
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Do what :func:`learn_and_standardize` does with rows of which numbers may be missing.

    Parameters
    ----------
    x : tf.Tensor, shape (n, D), float64
        NaN where a number is missing. It leaves the moments alone, and becomes 0.
    mean, m2, count : tf.Tensor, shape (D,), float64

    Returns
    -------
    z : tf.Tensor, shape (n, D), ``dtype``
    mean, m2, count : tf.Tensor, shape (D,), float64
        The moments after the last row.
    """
    known = tf.logical_not(tf.math.is_nan(x))
    counts = count + tf.cumsum(tf.cast(known, tf.float64))
    # NaN where the column has none in these rows.
    first = tf.gather(
        tf.transpose(x), tf.argmax(tf.cast(known, tf.int32), axis=0), axis=1, batch_dims=1
    )
    zero = tf.zeros((), tf.float64)
    origin = tf.where(count > 0, mean, tf.where(tf.math.is_nan(first), zero, first))
    deviations = tf.where(known, x - origin, zero)
    means = origin + tf.cumsum(deviations) / tf.maximum(counts, 1.0)
    means_before = tf.concat([mean[tf.newaxis], means[:-1]], axis=0)
    counts_before = tf.concat([count[tf.newaxis], counts[:-1]], axis=0)
    # The first number of a column has no mean before it, and is its own.
    means_before = tf.where(counts_before > 0, means_before, origin)
    products = tf.where(known, (x - means_before) * (x - means), zero)
    m2s = m2 + tf.cumsum(products)
    z = known_or_mean(standardize(x, means, m2s, counts, dtype), x)
    last_mean = tf.where(counts[-1] > 0, means[-1], mean)
    return z, last_mean, m2s[-1], counts[-1]
