"""Hedge Backpropagation: what a learner is, whichever compiler it is made with.

D. Sahoo, Q. Pham, J. Lu, S. C. H. Hoi, "Online Deep Learning: Learning Deep
Neural Networks on the Fly", IJCAI 2018, algorithm 1 and equations (4), (5), (7)
and (8). Letters as there: W hidden kernels, Theta head kernels, alpha hedge
weights, beta discount, s smoothing, eta learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from app.config.model import ModelConfig
from app.model.state import State

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
        eta = _resolved(config.learning_rate)
        return cls(
            eta=eta,
            head_eta=eta * _resolved(config.head_rate),
            head_boost=_resolved(config.head_boost),
            scale_heads_by_alpha=_resolved(config.scale_heads_by_alpha),
            beta=_resolved(config.beta),
            floor=_resolved(config.smoothing) / config.n_hidden_layers,
            clip=_resolved(config.gradient_clip_norm),
            hedge_loss=_resolved(config.hedge_loss),
            input_head=_resolved(config.input_head),
        )


def _resolved(option: _T | None) -> _T:
    # A ModelConfig has set what was left to its variant, which its fields' types do not say.
    assert option is not None
    return option


class Learner(Protocol):
    """The compiled update of one configuration, and the state that it changes.

    The gradient of the hedged loss is one backward pass: at each layer the
    head's own error, weighted by its alpha, is added to the error that comes
    from above. Every part of one update uses the alpha from before it.

    A head's own kernel learns from its loss at ``head_rate * eta``, raised at first
    by ``head_boost``; ``scale_heads_by_alpha`` multiplies that by its alpha, as
    equation (5) has it.
    What reaches the hidden layers is weighted by alpha in any case.

    With ``update_batch_size`` B > 1 the gradients and the losses of B rows in a
    row are averaged into one update.

    The recursive input head is logistic regression learned as a Kalman filter
    does, with a covariance P of its weights, (D + 1) x (D + 1), shared by the
    classes and I at first. For x = (z, 1), probabilities p and target t::

        w = (1 - sum p^2) / (C - 1)          mean curvature of the loss in the logits
        Theta += P x (t - p)' / (1 + w x'Px)
        P -= w (P x)(P x)' / (1 + w x'Px)

    Each 0/1 input, see :class:`app.config.model.ModelConfig`, has a variance of its own and no
    covariances: a group of its own in the decoupled extended Kalman filter of G. V. Puskorius and
    L. A. Feldkamp, "Decoupled Extended Kalman Filter Training of Feedforward Layered Networks",
    IJCNN 1991. So a row costs what its columns are, and not what their slots are.

    A row that counts c times as much has c times the loss and the gradient, before that is
    clipped, and c times the curvature w in the recursion.

    With two classes, that is the extended Kalman filter of their log-odds. It is
    the fast learner beside the deep ones that A. Valkanas, B. Oreshkin and
    M. Coates propose in "MODL: Multilearner Online Deep Learning", AISTATS 2025.
    Rows of one group are taken one after the other.
    """

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a checked state, without the pending rows, in place of the present one."""

    def get_state(self) -> State:
        """Return a copy of the state, without the pending rows."""

    def learn(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Learn rows in order.

        Parameters
        ----------
        X : ndarray, shape (n, D), float64
        y : ndarray of int32, shape (n,)

        Returns
        -------
        ndarray, shape (n, C)
            Each row's probabilities from before its group of B was learned. The last
            n % B rows are predicted and not learned.
        """

    def compile(self) -> None:
        """Compile the update now rather than with the first row. Changes nothing.

        May be called by another thread than the one that learns.
        """

    @property
    def alpha(self) -> np.ndarray:
        """Hedge weights, shape (n_heads,), shallow to deep; they sum to 1."""


def learner_of(config: ModelConfig) -> Learner:
    """Return a learner, without a state, by the engine that ``config`` names."""
    if config.engine == "numba":
        from app.model.numba_learner import NumbaLearner

        return NumbaLearner(config)
    from app.model.xla_learner import XlaLearner

    return XlaLearner(config)
