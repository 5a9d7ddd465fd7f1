"""The grid of filters that numerical statements are made on: easy, long, clustered, resonant, unstable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transferfn.core import TransferFunction, init

Build = Callable[[], TransferFunction]


def comb(order: int, tau: float, *, sign: int = 1) -> TransferFunction:
    """Poles evenly spread on the circle of radius exp(-1/tau).

    Args:
        order: Order n.
        tau: Memory in samples.
        sign: Sign of a_n.
    """
    a = torch.zeros(1, order, dtype=torch.float64)
    a[:, -1] = sign * math.exp(-order / tau)
    return _with_numerator(a)


def montel(order: int) -> TransferFunction:
    """Coefficients uniform in +-1/n, always stable.

    Args:
        order: Order n.
    """
    _, a, _ = init.montel(1, order, horizon=0, denominator_groups=1, generator=_seeded())
    return _with_numerator(a)


def xavier(order: int, *, seed: int) -> TransferFunction:
    """Coefficients uniform in +-1/sqrt(n), with these seeds unstable.

    Args:
        order: Order n.
        seed: Seed of the coefficients.
    """
    _, a, _ = init.xavier(1, order, horizon=0, denominator_groups=1, generator=_seeded(seed))
    return _with_numerator(a)


def reflections(order: int, spread: float) -> TransferFunction:
    """Step-up of reflection coefficients tanh(spread * randn).

    Args:
        order: Order n.
        spread: Standard deviation before tanh.
    """
    k = (spread * torch.randn(order, dtype=torch.float64, generator=_seeded())).tanh()
    a = k[:1]
    for i in range(1, order):
        a = torch.cat((a + k[i] * a.flip(0), k[i : i + 1]))
    return _with_numerator(a[None])


def resonant(pairs: int, radius: float) -> TransferFunction:
    """Conjugate pairs of poles at one radius and random angles.

    Args:
        pairs: Number of pairs, n / 2.
        radius: Their radius.
    """
    angles = math.pi * torch.rand(pairs, dtype=torch.float64, generator=_seeded())
    a = np.real(np.poly(radius * np.exp(1j * np.concatenate((angles, -angles)))))
    return _with_numerator(torch.from_numpy(a[None, 1:]))


def butterworth(order: int, cutoff: float) -> TransferFunction:
    """Low-pass with the numerator of its design.

    Args:
        order: Order n.
        cutoff: Cut-off as a fraction of the Nyquist frequency.
    """
    from scipy.signal import butter

    design: Any = butter(order, cutoff)
    b, a = (torch.from_numpy(c) for c in design)
    return TransferFunction((b - b[0] * a)[None, 1:], a[None, 1:], b[:1].clone())


STABLE: Mapping[str, Build] = {
    "comb-n4": partial(comb, 4, 8000.0),
    "comb-n64": partial(comb, 64, 8000.0, sign=-1),
    "montel-n4": partial(montel, 4),
    "montel-n64": partial(montel, 64),
    "reflections-n16": partial(reflections, 16, 0.3),
    "reflections-n64": partial(reflections, 64, 0.1),
    "resonant-n8": partial(resonant, 4, 0.999),
} | {
    f"butterworth-n{order}-{cutoff}": partial(butterworth, order, cutoff)
    for order in (2, 4, 8)
    for cutoff in (0.01, 0.02, 0.05, 0.1, 0.2)
}
"""Filters by a readable name, each one channel, float64."""

UNSTABLE: Mapping[str, Build] = {"xavier-n8": partial(xavier, 8, seed=6), "xavier-n64": partial(xavier, 64, seed=0)}
"""The same, with poles outside the unit circle."""


def _with_numerator(a: Tensor) -> TransferFunction:
    b = torch.rand(a.shape, dtype=a.dtype, generator=_seeded(1)) * 2 - 1
    return TransferFunction(b, a, a.new_tensor([0.5]))


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
