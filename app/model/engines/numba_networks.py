"""The networks learned one row at a time, compiled by Numba."""

from __future__ import annotations

import numpy as np

from app.config.model import ModelConfig
from app.model.engines.packed import Packed
from app.model.engines.rows import Lesson
from app.model.engines.rules import network_rule, shallow_rule
from app.model.kernels.network import Network, Rule, learn_network


class NumbaNetworks:
    """:class:`app.model.engines.rows.Networks` for updates of one row.

    Notes
    -----
    Compiled once for each dtype, whatever the sizes and the options, and kept on disk for
    the next process where there is a place for it.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._rule, self._shallow = network_rule(config), shallow_rule(config)

    def take(self, packed: Packed) -> None:
        self._network = packed.network

    def give(self, packed: Packed) -> None:
        """Do nothing: the packed arrays are what is learned."""

    def compile(self) -> None:
        """Do nothing: learning no rows compiles all."""

    def learn(self, packed: Packed, lesson: Lesson) -> np.ndarray:
        return self._learn(packed.network, self._rule, lesson)

    def learn_shallow(self, packed: Packed, lesson: Lesson) -> np.ndarray:
        plain = lesson._replace(
            p_input=np.zeros_like(lesson.p_input), hedged=np.zeros((0, 1), lesson.hedged.dtype)
        )
        return self._learn(packed.shallow, self._shallow, plain)

    @property
    def alpha(self) -> np.ndarray:
        return self._network.alpha.copy()

    @property
    def n_reset(self) -> int:
        return int(self._network.met.sum())

    def _learn(self, network: Network, rule: Rule, lesson: Lesson) -> np.ndarray:
        config, (rows, y, weights, count, _, p, losses, hedged) = self._config, lesson
        mixed = np.empty((len(y), config.n_classes), rows.z.dtype)
        learn_network(
            *rows[:3], y, weights, count, config.n_features, network, rule, p, losses, hedged, mixed
        )
        return mixed
