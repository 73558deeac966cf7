"""The update of the default settings in C, compiled when a benchmark asks for it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np

from app.config.learning import HEAD_BOOST_ROWS
from app.config.model import ModelConfig
from app.model.state import State

SOURCE = Path(__file__).with_name("yardstick.c")
FLAGS = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")

_VECTOR = 16
"""Floats in the widest vector register."""


class _Shape(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_long)
            for name in ("n_layers", "n_units", "padded", "n_features", "n_classes")
        ),
        *(
            (name, ctypes.c_float)
            for name in (
                "rate",
                "head_rate",
                "head_boost",
                "boost_rows",
                "beta",
                "floor",
                "clip",
            )
        ),
    ]


def compiled(directory: Path) -> ctypes.CDLL | None:
    """Return the yardstick's library, compiled into a directory; None without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = directory / "yardstick.so"
    subprocess.run([compiler, *FLAGS, "-o", library, SOURCE, "-lm"], check=True)
    return ctypes.CDLL(str(library))


class Yardstick:
    """A model of the default settings that learns in C.

    Parameters
    ----------
    library : CDLL
        From :func:`compiled`.
    config : ModelConfig
        With the default options, of any size.
    state : State
        Where it begins; it is not changed.
    """

    def __init__(self, library: ctypes.CDLL, config: ModelConfig, state: State) -> None:
        L, H, D, C = (
            config.n_hidden_layers,
            config.n_hidden_units,
            config.n_features,
            config.n_classes,
        )
        P = -(-H // _VECTOR) * _VECTOR
        self._learn = library.learn
        self._config = config
        self._shape = _Shape(
            L, H, P, D, C, config.learning_rate, config.learning_rate * config.head_rate,
            config.head_boost, HEAD_BOOST_ROWS, config.beta, config.smoothing / L,
            config.gradient_clip_norm,
        )  # fmt: skip

        def padded(array: np.ndarray) -> np.ndarray:
            wide = np.pad(array, [*[(0, 0)] * (array.ndim - 1), (0, P - H)])
            return np.ascontiguousarray(wide, np.float32)

        kernels = [padded(state[f"hidden_kernel_{l}"]).ravel() for l in range(L)]
        self._kernels = np.concatenate(kernels)
        self._biases = np.stack([padded(state[f"hidden_bias_{l}"]) for l in range(L)])
        self._heads = np.stack([padded(state[f"head_kernel_{l}"].T) for l in range(L)])
        self._head_biases = np.stack([state[f"head_bias_{l}"] for l in range(L)])
        self._input_kernel = state["input_head_kernel"].copy()
        self._input_bias = state["input_head_bias"].copy()
        self._covariance = state["input_head_covariance"].copy()
        self._alpha = state["alpha"].copy()
        self._mean, self._m2 = state["scaler_mean"].copy(), state["scaler_m2"].copy()
        self._count = np.array([state["row_count"]], np.int64)
        self._work = np.zeros((L + 2) * P + D + (L + 1) * (C + 1) + C, np.float32)
        self._wide = np.zeros(D + 1)

    def partial_fit(self, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Learn rows of float32 and labels of int32 in order, as ``HBPClassifier`` does."""
        probabilities = np.empty((len(X), self._config.n_classes), np.float32)
        arrays = (
            X, y, self._kernels, self._biases, self._heads, self._head_biases,
            self._input_kernel, self._input_bias, self._covariance, self._alpha,
            self._mean, self._m2, self._count, probabilities, self._work, self._wide,
        )  # fmt: skip
        self._learn(
            ctypes.byref(self._shape),
            ctypes.c_long(len(X)),
            *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays),
        )
        return probabilities

    @property
    def alpha(self) -> np.ndarray:
        return self._alpha
