"""Random numbers inside compiled loops: SplitMix64, whose numbers never change. Imported on first use.

Source:
    Steele, Lea and Flood 2014, Fast Splittable Pseudorandom Number Generators, OOPSLA, doi:10.1145/2660193.2660195.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _11 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11)
_ULP = 2.0**-53


@njit(cache=True)
@no_type_check
def _mix(z):
    z = (z ^ (z >> _30)) * _FIRST
    z = (z ^ (z >> _27)) * _SECOND
    return z ^ (z >> _31)


@njit(cache=True)
@no_type_check
def start(state, seed, split, index, draw):
    """Begin the stream of numbers of one sample; state (1,), of 64-bit unsigned integers, all the others too."""
    key = _mix(seed + _GAMMA)
    for part in (split, index, draw):
        key = _mix((key ^ part) + _GAMMA)
    state[0] = key


@njit(cache=True)
@no_type_check
def uniform(state):
    """Return a number in [0, 1)."""
    state[0] += _GAMMA
    return np.float64(_mix(state[0]) >> _11) * _ULP


@njit(cache=True)
@no_type_check
def below(state, n):
    """Return an integer in 0..n-1."""
    return np.int64(uniform(state) * n)
