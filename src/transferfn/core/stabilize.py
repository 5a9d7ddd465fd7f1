"""Repairing filters whose coefficients put a pole on or outside the unit circle."""

from __future__ import annotations

import torch
from torch import Tensor

from transferfn.core.kernel import impulse_response, recursive_response, spread
from transferfn.core.polynomial import multiply, roots, toeplitz
from transferfn.core.stability import judged, stability
from transferfn.typing import Denominator, Feedthrough, Numerator


def stabilize(
    b: Numerator, a: Denominator, h0: Feedthrough, *, margin: float, horizon: int
) -> tuple[Numerator, Denominator, Tensor]:
    """Pull poles to the circle of radius 1 - margin and fit the numerator anew.

    A pole farther out keeps its angle; denominators that are certainly stable within the margin are left alone to the
    last bit. The others get the numerator that comes nearest to the old response over the horizon. What is certified
    is the result after rounding to the type of the coefficients: where that is not certainly stable, the margin is
    doubled.

    Args:
        b: True numerator b_1..b_n, (*bank, D, n).
        a: Denominator a_1..a_n, (*bank, G, n).
        h0: True feedthrough, (*bank, D).
        margin: Least distance of a pole to the unit circle, between 0 and 1.
        horizon: Number of samples over which the response is fitted; must exceed n.

    Returns:
        New numerator and denominator, and the error: the distance between the impulse responses over the horizon,
        relative to the norm of the old one, (*bank, D), float64.

    Raises:
        ValueError: if the margin is not between 0 and 1, or the horizon does not exceed the order.
        ArithmeticError: if no margin up to 1/2 gives coefficients that stay stable when rounded.

    Example:
        >>> b, a, h0 = torch.tensor([[1.0]]), torch.tensor([[-1.01]]), torch.tensor([0.0])
        >>> b, a, error = stabilize(b, a, h0, margin=0.01, horizon=10)
        >>> b, a, error
        (tensor([[1.0818]]), tensor([[-0.9900]]), tensor([0.0516], dtype=torch.float64))
    """
    if not 0 < margin < 1:
        raise ValueError(f"the margin is a distance to the unit circle between 0 and 1, got {margin}")
    if horizon <= a.shape[-1]:
        raise ValueError(f"the horizon must exceed the order, got horizon={horizon} for order {a.shape[-1]}")
    wide_b, wide_a, wide_h0 = (x.detach().to(torch.float64) for x in (b, a, h0))
    verdict = stability(wide_a)
    wrong = ~verdict.stable | (verdict.radius + verdict.uncertainty > 1 - margin)
    if not bool(wrong.any()):
        return b, a, torch.zeros_like(wide_h0)
    before = impulse_response(wide_b, wide_a, wide_h0, length=horizon)
    distance = margin
    while True:
        pulled = _with_poles_inside(wide_a, 1 - distance)
        new_a = torch.where(wrong[..., None], pulled, wide_a).to(a.dtype)
        if bool(judged(new_a)[0].all()):
            break
        distance *= 2
        if distance > 0.5:
            raise ArithmeticError(
                f"no stable coefficients of type {a.dtype} are near: of order {a.shape[-1]}, with clustered poles, the "
                f"direct form loses them to rounding. Use float64, a lower order or second-order sections."
            )
    channels, length = b.shape[-2], before.shape[-1]
    # Least squares over the horizon: sum_i b_i g_(t-i) against h_t, t = 1..horizon - 1.
    g = recursive_response(new_a.to(torch.float64), length - 1)
    basis = toeplitz(g, length - 1, a.shape[-1])
    wanted = before[..., 1:].unflatten(-2, (a.shape[-2], -1)).mT
    matched = torch.linalg.lstsq(basis, wanted).solution.mT.flatten(-3, -2)
    new_b = torch.where(spread(wrong, channels, axis=-1)[..., None], matched, wide_b).to(b.dtype)
    after = impulse_response(new_b.to(torch.float64), new_a.to(torch.float64), wide_h0, length=length)
    norm = before.norm(dim=-1).clamp_min(torch.finfo(torch.float64).tiny)
    return new_b, new_a, (after - before).norm(dim=-1) / norm


def _with_poles_inside(a: Tensor, radius: float) -> Tensor:
    poles, _ = roots(a)
    poles = poles * (radius / poles.abs().clamp_min(radius))
    whole = torch.ones_like(poles[..., :1])
    for k in range(poles.shape[-1]):
        factor = torch.stack((torch.ones_like(poles[..., k]), -poles[..., k]), -1)
        whole = multiply(whole, factor)
    return whole.real[..., 1:]
