"""What defines a model: its architecture and how it learns."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from app.errors import InvalidParameterError

HEDGE_LOSSES = ("bounded", "minmax", "raw")
LOSS_BOUND = 4.0
"""Nats at which ``hedge_loss="bounded"`` cuts a head's cross-entropy."""
HEADS = ("all", "last")
INPUT_HEADS = ("recursive", "sgd", "none")
ENGINES = ("numba", "xla")
DTYPES = ("float32", "float64")
HEAD_BOOST_ROWS = 2000
"""Rows after which half of ``head_boost`` is left."""
DEFAULT_VARIANT = "fast"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT_VARIANT: {
        "learning_rate": 0.04,
        "beta": 0.99,
        "smoothing": 0.2,
        "hedge_loss": "minmax",
        "head_rate": 0.015625,
        "head_boost": 3.0,
        "scale_heads_by_alpha": False,
        "input_head": "recursive",
        "gradient_clip_norm": 3.0,
    },
    "paper": {
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
    "backprop": {
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

MAX_RECURSIVE_FEATURES = 500
"""Beyond as many features, a row costs more in the recursive head's covariance than in the
network; the input head then learns by gradient unless it is told otherwise."""


def require(ok: bool, name: str, expected: str, value: object) -> None:
    if not ok:
        raise InvalidParameterError(name, f"must be {expected}, not {value!r}")


def is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What defines a model: its architecture and how it learns.

    Fixed when the model is created and stored with every state, so that a
    resumed run learns exactly as the first one did.

    Parameters
    ----------
    n_features : int
        Length D of a row.
    n_classes : int
        Number of classes C, at least 2.
    n_hidden_layers : int
        Depth L.
    n_hidden_units : int
        Width H of each hidden layer.
    variant : {"fast", "paper", "backprop"}
        What the options below are when they are None, see ``VARIANTS``: the default, tuned
        on unlike streams; Hedge Backpropagation as published; or one head on the last
        layer, which is online backpropagation of a fixed depth.
    learning_rate : float, optional
        Step size eta of plain SGD.
    beta : float, optional
        Hedge discount, in (0, 1).
    smoothing : float, optional
        s in the floor s / L under each alpha, in [0, 1].
    hedge_loss : {"bounded", "minmax", "raw"}, optional
        The loss given to the hedge: cross-entropies in nats, as they are (``raw``), cut at
        4 (``bounded``), or rescaled to [0, 1] over the heads of one row (``minmax``).
    head_rate : float, optional
        Step size of the heads, as a multiple of ``learning_rate``.
    head_boost : float, optional
        By how much that is raised at first: after n rows, it is multiplied by
        ``1 + head_boost / (1 + n / 2000)``.
    scale_heads_by_alpha : bool, optional
        Whether a head's step is scaled by its alpha too, as published.
    heads : {"all", "last"}, optional
        Whether each hidden layer has a head, or the last one only.
    input_head : {"recursive", "sgd", "none"}, optional
        How a head on the input itself (head 0 of the paper) learns, if there is one: by
        recursive logistic regression, or by gradient as the others.
    standardize : bool
        Whether rows are standardised by running moments.
    gradient_clip_norm : float, optional
        Largest Euclidean norm of one layer's gradient; 0 leaves it alone.
    update_batch_size : int
        Rows averaged into one update; 1 is the paper's.
    engine : {"numba", "xla"}, optional
        What the update is compiled with. Both compute the same to rounding; None takes
        Numba for updates of one row and XLA for larger ones.
    dtype : {"float32", "float64"}
        Of weights and arithmetic. Running moments are float64 always.
    seed : int
        Of the initial weights.

    Raises
    ------
    InvalidParameterError
        When a value is outside its range.
    """

    n_features: int
    n_classes: int
    n_hidden_layers: int = 20
    n_hidden_units: int = 100
    variant: str = DEFAULT_VARIANT
    learning_rate: float | None = None
    beta: float | None = None
    smoothing: float | None = None
    hedge_loss: str | None = None
    head_rate: float | None = None
    head_boost: float | None = None
    scale_heads_by_alpha: bool | None = None
    heads: str | None = None
    input_head: str | None = None
    standardize: bool = True
    gradient_clip_norm: float | None = None
    update_batch_size: int = 1
    engine: str | None = None
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_features", "n_hidden_layers", "n_hidden_units", "update_batch_size"):
            value = getattr(self, name)
            require(is_int(value) and value >= 1, name, "an integer of at least 1", value)
        require(
            is_int(self.n_classes) and self.n_classes >= 2,
            "n_classes",
            "an integer of at least 2",
            self.n_classes,
        )
        require(is_int(self.seed) and self.seed >= 0, "seed", "an integer of at least 0", self.seed)
        require(self.variant in VARIANTS, "variant", "one of " + ", ".join(VARIANTS), self.variant)
        self._resolve()
        rate, clip = self.learning_rate, self.gradient_clip_norm
        require(is_real(rate) and rate > 0, "learning_rate", "a number above 0", rate)
        ratio = self.head_rate
        require(is_real(ratio) and ratio > 0, "head_rate", "a number above 0", ratio)
        boost = self.head_boost
        require(is_real(boost) and boost >= 0, "head_boost", "a number of at least 0", boost)
        require(is_real(self.beta) and 0 < self.beta < 1, "beta", "between 0 and 1", self.beta)
        require(
            is_real(self.smoothing) and 0 <= self.smoothing <= 1,
            "smoothing",
            "from 0 to 1",
            self.smoothing,
        )
        require(
            is_real(clip) and clip >= 0,
            "gradient_clip_norm",
            "a number of at least 0",
            clip,
        )
        for name, choices in (
            ("hedge_loss", HEDGE_LOSSES),
            ("heads", HEADS),
            ("input_head", INPUT_HEADS),
            ("engine", ENGINES),
            ("dtype", DTYPES),
        ):
            value = getattr(self, name)
            require(value in choices, name, "one of " + ", ".join(choices), value)
        for name in ("scale_heads_by_alpha", "standardize"):
            value = getattr(self, name)
            require(isinstance(value, bool), name, "True or False", value)
        one_row = self.engine == "xla" or self.update_batch_size == 1
        require(one_row, "engine", "xla, for an update_batch_size above 1", self.engine)

    def _resolve(self) -> None:
        """Set what was left to the variant, so that a stored state says all of it."""
        settings = {"heads": "all", "engine": "numba" if self.update_batch_size == 1 else "xla"}
        settings |= VARIANTS[self.variant]
        if settings["input_head"] == "recursive" and self.n_features > MAX_RECURSIVE_FEATURES:
            settings["input_head"] = "sgd"
        for name, value in settings.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @property
    def head_layers(self) -> tuple[int, ...]:
        """Hidden layers that have a head, from 0, in the order of their alphas."""
        first = 0 if self.heads == "all" else self.n_hidden_layers - 1
        return tuple(range(first, self.n_hidden_layers))

    @property
    def has_input_head(self) -> bool:
        return self.input_head != "none"

    @property
    def n_heads(self) -> int:
        """How many alphas there are; the input head's is the first."""
        return len(self.head_layers) + self.has_input_head

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
