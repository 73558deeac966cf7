"""Columns of rows, and the inputs that each is."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from app.config.model import ModelConfig
from app.errors import InvalidRowsError


def as_rows(X: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Return ``X`` as float64 in C order: it is rounded to the model's dtype once standardised.

    Raises
    ------
    InvalidRowsError
        When ``X`` is not (n, n_features), or holds an infinity, a NaN where nothing may be missing,
        or what is no slot of a category.
    """
    try:
        X = np.ascontiguousarray(X, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidRowsError(f"X must be numeric: {error}") from error
    if X.ndim != 2 or X.shape[1] != config.n_features:
        raise InvalidRowsError(f"X must have shape (n, {config.n_features}), not {X.shape}")
    if not config.standardize and (np.abs(X) > np.finfo(config.dtype).max).any():
        raise InvalidRowsError(f"X holds a number that {config.dtype} does not hold")
    usable = np.isfinite(X)
    if config.imputes:
        numbers = list(config.number_columns)
        usable[:, numbers] |= np.isnan(X[:, numbers])
    if not usable.all():
        row = int(np.flatnonzero(~usable.all(axis=1))[0])
        raise InvalidRowsError(f"X holds a NaN or an infinity, first in row {row}")
    for column in config.category_columns:
        slots, n = X[:, column], config.category_slots[column]
        if not ((slots >= 0) & (slots < n) & (slots % 1 == 0)).all():
            raise InvalidRowsError(f"column {column} of X must hold slots 0..{n - 1}")
    return X


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
