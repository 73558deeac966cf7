"""What defines a model: its architecture and how it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from app.config.learning import CANDIDATES, FEWEST_LEAVES, MOST_LEAVES, TREES_BYTES
from app.config.options import MODEL, Option
from app.config.validation import (
    is_real,
    require,
    require_choice,
    require_int,
)
from app.config.variants import ALONE, DEFAULT_VARIANT, VARIANTS

HEDGE_LOSSES = ("bounded", "minmax", "raw")
HEADS = ("all", "last")
INPUT_HEADS = ("recursive", "sgd", "none")
ENGINES = ("numba", "xla")
DTYPES = ("float32", "float64")
BALANCED = "balanced"

MAX_RECURSIVE_FEATURES = 500
"""Beyond as many features that are numbers, a row costs more in the recursive head's covariance
than in the network; the input head then learns by gradient, unless the user chose otherwise."""

_NUMBERS: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda value: value > 0, "a number above 0"),
    "head_rate": (lambda value: value > 0, "a number above 0"),
    "head_boost": (lambda value: value >= 0, "a number of at least 0"),
    "beta": (lambda value: 0 < value < 1, "between 0 and 1"),
    "smoothing": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "gradient_clip_norm": (lambda value: value >= 0, "a number of at least 0"),
    "recursive_drift": (lambda value: value >= 0, "a number of at least 0"),
}
_COUNTS = ("scaler_window", "n_random_features", "shallow_layers", "n_trees")
_NEEDS_STACKING = ("n_random_features", "shallow_layers", "n_trees")
_CHOICES = {
    "variant": tuple(VARIANTS),
    "hedge_loss": HEDGE_LOSSES,
    "heads": HEADS,
    "input_head": INPUT_HEADS,
    "engine": ENGINES,
    "dtype": DTYPES,
}


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What a user may choose about a model, whatever it learns from.

    Where a value is None, the variant's holds, see ``VARIANTS``.

    Parameters
    ----------
    n_hidden_layers
        Depth L, the number of hidden layers.
    n_hidden_units
        Width H of each hidden layer.
    variant : {"stacked", "fast", "paper", "backprop"}
        What the options below are if not given: the default, several experts and a stack of
        them; the network alone, tuned on unlike streams; Hedge Backpropagation as published; or
        one head on the last layer, which is online backpropagation of a fixed depth.
    learning_rate
        Step size eta of plain SGD.
    beta
        Hedge discount, in (0, 1).
    smoothing
        s in the floor s / L under each alpha, in [0, 1].
    hedge_loss : {"bounded", "minmax", "raw"}
        The loss given to the hedge: cross-entropies in nats, as they are (``raw``), cut at
        4 (``bounded``), or rescaled to [0, 1] over the heads of one row (``minmax``).
    head_rate
        Step size of the heads, as a multiple of the learning rate.
    head_boost
        By how much that is raised at first: after n rows, it is multiplied by
        ``1 + head_boost / (1 + n / 2000)``.
    scale_heads_by_alpha
        Whether a head's step is scaled by its alpha too, as published.
    heads : {"all", "last"}
        Whether each hidden layer has a head, or the last one only.
    input_head : {"recursive", "sgd", "none"}
        How a head on the input itself (head 0 of the paper) learns, if there is one: by
        recursive logistic regression, or by gradient as the others.
    recursive_drift
        What is added to each variance of a recursive head with each row, so that it goes on
        learning.
    stacking
        Whether the network, its input head, and the experts below are mixed by logistic
        regression. If not, there are none of these, and alpha alone mixes.
    n_random_features
        Units of the head on random features, which learns as the recursive one; 0 for none.
    shallow_layers
        Layers of a second network, of one head and a fixed rate; 0 for none.
    n_trees
        Trees; 0 for none.
    horizon
        Rows between a prediction and its label, K: what chooses between the experts learns from
        what they said by a state up to K rows old. 0 where a label is there with the next row.
    standardize
        Whether rows are standardised by running moments.
    scaler_window
        Rows that the moments reach back, in which outliers are cut; 0 for all rows as they are.
    gradient_clip_norm
        Largest Euclidean norm of one layer's gradient; 0 leaves it alone.
    update_batch_size
        Rows averaged into one update; the paper takes 1.
    class_weight
        How much a row of each class counts: balanced, as scikit-learn has it, in inverse
        proportion to the rows seen of it so far; or by label, such as fraud=5,ok=1, where what is
        not named counts 1. If not given, all the same.
    engine : {"numba", "xla"}
        What the update is compiled with. Both compute the same to rounding; None takes
        Numba for updates of one row and XLA for larger ones.
    dtype : {"float32", "float64"}
        The type of weights and arithmetic. Running moments are float64 always.
    seed
        Fixes the initial weights.

    Raises
    ------
    InvalidParameterError
        When a value is outside its range.
    """

    n_hidden_layers: Annotated[int, Option(MODEL)] = 20
    n_hidden_units: Annotated[int, Option(MODEL)] = 100
    variant: Annotated[str, Option(MODEL, choices=_CHOICES["variant"])] = DEFAULT_VARIANT
    learning_rate: Annotated[float | None, Option(MODEL)] = None
    beta: Annotated[float | None, Option(MODEL)] = None
    smoothing: Annotated[float | None, Option(MODEL)] = None
    hedge_loss: Annotated[str | None, Option(MODEL, choices=HEDGE_LOSSES)] = None
    head_rate: Annotated[float | None, Option(MODEL)] = None
    head_boost: float | None = None
    scale_heads_by_alpha: bool | None = None
    heads: str | None = None
    input_head: Annotated[str | None, Option(MODEL, choices=INPUT_HEADS)] = None
    recursive_drift: float | None = None
    stacking: bool | None = None
    n_random_features: int | None = None
    shallow_layers: int | None = None
    n_trees: Annotated[int | None, Option(MODEL)] = None
    horizon: Annotated[int, Option(MODEL)] = 0
    standardize: bool = True
    scaler_window: int | None = None
    gradient_clip_norm: Annotated[float | None, Option(MODEL)] = None
    update_batch_size: Annotated[int, Option(MODEL)] = 1
    class_weight: Annotated[str | None, Option(MODEL, metavar="balanced|A=5,B=1")] = None
    engine: str | None = None
    dtype: str = "float32"
    seed: Annotated[int, Option(MODEL)] = 0

    def __post_init__(self) -> None:
        for name in ("n_hidden_layers", "n_hidden_units", "update_batch_size"):
            require_int(self, name, 1)
        for name in ("seed", "horizon"):
            require_int(self, name, 0)
        require(
            isinstance(self.standardize, bool), "standardize", "True or False", self.standardize
        )
        for name, choices in _CHOICES.items():
            if getattr(self, name) is not None or name in ("variant", "dtype"):
                require_choice(self, name, choices)
        for name, (is_sound, expected) in _NUMBERS.items():
            value = getattr(self, name)
            if value is not None:
                require(is_real(value) and is_sound(value), name, expected, value)
        for name in ("scale_heads_by_alpha", "stacking"):
            value = getattr(self, name)
            require(value is None or isinstance(value, bool), name, "True or False", value)
        for name in _COUNTS:
            if getattr(self, name) is not None:
                require_int(self, name, 0)
        require(self.n_trees != 1, "n_trees", "0, or at least 2", self.n_trees)
        self._check_stacking()
        if self.class_weight not in (None, BALANCED):
            weights_by_label(str(self.class_weight))
        one_row = self.engine != "numba" or self.update_batch_size == 1
        require(one_row, "engine", "xla, for an update_batch_size above 1", self.engine)

    def _check_stacking(self) -> None:
        stacks = VARIANTS[self.variant]["stacking"] if self.stacking is None else self.stacking
        for name in () if stacks else (*_NEEDS_STACKING, "horizon"):
            require(not getattr(self, name), name, "0 without stacking", getattr(self, name))
        windowed = self.scaler_window != 0 or not (stacks and self.standardize)
        require(windowed, "scaler_window", "at least 1 with stacking", self.scaler_window)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ModelOptions):
    """What defines a model: its architecture and how it learns.

    Fixed when the model is created and stored with every state, so that a resumed run
    learns exactly as the first one did. Options are those of :class:`ModelOptions`; what
    was left to the variant is set to the variant's, so that the stored settings say all.

    Parameters
    ----------
    n_features
        Length D of a row: of each column a number, or the slot of a category.
    n_classes
        Number of classes C, at least 2.
    category_slots
        How many slots the category of each column has, 0 for a number. Empty when all are numbers.
    indicators
        Columns of numbers, ascending, whose missing values have an input of their own.
    imputes
        Whether a NaN stands for a missing number, which counts as the mean.
    class_weights
        How much a row of each class counts, by class; empty when all count the same, or as
        ``class_weight`` has it.

    Raises
    ------
    InvalidParameterError
        When a value is outside its range.

    Notes
    -----
    What the first layer and the input head see of a row, its W inputs, are the standardised
    numbers; then, 0 or 1, an input for each of ``indicators``; then the slots of each category.
    """

    n_features: int
    n_classes: int
    category_slots: tuple[int, ...] = ()
    indicators: tuple[int, ...] = ()
    imputes: bool = False
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_int(self, "n_features", 1)
        require_int(self, "n_classes", 2)
        super().__post_init__()
        self._check_inputs()
        engine = "numba" if self.update_batch_size == 1 else "xla"
        settings: dict[str, Any] = {"heads": "all", "engine": engine}
        settings |= VARIANTS[self.variant]
        if settings["input_head"] == "recursive" and self.n_numbers > MAX_RECURSIVE_FEATURES:
            settings["input_head"] = "sgd"
        if self.stacking is False:
            settings |= {name: ALONE[name] for name in _NEEDS_STACKING}
        if self._leaves(settings["n_trees"]) < FEWEST_LEAVES:
            settings["n_trees"] = 0
        if not self.standardize:
            settings["scaler_window"] = 0
        for name, value in settings.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def _check_inputs(self) -> None:
        require(isinstance(self.imputes, bool), "imputes", "True or False", self.imputes)
        for name in ("category_slots", "indicators", "class_weights"):
            # JSON knows no tuples.
            object.__setattr__(self, name, tuple(getattr(self, name)))
        slots = self.category_slots
        sound = len(slots) in (0, self.n_features) and all(_is_count(n) for n in slots)
        require(sound, "category_slots", "0, or slots, for each of n_features", slots)
        numbers = {*self.number_columns}
        sound = all(_is_count(i) and i in numbers for i in self.indicators)
        sound = sound and sorted({*self.indicators}) == [*self.indicators]
        sound = sound and (self.imputes or not self.indicators)
        expected = "ascending columns of numbers, none unless imputes"
        require(sound, "indicators", expected, self.indicators)
        weights = self.class_weights
        sound = len(weights) in (0, self.n_classes) and all(is_real(w) and w > 0 for w in weights)
        require(sound, "class_weights", "a number above 0 for each class", weights)
        once = not weights or self.class_weight != BALANCED
        require(once, "class_weights", "left out where class_weight is balanced", weights)

    @property
    def number_columns(self) -> tuple[int, ...]:
        """Columns that are numbers."""
        slots = self.category_slots
        return tuple(i for i in range(self.n_features) if not slots or not slots[i])

    @property
    def category_columns(self) -> tuple[int, ...]:
        """Columns that are categories."""
        return tuple(i for i, n in enumerate(self.category_slots) if n)

    @property
    def n_numbers(self) -> int:
        return len(self.number_columns)

    @property
    def n_inputs(self) -> int:
        """What the first layer sees of a row: W."""
        return self.n_numbers + len(self.indicators) + sum(self.category_slots)

    @property
    def n_careful_trees(self) -> int:
        """Trees of the first kind; those of the second split sooner."""
        return (self.n_trees or 0) + 1 >> 1

    def _leaves(self, n_trees: int) -> int:
        """Return how many leaves each of so many trees may have, a power of two."""
        leaf = n_trees * CANDIDATES * (self.n_classes + 1) * 4
        leaves = MOST_LEAVES
        while leaves * leaf > TREES_BYTES:
            leaves //= 2
        return leaves

    @property
    def n_tree_leaves(self) -> int:
        """Leaves of a tree at most, as many as fit a state."""
        return max(self._leaves(self.n_trees or 0), FEWEST_LEAVES)

    @property
    def n_experts(self) -> int:
        """How many the stack mixes: 0 without one."""
        if not self.stacking:
            return 0
        found = (self.has_input_head, self.n_random_features, self.shallow_layers)
        return 1 + sum(map(bool, found)) + 2 * bool(self.n_trees)

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
        # Not asdict, which copies: scikit-learn's clone wants what it was given.
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}


def weights_by_label(text: str) -> dict[str, float]:
    """Return the weights in a text such as ``fraud=5,ok=1``.

    Raises
    ------
    InvalidParameterError
        When it is none.

    Examples
    --------
    >>> weights_by_label("fraud=5, ok=0.5")
    {'fraud': 5.0, 'ok': 0.5}
    """
    weights = {}
    expected = f"{BALANCED}, or label=weight,label=weight with weights above 0"
    for part in text.split(","):
        label, has_weight, weight = part.rpartition("=")
        try:
            weights[label.strip()] = float(weight)
        except ValueError:
            has_weight = ""
        sound = bool(has_weight) and 0 < weights[label.strip()] < float("inf")
        require(sound, "class_weight", expected, text)
    return weights


def class_weights_of(text: str | None, classes: Sequence[str]) -> tuple[float, ...]:
    """Return the weight of each class, empty where they are not given by label.

    Raises
    ------
    InvalidParameterError
        When a label is none of the classes.
    """
    if text in (None, BALANCED):
        return ()
    weights = weights_by_label(str(text))
    unknown = ", ".join(weights.keys() - {*classes})
    require(not unknown, "class_weight", f"of the classes {', '.join(classes)}", unknown)
    return tuple(weights.get(name, 1.0) for name in classes)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
