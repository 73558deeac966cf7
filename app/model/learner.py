"""Hedge Backpropagation and the experts beside it: what learns, whichever engine compiles it.

D. Sahoo, Q. Pham, J. Lu, S. C. H. Hoi, "Online Deep Learning: Learning Deep
Neural Networks on the Fly", IJCAI 2018, algorithm 1 and equations (4), (5), (7)
and (8). Letters as there: W hidden kernels, Theta head kernels, alpha hedge
weights, beta discount, s smoothing, eta learning rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from app.config.learning import STACK_DRIFT
from app.config.model import BALANCED, ModelConfig
from app.model.engines.numba_networks import NumbaNetworks
from app.model.engines.packed import Packed, pack, unpack, unpack_served
from app.model.engines.rows import (
    Lesson,
    Networks,
    Predictor,
    RowReader,
    Rows,
    random_inputs,
)
from app.model.engines.rules import resolved
from app.model.kernels import forest, recursive, stack
from app.model.kernels.scaling import Moments
from app.model.state import SERVED, State

ROWS_PER_CHUNK = 4096
"""Rows that go from expert to expert at once, which bounds what is held beside the state."""


class Learner:
    """The compiled update of one configuration, and the state that it changes.

    Parameters
    ----------
    config

    Notes
    -----

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

    With stacking, logistic regression mixes E experts: the network's own mixture, its input head,
    and what :class:`app.config.model.ModelOptions` names beside them. Its features of a class c
    are each expert's centred ``log max(p_c, 1e-3)``, and its vote ``2 (p_c^8 / sum p^8 - 1/C)``,
    each with one weight for all classes, 1/E and 0 at first. A vote is what log loss does not see:
    an expert with the right boundary may be less sure than another with a wrong one. With
    ``v = f_y - sum_c q_c f_c`` of the mixture q, the weights learn as a Kalman filter does::

        h = min(q_y / max(1 - q_y, 1e-3), 10)
        w += A v / (1 + h v'Av)
        A -= h (A v)(A v)' / (1 + h v'Av),  then  A_ii += 1e-6

    D. H. Wolpert, "Stacked Generalization", Neural Networks 5(2), 1992. With a horizon of K rows
    the experts' features, and the losses that move alpha, are those of a copy of the state that is
    renewed every K rows, as a label that comes K rows late finds them; no weight falls below 0,
    A does not grow again, and it starts nearer to 0, with less weight on the experts that trust the
    last rows: lessons that come in lumps are worth less.

    Random features are rectified random sums of the inputs, with a recursive head on them. The
    shallow network learns by online backpropagation. Trees split as in P. Domingos and G. Hulten,
    "Mining High-Speed Data Streams", KDD 2000, by the gain of the best of 64 candidates; rows are
    weighted at random in each, as in A. Bifet et al., "Leveraging Bagging for Evolving Data
    Streams", ECML PKDD 2010; a tree whose error rises far above its best starts over. There are
    two kinds, one of which splits sooner, and the geometric mean of each is an expert.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._real = np.dtype(config.dtype)
        self._drift = resolved(config.recursive_drift)
        self._reader = RowReader(config)
        self._predictor = Predictor(config)
        self._networks: Networks = _networks_of(config)
        self._served: Packed | None = None

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Put a checked state, without the pending rows, in place of the present one."""
        self._packed = pack(state, self._config)
        self._networks.take(self._packed)
        self._count = int(state["row_count"])
        self._class_count = np.array(state.get("class_count", np.zeros(0, np.int64)))
        if self._config.horizon:
            # With what never changes; what only learning needs is left out.
            kept = {"random_kernel", "random_bias"} & state.keys()
            served = {name: state[name] for name in kept}
            prefixed = (name for name in state if name.startswith(SERVED))
            served |= {name.removeprefix(SERVED): state[name] for name in prefixed}
            self._served = pack(served, self._config)

    def get_state(self) -> State:
        """Return a copy of the state, without the pending rows."""
        self._networks.give(self._packed)
        state = unpack(self._packed, self._config)
        state["row_count"] = np.array(self._count, np.int64)
        if self._config.class_weight == BALANCED:
            state["class_count"] = self._class_count.copy()
        if self._served is not None:
            served = unpack_served(self._served, self._config)
            state |= {SERVED + name: array for name, array in served.items()}
        return state

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
        out = np.empty((len(X), self._config.n_classes), self._real)
        for chunk in self._chunks(len(X)):
            self._learn_chunk(X[chunk], y[chunk], out[chunk])
        return out

    def compile(self) -> None:
        """Compile the update now rather than with the first row. Changes nothing.

        May be called by another thread than the one that learns.
        """
        X, y = np.zeros((0, self._config.n_features)), np.zeros(0, np.int32)
        self._networks.compile()
        if self._served is not None:
            self._predictor.said(self._served, self._count, X, y)
        self._learn_chunk(X, y, np.empty((0, self._config.n_classes), self._real))

    @property
    def alpha(self) -> np.ndarray:
        """Hedge weights, shape (n_heads,), shallow to deep; they sum to 1."""
        return self._networks.alpha

    @property
    def met(self) -> dict[str, int]:
        """See :attr:`app.model.classifier.HBPClassifier.met`."""
        outliers, rescaled = map(int, self._packed.moments.met)
        counts = {"outliers_clipped": outliers, "columns_rescaled": rescaled}
        return counts | {"layers_reset": self._networks.n_reset}

    def _chunks(self, n: int) -> Iterator[slice]:
        """Return slices of n rows, of whole groups but for the last, none over a renewal."""
        K, B, start = self._config.horizon, self._config.update_batch_size, 0
        while start < n:
            length = max(ROWS_PER_CHUNK // B, 1) * B
            if K:
                count = self._count
                to_renewal = (count // K + 1) * K - count
                length = min(length, -(-to_renewal // B) * B)
            yield slice(start, start + length)
            start += length

    def _renew(self) -> None:
        """Serve the present state, if the next row is the first of a horizon."""
        K, B = self._config.horizon, self._config.update_batch_size
        if self._served is not None and (self._count // K > (self._count - B) // K):
            self._networks.give(self._packed)
            self._served.copy_from(self._packed)

    def _learn_chunk(self, X: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        config, packed, real, n = self._config, self._packed, self._real, len(X)
        B, C = config.update_batch_size, config.n_classes
        n_learned = n - n % B
        if n_learned:
            self._renew()
        rows = self._read(X, n_learned)
        weights = self._row_weights(y, n_learned)
        inputs = rows[:3]
        p, losses = np.zeros((n, C), real), np.zeros(n, real)
        if config.input_head == "recursive":
            recursive.learn_recursively(
                *inputs, y, weights, n_learned, B, packed.input_head, self._drift, p,
                losses,
            )  # fmt: skip
        served = None
        if self._served is not None and n_learned:
            served = self._predictor.said(self._served, self._count, X, y)
        hedged = np.zeros((0, config.n_heads), real) if served is None else served.losses
        lesson = Lesson(rows, y, weights, self._count, n_learned, p, losses, hedged)
        mixed = self._networks.learn(packed, lesson)
        if not config.stacking:
            out[:] = mixed
        else:
            experts = np.empty((n, config.n_experts, C), real)
            said = [mixed, *([p] if config.has_input_head else [])]
            said += self._learn_random(lesson)
            if config.shallow_layers:
                said.append(self._networks.learn_shallow(packed, lesson))
            for e, each in enumerate(said):
                experts[:, e] = each
            if config.n_trees:
                forest.learn_forest(
                    rows.trees, y, weights, self._count, n_learned, B, config.n_numbers,
                    config.n_careful_trees, config.seed, packed.nodes, packed.growth,
                    experts[:, len(said) :],
                )  # fmt: skip
            lessons = experts if served is None else served.experts
            least, drift = (0.0, 0.0) if config.horizon else (-np.inf, STACK_DRIFT)
            stack.learn_stack(
                experts, lessons, y, weights, n_learned, B, packed.stack, least, drift, out
            )
        self._count += n_learned

    def _learn_random(self, lesson: Lesson) -> list[np.ndarray]:
        config, packed, n = self._config, self._packed, len(lesson.y)
        if not config.n_random_features:
            return []
        inputs = random_inputs(lesson.rows, packed)
        p = np.empty((n, config.n_classes), self._real)
        recursive.learn_recursively(
            *inputs, lesson.y, lesson.weights, lesson.n_learned, config.update_batch_size,
            packed.random_head, self._drift, p, np.empty(n, self._real),
        )  # fmt: skip
        return [p]

    def _read(self, X: np.ndarray, n_learned: int) -> Rows:
        """Add the rows to learn to the moments, and return the inputs of all."""
        moments = self._packed.moments
        rows = self._reader.learning(X[:n_learned], moments, self._count)
        if n_learned == len(X):
            return rows
        # The others wait for their group to be full, and are not in the moments yet.
        apart = Moments(*(array.copy() for array in moments))
        rest = self._reader.learning(X[n_learned:], apart, self._count + n_learned)
        return Rows(*(np.concatenate(pair) for pair in zip(rows, rest, strict=True)))

    def _row_weights(self, y: np.ndarray, n_learned: int) -> np.ndarray:
        """Return how much each row counts, shape (n,), and count the classes of those learned."""
        config = self._config
        if config.class_weights:
            by_class = np.array(config.class_weights, self._real)
            return by_class.take(y)
        if config.class_weight != BALANCED:
            return np.ones(len(y), self._real)
        C = config.n_classes
        seen = self._class_count + np.cumsum(y[:, np.newaxis] == np.arange(C), axis=0)
        if n_learned:
            self._class_count = seen[n_learned - 1]
        own = seen[np.arange(len(y)), y]
        weights: np.ndarray = seen.sum(axis=1) / (C * own)
        return weights.astype(self._real)


def _networks_of(config: ModelConfig) -> Networks:
    if config.engine == "numba":
        return NumbaNetworks(config)
    from app.model.engines.xla_networks import XlaNetworks

    return XlaNetworks(config)
