"""How a model's settings enter an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from app.config.learning import SHALLOW_CLIP, SHALLOW_RATE
from app.config.model import ModelConfig
from app.model.kernels import network
from app.model.kernels.network import Rule

_HEDGE_KINDS = {"raw": network.RAW, "minmax": network.MINMAX, "bounded": network.BOUNDED}
_INPUT_KINDS = {"none": network.NO_HEAD, "sgd": network.SGD, "recursive": network.RECURSIVE}
_T = TypeVar("_T")


@dataclass(frozen=True)
class UpdateRule:
    """How a model's settings enter an update.

    Attributes
    ----------
    eta
        Step size of the hidden layers.
    head_eta
        Step size of the heads, ``head_rate * eta``, before it is boosted.
    head_boost
        By how much ``head_eta`` is raised at first; see :class:`app.config.model.ModelOptions`.
    scale_heads_by_alpha
        Whether a head's step is multiplied by its alpha.
    beta
        Hedge discount.
    floor
        Least value of an alpha before they are normalised, s / L.
    clip
        Largest Euclidean norm of one layer's gradient; 0 leaves it alone.
    hedge_loss : {"bounded", "minmax", "raw"}
    input_head : {"recursive", "sgd", "none"}
    """

    eta: float
    head_eta: float
    head_boost: float
    scale_heads_by_alpha: bool
    beta: float
    floor: float
    clip: float
    hedge_loss: str
    input_head: str

    @classmethod
    def of(cls, config: ModelConfig) -> UpdateRule:
        eta = resolved(config.learning_rate)
        return cls(
            eta=eta,
            head_eta=eta * resolved(config.head_rate),
            head_boost=resolved(config.head_boost),
            scale_heads_by_alpha=resolved(config.scale_heads_by_alpha),
            beta=resolved(config.beta),
            floor=resolved(config.smoothing) / config.n_hidden_layers,
            clip=resolved(config.gradient_clip_norm),
            hedge_loss=resolved(config.hedge_loss),
            input_head=resolved(config.input_head),
        )


def resolved(option: _T | None) -> _T:
    """Return a setting that a ModelConfig has set, if it was left to the variant."""
    assert option is not None
    return option


def network_rule(config: ModelConfig) -> Rule:
    """Return how the network of the paper learns, for the kernels."""
    rule, real = UpdateRule.of(config), np.dtype(config.dtype).type
    return Rule(
        config.n_hidden_units,
        config.head_layers[0],
        _INPUT_KINDS[rule.input_head],
        _HEDGE_KINDS[rule.hedge_loss],
        real(rule.eta),
        real(rule.head_eta),
        rule.head_boost,
        rule.scale_heads_by_alpha,
        real(rule.beta),
        real(rule.floor),
        real(rule.clip),
        config.seed,
    )


def shallow_rule(config: ModelConfig) -> Rule:
    """Return how the shallow network learns: by online backpropagation of its one head."""
    real = np.dtype(config.dtype).type
    rate, last = real(SHALLOW_RATE), (config.shallow_layers or 0) - 1
    return network_rule(config)._replace(
        first_head=last,
        input_kind=network.NO_HEAD,
        # Of one head, this leaves alpha at 1 exactly.
        hedge_kind=network.MINMAX,
        rate=rate,
        head_rate=rate,
        head_boost=0.0,
        by_alpha=False,
        clip=real(SHALLOW_CLIP),
    )
