"""What the options of a model are where the user gives none."""

from __future__ import annotations

from typing import Any

DEFAULT_VARIANT = "stacked"
ALONE: dict[str, Any] = {
    "stacking": False,
    "scaler_window": 0,
    "recursive_drift": 0.0,
    "n_random_features": 0,
    "shallow_layers": 0,
    "n_trees": 0,
}
"""What there is where the network learns alone."""
_FAST: dict[str, Any] = {
    "learning_rate": 0.04,
    "beta": 0.99,
    "smoothing": 0.2,
    "hedge_loss": "minmax",
    "head_rate": 0.015625,
    "head_boost": 3.0,
    "scale_heads_by_alpha": False,
    "input_head": "recursive",
    "gradient_clip_norm": 3.0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT_VARIANT: _FAST
    | {
        "stacking": True,
        "scaler_window": 5000,
        "recursive_drift": 1e-6,
        "n_random_features": 95,
        "shallow_layers": 3,
        "n_trees": 20,
    },
    "fast": _FAST | ALONE,
    "paper": ALONE
    | {
        "learning_rate": 0.01,
        "beta": 0.99,
        "smoothing": 0.2,
        "hedge_loss": "minmax",
        "head_rate": 1.0,
        "head_boost": 0.0,
        "scale_heads_by_alpha": True,
        "input_head": "none",
        "gradient_clip_norm": 0.0,
    },
    "backprop": ALONE
    | {
        "learning_rate": 0.01,
        "beta": 0.99,
        "smoothing": 0.2,
        "hedge_loss": "raw",
        "head_rate": 1.0,
        "head_boost": 0.0,
        "scale_heads_by_alpha": False,
        "input_head": "none",
        "gradient_clip_norm": 10.0,
        "heads": "last",
    },
}
"""What each variant sets, where the user does not."""
