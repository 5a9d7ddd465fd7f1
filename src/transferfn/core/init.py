"""Initial coefficients of a bank: functions from sizes to (b, a, h0).

With ``numerator="lattice"`` all of them are those of a normalised lattice: taps in the place of b, and reflection
coefficients in that of a, which hold crowded poles where no denominator in float64 does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from transferfn.core.lattice import reflection_of_poles, step_down, step_up
from transferfn.kernels.aliased import aliased_by_torch, circle

Coefficients = tuple[Tensor, Tensor, Tensor]
NumeratorKind = Literal["truncated", "exact", "lattice"]


def comb(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind = "truncated",
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Stable from the start, with long memory: poles evenly spread on a circle, n distinct lags each.

    Only a_n = +-exp(-n / tau) is not zero, with tau from n to twice the horizon, evenly spread in its logarithm over
    the denominators (the geometric mean if there is one) and dealt to them at random. The signs alternate from one tau
    to the next, beginning with plus: poles at odd multiples of pi / n, whose response comes back after n samples with
    the other sign, and then at even ones, where it comes back with the same. Together two combs tell 2 n lags apart.
    A numerator is uniform, scaled so that each kernel has Euclidean norm 1 up to the horizon; taps are normal, and the
    whole response has it. The feedthrough is zero.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Horizon P in samples, which sets the memory.
        denominator_groups: Number of distinct denominators G.
        numerator: As what the layer will read b: true or truncated numerators, or taps of the normalised lattice.
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
    tau = torch.exp(low + (high - low) * quantiles)
    sign = 1 - 2 * (torch.arange(denominator_groups) % 2)
    a = torch.zeros(denominator_groups, order, dtype=torch.float64)
    a[:, -1] = (sign * torch.exp(-order / tau))[torch.randperm(denominator_groups, generator=generator)]
    b = _draw_numerator(channels, a, horizon, numerator, generator)
    return b, _as_read(a, numerator), torch.zeros(channels, dtype=torch.float64)


def resonators(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind = "truncated",
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Stable from the start, with memories of all lengths: one resonance in each of n / 2 bands, evenly spread.

    The angles of the poles are those of a comb: odd multiples of pi / n for half of the denominators, rounded up, and
    even ones for the others, dealt at random. The time constant of each pair is its own: from half the order to twice
    the horizon, evenly spread in its logarithm and dealt to the bands at random. A numerator is uniform, scaled so that
    each kernel has Euclidean norm 1 up to the horizon; taps are normal, and the whole response has it. The feedthrough
    is zero.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Horizon P in samples, which sets the longest memory.
        denominator_groups: Number of distinct denominators G.
        numerator: As what the layer will read b: true or truncated numerators, or taps of the normalised lattice.
        generator: Source of randomness; None means PyTorch's default.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> from transferfn.core.polynomial import roots
        >>> _, a, _ = resonators(2, 4, horizon=100, denominator_groups=1)
        >>> bool((roots(a)[0].abs() < 1).all())
        True
    """
    count = order // 2 + 1  # of poles that are not conjugates of others, at most
    low, high = math.log(order / 2), math.log(2 * max(horizon, order))
    dealt = torch.rand(denominator_groups, count, generator=generator).argsort(-1).to(torch.float64)
    tau = torch.exp(low + (high - low) * (dealt + 0.5) / count)
    odd = 1 - torch.randperm(denominator_groups, generator=generator) % 2
    multiple = 2 * torch.arange(order) + odd[:, None]
    own = torch.minimum(multiple, 2 * order - multiple) // 2  # conjugates share a time constant
    angle = multiple.to(torch.float64) * (math.pi / order)
    poles = torch.polar(torch.exp(-1 / torch.gather(tau, 1, own)), angle)
    a = _polynomial(poles).real[:, 1:].contiguous()
    b = _draw_numerator(channels, a, horizon, numerator, generator)
    return b, _as_read(a, numerator), torch.zeros(channels, dtype=torch.float64)


def bands(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind = "truncated",
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Combs at other sampling rates: n poles evenly spread over a band of low frequencies, of another width each.

    A denominator of bandwidth W, in radians a sample, has poles at odd multiples of W / n, even ones if n is odd, and
    time constants of tau = pi n / W: like n taps that are pi / W samples apart, its response is smooth, and comes back
    after tau samples, with the other sign if n is even. Bandwidths end at pi, where they are combs, begin where tau is
    twice the horizon, and are evenly spread in their logarithm over the denominators and dealt to them at random. High
    orders begin later, so that transfer functions can still be made of them: coefficients of float64 are right to 1e-4
    or better where sin(W / 4)^n, about the least of |A| beside the largest, is 1e-11. So tau ends at 1,767 of order 4,
    149 of order 8 and 61 of order 16; further down layers learn.

    For taps of the lattice, whose reflection coefficients are computed with as many digits as that takes. Numerators
    are as for :func:`comb`, the feedthrough is zero.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Horizon P in samples, which sets the longest memory.
        denominator_groups: Number of distinct denominators G.
        numerator: As what the layer will read b: true or truncated numerators, or taps of the normalised lattice.
        generator: Source of randomness; None means PyTorch's default.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> from transferfn.core.polynomial import roots
        >>> _, k, _ = bands(2, 4, horizon=100, denominator_groups=2, numerator="lattice")
        >>> roots(step_up(k))[0].angle().abs().amax(-1).sort().values  # 3 / 4 of the bandwidths
        tensor([0.1253, 0.8861], dtype=torch.float64)
    """
    held = 4 * math.asin(10 ** (-11 / order))
    lowest = min(math.pi, max(held, math.pi * order / (2 * max(horizon, order))))
    quantiles = (torch.arange(denominator_groups, dtype=torch.float64) + 0.5) / denominator_groups
    width = lowest * (math.pi / lowest) ** quantiles
    width = width[torch.randperm(denominator_groups, generator=generator), None]
    odd = 2 * torch.arange(order, dtype=torch.float64) + 1 - order
    poles = torch.polar(torch.exp(-width / (math.pi * order)).expand(-1, order), width * odd / order)
    k = reflection_of_poles(poles)
    a = step_up(k)
    b = _draw_numerator(channels, a, horizon, numerator, generator)
    return b, k if numerator == "lattice" else a, torch.zeros(channels, dtype=torch.float64)


def zeros(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind = "truncated",
    generator: torch.Generator | None = None,
) -> Coefficients:
    """The paper's default: the identity, a = b = 0 and h0 = 1. Its memory is about n samples.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Not needed here.
        denominator_groups: Number of distinct denominators G.
        numerator: Not needed here.
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
    numerator: NumeratorKind = "truncated",
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Uniform in +-1/sqrt(n), h0 = 1. Often unstable: about 10 % of denominators at n = 4, 98 % at n = 256.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Not needed here.
        denominator_groups: Number of distinct denominators G.
        numerator: Not needed here.
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
    return b, _as_read(a, numerator), torch.ones(channels, dtype=torch.float64)


def montel(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind = "truncated",
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Uniform in +-1/n, h0 = 1. Always stable, since the |a_i| add up to less than 1; its memory is about n samples.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Not needed here.
        denominator_groups: Number of distinct denominators G.
        numerator: Not needed here.
        generator: Source of randomness; None means PyTorch's default.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> bool(montel(2, 4, horizon=100, denominator_groups=1)[1].abs().sum() < 1)
        True
    """
    b = _uniform(channels, order, bound=1 / order, generator=generator)
    a = _uniform(denominator_groups, order, bound=1 / order, generator=generator)
    return b, _as_read(a, numerator), torch.ones(channels, dtype=torch.float64)


def normal_feedthrough(
    channels: int,
    order: int,
    *,
    start: Callable[..., Coefficients],
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind = "truncated",
    generator: torch.Generator | None = None,
) -> Coefficients:
    """Any of the others with h0 drawn from N(0, 1), as the paper's official code does; the paper itself has 1.

    Args:
        channels: Number of channels D.
        order: Order n.
        start: Where b and a come from, such as :func:`zeros`.
        horizon: Horizon P in samples.
        denominator_groups: Number of distinct denominators G.
        numerator: As what the layer will read b: true or truncated numerators, or taps of the normalised lattice.
        generator: Source of randomness; None means PyTorch's default.

    Returns:
        b (D, n), a (G, n) and h0 (D), float64.

    Example:
        >>> b, _, h0 = normal_feedthrough(1000, 2, start=zeros, horizon=100, denominator_groups=1)
        >>> bool((b == 0).all()), bool(0.8 < h0.std() < 1.2)
        (True, True)
    """
    b, a, _ = start(
        channels,
        order,
        horizon=horizon,
        denominator_groups=denominator_groups,
        numerator=numerator,
        generator=generator,
    )
    return b, a, torch.randn(channels, dtype=torch.float64, generator=generator)


def _as_read(a: Tensor, numerator: NumeratorKind) -> Tensor:
    return step_down(a) if numerator == "lattice" else a


def _polynomial(poles: Tensor) -> Tensor:
    """1, a_1, ..., a_n of the products of 1 - p z^-1, of poles in the order of their angles, (G, n), complex.

    Every other factor goes into one half and the others into the other, so that all products on the way are as evenly
    spread as the whole, and as small.
    """
    n = poles.shape[-1]
    if n == 1:
        return torch.cat([torch.ones_like(poles), -poles], -1)
    halves = (torch.fft.fft(_polynomial(poles[:, start::2]), n + 1) for start in (0, 1))
    return torch.fft.ifft(math.prod(halves, start=torch.ones(())))


def _draw_numerator(
    channels: int, a: Tensor, horizon: int, numerator: NumeratorKind, generator: torch.Generator | None
) -> Tensor:
    """Numerators or taps at random, scaled so that kernels up to the horizon, or whole responses, have norm 1."""
    order = a.shape[-1]
    if numerator == "lattice":
        taps = torch.randn(channels, order, dtype=torch.float64, generator=generator)
        return taps / taps.norm(dim=-1, keepdim=True)
    b = _uniform(channels, order, bound=1.0, generator=generator)
    h0 = torch.zeros(channels, dtype=torch.float64)
    # Native loops would be compiled for this alone. True responses: on a larger circle, as damped_response has them.
    period, exponent = circle(horizon, order, torch.float64) if numerator == "exact" else (horizon, 0.0)
    damping = torch.exp(-exponent * torch.arange(period, dtype=torch.float64))
    lags = damping[1 : order + 1]
    kernel = aliased_by_torch(b * lags, a * lags, h0, period)[..., :horizon] / damping[:horizon]
    return b / kernel.norm(dim=-1, keepdim=True)


def _uniform(*shape: int, bound: float, generator: torch.Generator | None) -> Tensor:
    return (torch.rand(*shape, dtype=torch.float64, generator=generator) * 2 - 1) * bound
