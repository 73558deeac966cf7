"""How the kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numpy.typing import NDArray

Array = NDArray[Any]
Real = Any
"""A scalar of the model's dtype."""
_Function = TypeVar("_Function", bound=Callable[..., Any])

# Sums in any order and fused multiply-adds, which vectors need; but a NaN stays a NaN.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
}


def compiled(function: _Function, inline: bool = False) -> _Function:
    """Return a function as machine code, kept on disk for the next process."""
    options = _OPTIONS | {"forceinline": inline}
    try:
        made: _Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # No directory to keep the compiled code in: it is compiled in every process.
        made = numba.njit(**options)(function)
    return made
