"""Numbers drawn by counting: the same for one place in the stream, whatever came before.

SplitMix64 of G. L. Steele, D. Lea and C. H. Flood, "Fast Splittable Pseudorandom Number
Generators", OOPSLA 2014.
"""

from __future__ import annotations

import math

import numpy as np

from app.model.kernels.compiled import compiled

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@compiled
def draw(seed: int, row: int, place: int) -> np.uint64:
    """Return 64 random bits for a place in a row of a stream."""
    bits = np.uint64(seed)
    for part in (row, place):
        bits = (bits ^ np.uint64(part)) + _GAMMA
        bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
        bits ^= bits >> np.uint64(31)
    return bits


@compiled
def uniform(seed: int, row: int, place: int) -> float:
    """Return a number in (0, 1)."""
    return (np.float64(draw(seed, row, place) >> np.uint64(11)) + 0.5) / 9007199254740992.0


@compiled
def normal(seed: int, row: int, place: int) -> float:
    """Return a standard normal number, by G. E. P. Box and M. E. Muller."""
    radius = math.sqrt(-2.0 * math.log(uniform(seed, row, 2 * place)))
    return radius * math.cos(2.0 * math.pi * uniform(seed, row, 2 * place + 1))
