"""Banks to try the mathematics on: poles where one wants them, numerators from a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from transferfn.bench import truth
from transferfn.bench.filters import STABLE, UNSTABLE
from transferfn.core import TransferFunction

Coefficients = tuple[Tensor, Tensor, Tensor]

F32, F64 = torch.float32, torch.float64
GRID = {**STABLE, **UNSTABLE}
HORIZON = 785


def denominator(*rows: Sequence[complex]) -> Tensor:
    """a_1..a_n from poles; complex ones come with their conjugates."""
    return torch.tensor(np.array([np.atleast_1d(np.poly(row)).real[1:] for row in rows]))


def coefficients(a: Tensor, channels: int = 4, seed: int = 0) -> Coefficients:
    """A random numerator and feedthrough for each channel."""
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(*a.shape[:-2], channels, a.shape[-1], dtype=a.dtype, generator=generator)
    return b, a, torch.randn(*a.shape[:-2], channels, dtype=a.dtype, generator=generator)


def bank(order: int, *, groups: int = 2, radius: float = 0.9, leading: tuple[int, ...] = (), seed: int = 0) -> Any:
    """Four channels with poles spread over angles at up to a radius: b, a, h0."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(groups * int(np.prod(leading))):
        angles = np.pi * (np.arange(order // 2) + generator.uniform(0.2, 0.8, order // 2)) / max(order // 2, 1)
        upper = radius * generator.uniform(0.6, 1, order // 2) * np.exp(1j * angles)
        real = radius * generator.uniform(-1, 1, order % 2)
        rows.append(np.concatenate((upper, upper.conj(), real)))
    return coefficients(denominator(*rows).reshape(*leading, groups, order), seed=seed)


def system(order: int, **options: Any) -> TransferFunction:
    return TransferFunction(*bank(order, **options))


@st.composite
def banks(draw: st.DrawFn, largest: float = 0.95, largest_order: int = 7) -> Coefficients:
    """Any order and parity, real and conjugate poles anywhere within a radius, tied or not."""
    order, groups = draw(st.integers(1, largest_order)), draw(st.sampled_from([1, 2, 4]))
    radius = st.integers(0, 1000).map(lambda k: k * largest / 1000)  # nothing near the smallest numbers
    angle = st.floats(0, np.pi)
    rows = []
    for _ in range(groups):
        pairs = [draw(radius) * np.exp(1j * draw(angle)) for _ in range(order // 2)]
        real = [draw(radius) * draw(st.sampled_from([-1, 1])) for _ in range(order % 2)]
        rows.append([*pairs, *np.conj(pairs), *real])
    return coefficients(denominator(*rows), seed=draw(st.integers(0, 2**16)))


@cache
def true_response(name: str) -> list[Any]:
    """h_0..h_P of a filter of the grid, 60 digits."""
    return truth.impulse_response(*truth.coefficients(GRID[name]()), HORIZON + 1)


def over_each_argument(function: Callable[..., Any], arguments: Sequence[Tensor]) -> None:
    """vmap over one argument at a time and over all of them equals a loop."""
    scales = torch.tensor([1.0, 0.5, -0.25], dtype=F64)
    size = len(scales)
    for batched in (*range(len(arguments)), None):
        mapped = [batched in (k, None) for k in range(len(arguments))]
        given = [torch.stack([s * x for s in scales]) if m else x for x, m in zip(arguments, mapped, strict=True)]
        found = torch.func.vmap(function, in_dims=tuple(0 if m else None for m in mapped))(*given)
        rows = [function(*(x[k] if m else x for x, m in zip(given, mapped, strict=True))) for k in range(size)]
        several = isinstance(found, tuple)
        for part in range(len(found) if several else 1):
            looped = torch.stack([row[part] if several else row for row in rows])
            torch.testing.assert_close(found[part] if several else found, looped, rtol=1e-12, atol=1e-13)
