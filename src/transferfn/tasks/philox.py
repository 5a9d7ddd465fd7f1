"""Random numbers of Philox, a pure function of where they are used and the same with every version of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draws(seed: int, stream: int, index: int, count: int) -> NDArray[np.uint64]:
    """Return integers uniform over 0..2^64 - 1.

    A bit generator's raw stream is frozen for all versions of NumPy, unlike what ``Generator`` makes of it.

    Args:
        seed: Seed of the data, 0..2^63 - 1.
        stream: What they are for, such as which split, 0..255.
        index: Number of the sample, 0..2^55 - 1.
        count: How many.

    Example:
        >>> draws(0, 0, 0, 2).tolist() == draws(0, 0, 0, 3)[:2].tolist()
        True
    """
    return np.random.Philox(key=np.array([seed, (index << 8) + stream], np.uint64)).random_raw(count)


def normals(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return as many normal numbers of mean 0 and variance 1 (Box and Muller's transform).

    Args:
        raw: Integers uniform over 0..2^64 - 1, an even number of them.
    """
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in the open interval (0, 1)
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * np.pi * uniform[1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
