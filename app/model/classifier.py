"""The hedged network as an estimator in the convention of scikit-learn."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

import numpy as np

from app.config.model import ModelConfig
from app.errors import InvalidRowsError
from app.model.backend import tf
from app.model.columns import as_rows
from app.model.forward.network import HedgedNetwork
from app.model.forward.scorer import Scorer
from app.model.initial import initial_state
from app.model.learner import Learner
from app.model.state import State, check_state


def _signature() -> inspect.Signature:
    """Return the parameters of a ModelConfig, of which the required ones may go by position."""
    hints = get_type_hints(ModelConfig)
    required, options = [], []
    for each in inspect.signature(ModelConfig).parameters.values():
        parameter = each.replace(annotation=hints[each.name])
        if parameter.default is parameter.empty:
            required.append(parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD))
        else:
            options.append(parameter)
    return inspect.Signature(required + options)


class HBPClassifier:
    """A deep classifier that learns from each row as it arrives, by Hedge Backpropagation.

    Parameters
    ----------
    n_features
        Length D of a row.
    n_classes
        Number of classes C; labels are 0..C-1.
    **options
        The fields of :class:`app.config.model.ModelOptions`, by name; its help describes each.

    Raises
    ------
    InvalidParameterError
        When a parameter is outside its range.
    TypeError
        When there is no such option.

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

    # The options are listed in ModelOptions alone; `help` and shells shall name them here too.
    __signature__ = _signature()

    _pending_features: np.ndarray
    _pending_labels: np.ndarray
    _scored_state: dict[str, tf.Tensor] | None

    def __init__(self, n_features: int, n_classes: int, **options: Any) -> None:
        self.config = ModelConfig(n_features=n_features, n_classes=n_classes, **options)
        network = HedgedNetwork(self.config)
        self._learner = Learner(self.config)
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
            self._scored_state = self._scorer.tensors(self._learner.get_state())
        return self._scorer.predict_proba(self._scored_state, X)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n,), int64."""
        classes: np.ndarray = self.predict_proba(X).argmax(axis=1)
        return classes

    @property
    def alpha(self) -> np.ndarray:
        """Hedge weights, shape (n_heads,), shallow to deep; they sum to 1."""
        return self._learner.alpha

    @property
    def met(self) -> dict[str, int]:
        """How often the learner had to guard itself, since the first row.

        ``outliers_clipped``, numbers cut before they entered the moments; ``columns_rescaled``,
        columns whose moments were taken anew; ``layers_reset``, layers that started over.
        """
        return self._learner.met

    def get_state(self) -> State:
        """Return everything that learning changes, see :mod:`app.model.state`."""
        state = self._learner.get_state()
        B, waiting = self.config.update_batch_size, len(self._pending_labels)
        if B > 1:
            features = np.zeros((B - 1, self.config.n_features))
            labels = np.zeros(B - 1, np.int32)
            # One NaN is as good as another, and is hashed as such.
            pending = self._pending_features
            features[:waiting] = np.where(np.isnan(pending), np.nan, pending)
            labels[:waiting] = self._pending_labels
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
        empty = np.zeros((0, self.config.n_features))
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
