"""A watch for hidden layers that have died."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.config.model import ModelConfig
from app.model.state import State

_LEAST_ROWS = 256
"""In fewer rows, a sound layer may by chance not fire."""


class LayerWatch:
    """Warns once of hidden layers that no longer pass anything on.

    Parameters
    ----------
    config
    warn
        Called with the message.
    """

    def __init__(self, config: ModelConfig, warn: Callable[[str], None]) -> None:
        self._config = config
        self._warn = warn
        self._has_warned = False

    def __call__(self, state: State, features: np.ndarray, n_reset: int) -> None:
        """Look at what a state does with the last rows, of shape (n, D), if there are enough.

        ``n_reset`` layers have started over in these rows, which a model with stacking does.
        """
        rows = features[-_LEAST_ROWS:]
        if n_reset and not self._has_warned:
            self._has_warned = True
            self._warn(
                "a hidden layer of which no unit fired any more has started over. A smaller "
                "--learning-rate or --gradient-clip-norm keeps layers alive"
            )
        if self._config.stacking or self._has_warned or len(rows) < _LEAST_ROWS:
            return
        # On first use: with it comes TensorFlow, which is imported while the JVM starts.
        from app.model.forward.network import dead_layers

        dead = dead_layers(state, rows, self._config)
        if dead:
            self._has_warned = True
            layers = ", ".join(str(layer + 1) for layer in dead)
            self._warn(
                f"no unit of hidden layer {layers} fires in the last {len(rows)} rows, so the "
                "heads from there on learn nothing but how common the classes are. Create the "
                "model anew with a smaller --learning-rate or --gradient-clip-norm"
            )
