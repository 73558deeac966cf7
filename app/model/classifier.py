"""The hedged network as an estimator in the convention of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.errors import InvalidRowsError
from app.model.backend import tf
from app.model.learner import learner_of
from app.model.network import HedgedNetwork, dead_layers, initial_state
from app.model.scorer import Scorer, as_rows
from app.model.state import State, check_state
from app.model_config import DEFAULT_VARIANT, ModelConfig


class HBPClassifier:
    """A deep classifier that learns from each row as it arrives, by Hedge Backpropagation.

    Parameters
    ----------
    n_features : int
        Length D of a row.
    n_classes : int
        Number of classes C; labels are 0..C-1.
    n_hidden_layers, n_hidden_units : int
        Depth L and width H.
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
        When a parameter is outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from app.model import HBPClassifier
    >>> X = np.random.default_rng(0).normal(size=(500, 4))
    >>> y = (X[:, 0] > X[:, 1]).astype(int)
    >>> model = HBPClassifier(n_features=4, n_classes=2, n_hidden_layers=3, n_hidden_units=16)
    >>> before_each_row = model.partial_fit(X, y)
    >>> before_each_row.shape
    (500, 2)
    >>> bool((model.predict(X) == y).mean() > 0.9)
    True

    References
    ----------
    D. Sahoo, Q. Pham, J. Lu, S. C. H. Hoi, "Online Deep Learning: Learning Deep
    Neural Networks on the Fly", IJCAI 2018, algorithm 1.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        n_hidden_layers: int = 20,
        n_hidden_units: int = 100,
        variant: str = DEFAULT_VARIANT,
        learning_rate: float | None = None,
        beta: float | None = None,
        smoothing: float | None = None,
        hedge_loss: str | None = None,
        head_rate: float | None = None,
        head_boost: float | None = None,
        scale_heads_by_alpha: bool | None = None,
        heads: str | None = None,
        input_head: str | None = None,
        standardize: bool = True,
        gradient_clip_norm: float | None = None,
        update_batch_size: int = 1,
        engine: str | None = None,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        self.config = ModelConfig(
            n_features=n_features,
            n_classes=n_classes,
            n_hidden_layers=n_hidden_layers,
            n_hidden_units=n_hidden_units,
            variant=variant,
            learning_rate=learning_rate,
            beta=beta,
            smoothing=smoothing,
            hedge_loss=hedge_loss,
            head_rate=head_rate,
            head_boost=head_boost,
            scale_heads_by_alpha=scale_heads_by_alpha,
            heads=heads,
            input_head=input_head,
            standardize=standardize,
            gradient_clip_norm=gradient_clip_norm,
            update_batch_size=update_batch_size,
            engine=engine,
            dtype=dtype,
            seed=seed,
        )
        network = HedgedNetwork(self.config)
        self._learner = learner_of(self.config)
        self._scorer = Scorer(self.config, network)
        self.set_state(initial_state(network, self.config))

    @classmethod
    def from_config(cls, config: ModelConfig) -> HBPClassifier:
        """Return a model of these settings that has learned nothing."""
        return cls(**config.to_dict())

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters, as scikit-learn's ``clone`` expects."""
        return self.config.to_dict()

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Learn rows in order, each after it was predicted.

        Parameters
        ----------
        X : array-like, shape (n, n_features)
        y : array-like of int, shape (n,), values in 0..n_classes-1

        Returns
        -------
        ndarray, shape (n, n_classes)
            Probabilities of each row from before that row was learned.

        Raises
        ------
        InvalidRowsError
            When a shape, a value or a label does not fit. Nothing was learned.
        """
        X, y = as_rows(X, self.config), self._as_labels(y, len(X))
        waiting = len(self._pending_labels)
        X = np.concatenate([self._pending_features, X])
        y = np.concatenate([self._pending_labels, y])
        outputs = self._learner.learn(X, y)
        self._scored_state = None
        learned = len(X) - len(X) % self.config.update_batch_size
        self._pending_features, self._pending_labels = X[learned:], y[learned:]
        return outputs[waiting:]

    def compile(self) -> None:
        """Compile the update now rather than with the first row. Changes nothing."""
        self._learner.compile()

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities, shape (n, n_classes), of rows of shape (n, n_features)."""
        if self._scored_state is None:
            state = self._learner.get_state()
            self._scored_state = {name: tf.constant(array) for name, array in state.items()}
        return self._scorer.predict_proba(self._scored_state, X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n,), int64."""
        return self.predict_proba(X).argmax(axis=1)

    def dead_layers(self, X: np.ndarray) -> tuple[int, ...]:
        """Return the layers that :func:`app.model.network.dead_layers` finds.

        Parameters
        ----------
        X : array-like, shape (n, n_features)
        """
        return dead_layers(self._learner.get_state(), as_rows(X, self.config), self.config)

    @property
    def alpha(self) -> np.ndarray:
        """Hedge weights, shape (n_heads,), shallow to deep; they sum to 1."""
        return self._learner.alpha

    def get_state(self) -> State:
        """Return everything that learning changes, see :mod:`app.model.state`."""
        state = self._learner.get_state()
        B, waiting = self.config.update_batch_size, len(self._pending_labels)
        if B > 1:
            features = np.zeros((B - 1, self.config.n_features), self.config.dtype)
            labels = np.zeros(B - 1, np.int32)
            features[:waiting], labels[:waiting] = self._pending_features, self._pending_labels
            state["pending_features"], state["pending_labels"] = features, labels
            state["pending_count"] = np.array(waiting, np.int64)
        return state

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a state in place of the present one.

        Raises
        ------
        StateError
            When it is not of this model's architecture; the present one stays.
        """
        state = check_state(state, self.config)
        waiting = int(state.pop("pending_count", 0))
        empty = np.zeros((0, self.config.n_features), self.config.dtype)
        self._pending_features = state.pop("pending_features", empty)[:waiting]
        self._pending_labels = state.pop("pending_labels", np.zeros(0, np.int32))[:waiting]
        self._learner.set_state(state)
        self._scored_state = None

    def _as_labels(self, y: np.ndarray, n_rows: int) -> np.ndarray:
        y = np.asarray(y)
        if y.shape != (n_rows,):
            raise InvalidRowsError(f"y must have shape ({n_rows},), not {y.shape}")
        C = self.config.n_classes
        if n_rows and not (np.issubdtype(y.dtype, np.integer) and y.min() >= 0 and y.max() < C):
            raise InvalidRowsError(
                f"y must be integers in 0..{C - 1}, not {y.dtype} {np.unique(y)[:5]}"
            )
        return y.astype(np.int32)
