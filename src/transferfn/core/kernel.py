"""Impulse responses: true samples, samples folded modulo a period, and how much rounding costs them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.polynomial import monic, multiply, on_circle, toeplitz
from transferfn.kernels.aliased import aliased_by_torch, aliased_response, circle
from transferfn.kernels.arrays import has_plan
from transferfn.kernels.recurrence import recurrence
from transferfn.typing import Denominator, Feedthrough, Kernel, Numerator

LARGEST_RECURSIVE = 16  # orders up to which a response costs less by the recurrence than by FFT, to gain nothing there
BLOCK = 128  # samples a call advances the recurrence by where it has no native loop


def spread(per_group: Tensor, channels: int, *, axis: int = -2) -> Tensor:
    """Repeat what belongs to a denominator for each channel that uses it: channel d reads row d * G // D.

    Args:
        per_group: Tensor whose ``axis`` has G entries.
        channels: Number of channels D, a multiple of G.
        axis: Which axis counts denominators.

    Returns:
        Tensor whose ``axis`` has D entries.
    """
    return per_group.repeat_interleave(channels // per_group.shape[axis], axis)


def aliased_kernel(b: Numerator, a: Denominator, h0: Feedthrough, *, period: int) -> Kernel:
    r"""Impulse response of H(z) folded modulo ``period``, from one FFT a polynomial: Algorithm 1 of the paper.

    H(z) = h0 + (b_1 z^-1 + ... + b_n z^-n) / (1 + a_1 z^-1 + ... + a_n z^-n) is sampled at the ``period``-th roots of
    unity. With a truncated numerator the result holds the true first ``period`` samples, except that the sample at
    ``period`` has been added to the one at 0. The cost, O(period log period), does not depend on n.

    The result is finite for stable and unstable denominators alike, but for a pole on one of the roots of unity;
    there |A| is held at its rounding error, and :func:`conditioning` reports 1/eps.

    Args:
        b: Numerator b_1..b_n, (*bank, D, n).
        a: Denominator a_1..a_n, (*bank, G, n).
        h0: Feedthrough, (*bank, D).
        period: Number of samples P; must exceed n.

    Returns:
        Samples k_0..k_(P-1), (*bank, D, P).

    Raises:
        ValueError: if ``period`` does not exceed n, or the coefficients do not fit together.

    Source:
        Parnichkun et al. 2024, arXiv:2405.06147, Algorithm 1.

    Example:
        A single pole at 0.5, folded modulo 4: 1 + 1/16 + ..., 1/2 + 1/32 + ... and so on.

        >>> half = torch.tensor([[0.5]], dtype=torch.float64)
        >>> aliased_kernel(half, -half, torch.ones(1, dtype=torch.float64), period=4) * 15 / 16
        tensor([[1.0000, 0.5000, 0.2500, 0.1250]], dtype=torch.float64)
    """
    n = b.shape[-1]
    if period <= n:
        raise ValueError(f"the period must exceed the order, got period={period} for order {n}")
    if b.shape[:-2] != a.shape[:-2] or b.shape[:-1] != h0.shape or b.shape[-2] % max(a.shape[-2], 1):
        raise ValueError(
            f"expected b (*bank, D, n), a (*bank, G, n) and h0 (*bank, D) with G a divisor of D, got "
            f"{tuple(b.shape)}, {tuple(a.shape)} and {tuple(h0.shape)}"
        )
    if b.device.type == "cpu" and has_plan(period):
        lanes = aliased_response(b.flatten(0, -2), a.flatten(0, -2), h0.flatten(), period)
        return lanes.unflatten(0, b.shape[:-1])
    return aliased_by_torch(b, a, h0, period)


def conditioning(a: Denominator, *, period: int) -> Tensor:
    """How strongly rounding is amplified in filters with this denominator: kappa = (1 + sum|a_i|) / min_m |A(w_m)|.

    Every path's error is about eps * kappa, relative to the largest sample.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).
        period: Number of roots of unity w_m the minimum is taken over; must exceed n.

    Returns:
        kappa of each denominator, at least 1, (*bank, G).

    Example:
        >>> conditioning(torch.tensor([[-0.5]]), period=8)
        tensor([3.])
    """
    total = 1 + a.abs().sum(-1)
    smallest = on_circle(monic(a), period).abs().amin(-1)
    return total / smallest.clamp_min(torch.finfo(a.dtype).eps * total)


def recursive_response(a: Denominator, length: int) -> Tensor:
    """Impulse response g of 1/A(z), from the recurrence g_t = -(a_1 g_(t-1) + ... + a_n g_(t-n)) itself.

    Cheaper ways multiply their error at every block or doubling, whether by powers of the companion matrix, by squaring
    z modulo A or by Newton's iteration on 1/A: docs/numerics.md has the figures.

    Args:
        a: Denominator a_1..a_n, (*bank, G, n).
        length: Number of samples, at least 1.

    Returns:
        g_0..g_(length-1), (*bank, G, length).

    Example:
        >>> recursive_response(torch.tensor([[-0.5]]), 4)
        tensor([[1.0000, 0.5000, 0.2500, 0.1250]])
    """
    if a.device.type != "cpu":
        return _recursive_response_by_blocks(a, length)
    lanes = a.reshape(a.shape[:-1].numel(), a.shape[-1])
    impulse = pad(lanes.new_ones(len(lanes), 1), (0, length - 1)).mT[None]
    g, _ = recurrence(impulse, -lanes, lanes, lanes.new_ones(len(lanes)))  # 1/A is 1 - (A - 1)/A
    return g[0].mT.unflatten(0, a.shape[:-1])


def damped_response(b: Numerator, a: Denominator, h0: Feedthrough, *, length: int) -> tuple[Kernel, Tensor]:
    """True impulse response from H(z) on a circle outside the unit circle: two FFTs a channel, whatever the order.

    On the circle of radius r the samples are those of h_t r^-t, which die out before they are folded: with a period Q
    of 1.25 times the length and r^Q = eps^-0.56, folding costs r^-Q |h_(t+Q)| and rounding eps kappa r^length, 2e-9
    and 2e-9 kappa of the largest sample in float64, while the response does not grow: enough for float32 signals.

    Args:
        b: Numerator b_1..b_n, (*bank, D, n).
        a: Denominator a_1..a_n, (*bank, G, n).
        h0: Feedthrough, (*bank, D).
        length: Number of samples, at least 1.

    Returns:
        h_0..h_(length-1), (*bank, D, length); and how many times as large as that the response gets until Q,
        (*bank, D), without derivatives: beyond 1.8 the filter is unstable, or lost in rounding: do not trust it.

    Example:
        >>> h, growth = damped_response(torch.tensor([[1.0]]), torch.tensor([[-0.5]]), torch.tensor([0.25]), length=4)
        >>> h.round(decimals=2), bool(growth < 1)
        (tensor([[0.2500, 1.0000, 0.5000, 0.2500]]), True)
    """
    n = b.shape[-1]
    period, exponent = circle(length, n, a.dtype)
    damping = torch.exp(-exponent * torch.arange(1, n + 1, dtype=a.dtype, device=a.device))
    folded = aliased_kernel(b * damping, a * damping, h0, period=period)
    growing = torch.exp(exponent * torch.arange(period, dtype=a.dtype, device=a.device))
    h = folded[..., :length] * growing[:length]
    with torch.no_grad():
        later = (folded[..., length:] * growing[length:]).abs().amax(-1)
        growth = later / h.abs().amax(-1).clamp_min(torch.finfo(a.dtype).tiny)
    return h, growth.nan_to_num(nan=torch.inf)


def _recursive_response_by_blocks(a: Tensor, length: int) -> Tensor:
    """The same in torch operations: forward substitution a block of samples at a time."""
    n = a.shape[-1]
    block = min(BLOCK, length)
    within = toeplitz(monic(a), block, block)
    # Row t holds what sample t of a block takes from before the block: a_(t+1), ..., a_n, newest sample first.
    across = pad(a, (0, block - 1)).unfold(-1, n, 1)
    drive = pad(a.new_ones(*a.shape[:-1], 1), (0, block - 1))
    past = torch.zeros_like(a)
    blocks = []
    for _ in range(-(-length // block)):
        forced = drive - (across @ past[..., None])[..., 0]
        new = torch.linalg.solve_triangular(within, forced[..., None], upper=False, unitriangular=True)[..., 0]
        blocks.append(new)
        past = torch.cat((new.flip(-1), past), -1)[..., :n]
        drive = torch.zeros_like(drive)
    return torch.cat(blocks, -1)[..., :length]


def impulse_response(b: Numerator, a: Denominator, h0: Feedthrough, *, length: int) -> Kernel:
    """True impulse response of H(z) = h0 + B(z)/A(z), from the recurrence: nothing is folded.

    Args:
        b: Numerator b_1..b_n, (*bank, D, n).
        a: Denominator a_1..a_n, (*bank, G, n).
        h0: Feedthrough, (*bank, D).
        length: Number of samples, at least 1.

    Returns:
        h_0..h_(length-1), (*bank, D, length).

    Example:
        >>> impulse_response(torch.tensor([[1.0]]), torch.tensor([[-0.5]]), torch.tensor([0.25]), length=4)
        tensor([[0.2500, 1.0000, 0.5000, 0.2500]])
    """
    if length == 1 or b.shape[-1] == 0:
        return pad(h0[..., None], (0, length - 1))
    if b.device.type == "cpu":
        impulse = pad(b.new_ones(1, h0.numel()), (0, 0, 0, length - 1))
        h, _ = recurrence(impulse[None], b.flatten(0, -2), a.flatten(0, -2), h0.flatten())
        return h[0].mT.unflatten(0, h0.shape)
    g = spread(recursive_response(a, length - 1), b.shape[-2])
    proper = multiply(b[..., : length - 1], g, keep=length - 1)
    return torch.cat((h0[..., None], proper), -1)
