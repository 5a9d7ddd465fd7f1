"""Initial coefficients of a bank: functions from sizes to (b, a, h0)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from transferfn.core.kernel import spread
from transferfn.kernels.aliased import aliased_by_torch

Coefficients = tuple[Tensor, Tensor, Tensor]


def comb(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    exact: bool = False,
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Stable from the start, with long memory: poles evenly spread on a circle, n distinct lags each.

    Only a_n = +-exp(-n / tau) is not zero, with tau from n to twice the horizon, evenly spread in its logarithm over
    the denominators (the geometric mean if there is one) and dealt to them at random, and a random sign. The numerator
    is uniform, scaled so that each kernel has Euclidean norm 1; the feedthrough is zero.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Horizon P in samples, which sets the memory.
        denominator_groups: Number of distinct denominators G.
        exact: Whether the numerator will be read as the true one or as the truncated one.
        generator: Source of randomness; None means PyTorch's default.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> b, a, h0 = comb(2, 3, horizon=100, denominator_groups=1)
        >>> a.shape, bool((a[:, :-1] == 0).all())
        (torch.Size([1, 3]), True)
    """
    quantiles = (torch.arange(denominator_groups, dtype=torch.float64) + 0.5) / denominator_groups
    low, high = math.log(order), math.log(2 * max(horizon, order))
    tau = torch.exp(low + (high - low) * quantiles)[torch.randperm(denominator_groups, generator=generator)]
    sign = torch.randint(2, (denominator_groups,), generator=generator) * 2 - 1
    a = torch.zeros(denominator_groups, order, dtype=torch.float64)
    a[:, -1] = sign * torch.exp(-order / tau)
    b = _uniform(channels, order, bound=1.0, generator=generator)
    h0 = torch.zeros(channels, dtype=torch.float64)
    if exact:  # h_(j + m n) = b_j (-a_n)^m
        powers = (-a[:, -1:]) ** torch.arange(-(-(horizon - 1) // order))
        k = (spread(powers, channels)[..., None] * b[:, None]).flatten(1)[:, : horizon - 1]
    else:
        k = aliased_by_torch(b, a, h0, horizon)  # native loops would be compiled for this alone
    return b / k.norm(dim=-1, keepdim=True), a, h0


def zeros(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    exact: bool = False,
    generator: torch.Generator | None = None,
) -> Coefficients:
    """The paper's default: the identity, a = b = 0 and h0 = 1. Its memory is about n samples.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Not needed here.
        denominator_groups: Number of distinct denominators G.
        exact: Not needed here.
        generator: Not needed here.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> zeros(1, 2, horizon=100, denominator_groups=1)[2]
        tensor([1.], dtype=torch.float64)
    """
    b = torch.zeros(channels, order, dtype=torch.float64)
    return b, torch.zeros(denominator_groups, order, dtype=torch.float64), torch.ones(channels, dtype=torch.float64)


def xavier(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    exact: bool = False,
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Uniform in +-1/sqrt(n), h0 = 1. Often unstable: about 10 % of denominators at n = 4, 98 % at n = 256.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Not needed here.
        denominator_groups: Number of distinct denominators G.
        exact: Not needed here.
        generator: Source of randomness; None means PyTorch's default.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> bool(xavier(2, 4, horizon=100, denominator_groups=1)[1].abs().max() <= 0.5)
        True
    """
    bound = order**-0.5
    b = _uniform(channels, order, bound=bound, generator=generator)
    a = _uniform(denominator_groups, order, bound=bound, generator=generator)
    return b, a, torch.ones(channels, dtype=torch.float64)


def montel(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    exact: bool = False,
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Uniform in +-1/n, h0 = 1. Always stable, since the |a_i| add up to less than 1; its memory is about n samples.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Not needed here.
        denominator_groups: Number of distinct denominators G.
        exact: Not needed here.
        generator: Source of randomness; None means PyTorch's default.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> bool(montel(2, 4, horizon=100, denominator_groups=1)[1].abs().sum() < 1)
        True
    """
    b = _uniform(channels, order, bound=1 / order, generator=generator)
    a = _uniform(denominator_groups, order, bound=1 / order, generator=generator)
    return b, a, torch.ones(channels, dtype=torch.float64)


def _uniform(*shape: int, bound: float, generator: torch.Generator | None) -> Tensor:
    return (torch.rand(*shape, dtype=torch.float64, generator=generator) * 2 - 1) * bound
