"""The whole model: rows to inputs, inputs to experts, and their mixture."""

from __future__ import annotations

import copy

import numpy as np

from app.config.model import ModelConfig
from app.model.state import serves
from tests.oracle.moments import Moments, WindowedMoments
from tests.oracle.network import Network
from tests.oracle.recursive import Recursive
from tests.oracle.stack import Stack
from tests.oracle.trees import Trees


class NumpyHBP:
    """What ``HBPClassifier`` must compute, in float64.

    Parameters
    ----------
    config : ModelConfig
        ``dtype`` is not used.
    state : mapping of str to ndarray
        As :mod:`app.model.state` describes it; copied.
    """

    def __init__(self, config: ModelConfig, state: dict[str, np.ndarray]) -> None:
        self.config = config
        state = {name: np.array(array) for name, array in state.items()}
        served = {
            name.removeprefix("served_"): state.pop(name)
            for name in [*state]
            if name.startswith("served_")
        }
        self.served = None
        if served:
            other = copy.copy(config)
            object.__setattr__(other, "horizon", 0)
            self.served = NumpyHBP(other, state | served)
        self.row_count = int(state.pop("row_count"))
        self.moments: Moments | WindowedMoments | None = None
        if config.scaler_window:
            self.moments = WindowedMoments.of(state, config.scaler_window)
        elif config.standardize:
            mean, m2 = state.pop("scaler_mean"), state.pop("scaler_m2")
            count = state.pop("scaler_count", np.full(len(mean), float(self.row_count)))
            self.moments = Moments(count, mean, m2)
        self.class_count = state.pop("class_count", None)
        self.waiting: list[tuple[np.ndarray, int]] = []
        if config.update_batch_size > 1:
            features, labels = state.pop("pending_features"), state.pop("pending_labels")
            count = int(state.pop("pending_count"))
            self.waiting = list(zip(features[:count], labels[:count], strict=True))
        self.network = Network(config, state, config.n_features)
        self.random = self.shallow = self.trees = self.stack = None
        if config.stacking:
            self._take_experts(state)
        assert not state, f"nothing was made of {sorted(state)}"

    def _take_experts(self, state: dict[str, np.ndarray]) -> None:
        config = self.config
        horizon = bool(config.horizon)
        self.stack = Stack(state.pop("stack_weights"), state.pop("stack_covariance"), horizon)
        if config.n_random_features:
            self.random_layer = state.pop("random_kernel"), state.pop("random_bias")
            names = ("random_head_kernel", "random_head_bias", "random_head_covariance")
            parts = [state.pop(name) for name in names]
            self.random = Recursive(*parts, np.zeros(0), config.recursive_drift)
        if config.shallow_layers:
            self.shallow = self._shallow_network(state)
        if config.n_trees:
            n_categories = sum(map(bool, config.category_slots))
            self.trees = Trees(state, config.n_features - n_categories, config.seed)

    def _shallow_network(self, state: dict[str, np.ndarray]) -> Network:
        layers = self.config.shallow_layers
        config = ModelConfig(
            n_features=self.config.n_inputs,
            n_classes=self.config.n_classes,
            n_hidden_layers=layers,
            n_hidden_units=self.config.n_hidden_units,
            variant="backprop",
            learning_rate=0.01,
            gradient_clip_norm=10.0,
        )
        taken = {"alpha": np.ones(1)}
        for place, name in self._shallow_names().items():
            taken[name] = state.pop(place)
        return Network(config, taken, self.config.n_features)

    def _shallow_names(self) -> dict[str, str]:
        """Return the network's names of the shallow network's arrays, by the state's."""
        layers, parts = range(self.config.shallow_layers), ("kernel", "bias")
        names = {f"shallow_{part}_{l}": f"hidden_{part}_{l}" for l in layers for part in parts}
        return names | {f"shallow_head_{part}": f"head_{part}_{layers[-1]}" for part in parts}

    @property
    def alpha(self) -> np.ndarray:
        return self.network.alpha

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Learn rows in order; return each one's probabilities from before it was learned."""
        probabilities = []
        for row, label in zip(X, y, strict=True):
            self.waiting.append((np.asarray(row, float), int(label)))
            inputs, moments = self._waiting_inputs()
            probabilities.append(self._mixture(*inputs[-1]))
            if len(self.waiting) == self.config.update_batch_size:
                self._learn_group(inputs)
                self.row_count += len(self.waiting)
                self.waiting = []
                self.moments = moments
        return np.array(probabilities).reshape(-1, self.config.n_classes)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        rows = [np.asarray(row, float) for row in X]
        return np.array([self._mixture(*self._seen(row, self.moments)) for row in rows])

    def _seen(
        self, row: np.ndarray, moments: Moments | WindowedMoments | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what the networks and what the trees see of a row."""
        return self._inputs(row, moments), self._tree_row(row, moments)

    def _inputs(self, row: np.ndarray, moments: Moments | WindowedMoments | None) -> np.ndarray:
        """Return the inputs of a row: numbers, missing ones, and a category's slots."""
        slots = self.config.category_slots or (0,) * len(row)
        numbers = self._numbers(row)
        found = [np.nan_to_num(numbers) if moments is None else moments.standardise(numbers)]
        found += [[float(np.isnan(row[column]))] for column in self.config.indicators]
        found += [np.eye(n)[int(value)] for n, value in zip(slots, row, strict=True) if n]
        return np.concatenate(found)

    def _numbers(self, row: np.ndarray) -> np.ndarray:
        slots = self.config.category_slots
        return row[[not n for n in slots]] if slots else row

    def _tree_row(self, row: np.ndarray, moments: Moments | WindowedMoments | None) -> np.ndarray:
        """Return numbers from each one's first, the missing below all, and categories."""
        slots, largest = self.config.category_slots or (0,) * len(row), np.finfo(float).max
        windowed = isinstance(moments, WindowedMoments)
        origin = [column.origin for column in moments.columns] if windowed else 0
        numbers = np.nan_to_num(self._numbers(row) - origin, nan=-largest)
        return np.append(numbers, [x for x, n in zip(row, slots, strict=True) if n])

    def _random_row(self, inputs: np.ndarray) -> np.ndarray:
        kernel, bias = self.random_layer
        return np.maximum(inputs @ kernel + bias, 0)

    def _experts(self, inputs: np.ndarray, tree_row: np.ndarray) -> np.ndarray:
        """Return what each expert says, shape (E, C)."""
        heads = np.exp(self.network.forward(inputs)[1])
        said = [self.alpha @ heads]
        if self.stack is None:
            return np.array(said)
        if self.config.has_input_head:
            said.append(heads[0])
        if self.random is not None:
            said.append(np.exp(self.random.log_probabilities(self._random_row(inputs))))
        if self.shallow is not None:
            said.append(np.exp(self.shallow.forward(inputs)[1][0]))
        if self.trees is not None:
            said += self.trees.predict(tree_row)
        return np.array(said)

    def _mixture(self, inputs: np.ndarray, tree_row: np.ndarray) -> np.ndarray:
        experts = self._experts(inputs, tree_row)
        return experts[0] if self.stack is None else self.stack.predict(experts)

    def _waiting_inputs(
        self,
    ) -> tuple[list[tuple[np.ndarray, np.ndarray]], Moments | WindowedMoments | None]:
        """Return what is seen of the waiting rows, each after it was added to the moments."""
        moments, inputs = self.moments, []
        for row, _ in self.waiting:
            if moments is not None:
                moments = moments.adding(self._numbers(row))
            inputs.append(self._seen(row, moments))
        return inputs, moments

    def _learn_group(self, seen: list[tuple[np.ndarray, np.ndarray]]) -> None:
        B, K = self.config.update_batch_size, self.config.horizon
        if K and self.row_count // K > (self.row_count - B) // K:
            # Served from here on: a copy of what is now, which itself serves nothing.
            self.served = None
            self.served = copy.deepcopy(self)
            self.served.waiting = []
        rows, labels = zip(*self.waiting, strict=True)
        weights = [self._row_weight(label) for label in labels]
        inputs = [x for x, _ in seen]
        experts = [self._experts(*pair) for pair in seen]
        hedged = [self.network.losses(*pair) for pair in zip(inputs, labels, strict=True)]
        if self.served is not None:
            served = [self.served._seen(row, self.served.moments) for row in rows]
            experts = [self.served._experts(*pair) for pair in served]
            lessons = zip((x for x, _ in served), labels, strict=True)
            hedged = [self.served.network.losses(*lesson) for lesson in lessons]
        self.network.learn(inputs, labels, weights, hedged, self.row_count)
        if self.shallow is not None:
            losses = [self.shallow.losses(*pair) for pair in zip(inputs, labels, strict=True)]
            self.shallow.learn(inputs, labels, weights, losses, self.row_count)
        lessons = zip(seen, labels, weights, experts, strict=True)
        for place, ((x, tree_row), label, weight, said) in enumerate(lessons):
            if self.random is not None:
                self.random.learn(self._random_row(x), label, weight)
            if self.trees is not None:
                self.trees.learn(tree_row, label, weight, self.row_count + place)
            if self.stack is not None:
                self.stack.learn(said, label, weight)

    def _row_weight(self, label: int) -> float:
        if self.class_count is None:
            return (*self.config.class_weights, *[1.0] * self.config.n_classes)[label]
        self.class_count[label] += 1
        return self.class_count.sum() / (len(self.class_count) * self.class_count[label])

    def get_state(self) -> dict[str, np.ndarray]:
        """Return a state of the layout of :mod:`app.model.state`."""
        state = self.network.state() | {"row_count": np.array(self.row_count)}
        if self.class_count is not None:
            state["class_count"] = self.class_count.copy()
        if isinstance(self.moments, WindowedMoments):
            state |= self.moments.state()
        elif self.moments is not None:
            state["scaler_mean"], state["scaler_m2"] = self.moments.mean, self.moments.m2
            if self.config.imputes:
                state["scaler_count"] = self.moments.count
        if self.stack is not None:
            state |= self._experts_state()
        if self.served is not None:
            of = self.served.get_state().items()
            state |= {f"served_{name}": array for name, array in of if serves(name)}
        places = self.config.update_batch_size - 1
        if places:
            state["pending_features"] = np.zeros((places, self.config.n_features))
            state["pending_labels"] = np.zeros(places, int)
            for place, (row, label) in enumerate(self.waiting):
                state["pending_features"][place] = row
                state["pending_labels"][place] = label
            state["pending_count"] = np.array(len(self.waiting))
        return state

    def _experts_state(self) -> dict[str, np.ndarray]:
        state = {"stack_weights": self.stack.weights, "stack_covariance": self.stack.covariance}
        if self.random is not None:
            state["random_kernel"], state["random_bias"] = self.random_layer
            theta = self.random.theta
            state["random_head_kernel"], state["random_head_bias"] = theta[:-1], theta[-1]
            state["random_head_covariance"] = self.random.covariance
        if self.shallow is not None:
            shallow = self.shallow.state()
            state |= {place: shallow[name] for place, name in self._shallow_names().items()}
        if self.trees is not None:
            state |= {name: array.copy() for name, array in self.trees.arrays.items()}
        return state
