"""Random numbers by counting, with Python's integers: SplitMix64 of the seed and two places."""

from __future__ import annotations

import math

_BITS = (1 << 64) - 1


def draw(seed: int, row: int, place: int) -> int:
    bits = seed
    for part in (row, place):
        bits = ((bits ^ part) + 0x9E3779B97F4A7C15) & _BITS
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & _BITS
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & _BITS
        bits ^= bits >> 31
    return bits


def uniform(seed: int, row: int, place: int) -> float:
    return ((draw(seed, row, place) >> 11) + 0.5) / 2**53


def normal(seed: int, row: int, place: int) -> float:
    radius = math.sqrt(-2 * math.log(uniform(seed, row, 2 * place)))
    return radius * math.cos(2 * math.pi * uniform(seed, row, 2 * place + 1))
