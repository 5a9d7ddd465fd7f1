"""A filter as the sum of a stable one, which reduction can shrink, and of the rest, which it keeps."""

from __future__ import annotations

import torch
from torch import Tensor

from transferfn.core import TransferFunction, select
from transferfn.core.algebra import parallel
from transferfn.core.converted import response_error, samples_to_compare
from transferfn.core.from_poles import LARGEST_ERROR as LARGEST_LOSS
from transferfn.core.from_poles import polynomial
from transferfn.core.kernel import spread
from transferfn.core.polynomial import monic, roots, toeplitz

LARGEST_ERROR = 1e-4  # of the sum of both parts, relative to the largest sample; it is that of the coefficients
LARGEST_PART = 100.0  # times the largest sample of the filter: parts that cancel more of each other are none

Parts = tuple[TransferFunction, TransferFunction]
"""The stable part and the rest."""


def stable_part(h: TransferFunction) -> Parts:
    """Split a filter by its poles: H = H_stable + H_rest, with the poles of H_rest on or outside the unit circle.

    A pole belongs to the rest unless it is certainly inside.

    Args:
        h: One filter, numerator (1, n), float64.

    Returns:
        The stable part, with the feedthrough, and the rest, strictly proper. Either may be of order 0.

    Raises:
        ArithmeticError: if poles of both kinds are too close together, so that the parts cancel each other.

    Source:
        Additive decomposition: B = B_stable A_rest + B_rest A_stable, linear equations in both numerators.

    Example:
        An integrator beside a pole at 0.5:

        >>> b, a = torch.tensor([[[1.0, 0.0]], [[-1.5, 0.5]]], dtype=torch.float64)
        >>> stable, rest = stable_part(TransferFunction(b, a, 0 * b[:, 0]))
        >>> stable.a, stable.b, rest.a, rest.b
        (tensor([[-0.5000]], dtype=torch.float64), tensor([[-1.]], dtype=torch.float64),
        tensor([[-1.]], dtype=torch.float64), tensor([[2.]], dtype=torch.float64))
    """
    poles, uncertainty = (x[0] for x in roots(h.a))
    inside = poles.abs() + uncertainty < 1
    a_stable, a_rest = (polynomial(poles[which])[None] for which in (inside, ~inside))
    n, kept = h.order, int(inside.sum())
    equations = torch.cat((toeplitz(monic(a_rest)[0], n, kept), toeplitz(monic(a_stable)[0], n, n - kept)), -1)
    numerators = torch.linalg.lstsq(equations, h.b.mT, driver="gelsd").solution.mT
    stable = TransferFunction(numerators[:, :kept], a_stable, h.h0, h.dt)
    rest = TransferFunction(numerators[:, kept:], a_rest, torch.zeros_like(h.h0), h.dt)
    length = samples_to_compare(poles, uncertainty)
    truth, first, second = (one.impulse_response(length) for one in (h, stable, rest))
    error = float(response_error(first + second, truth).max())
    if not error <= LARGEST_ERROR or float(first.abs().max()) > LARGEST_PART * float(truth.abs().max()):
        raise ArithmeticError(
            f"the poles inside the unit circle cannot be told from the other {n - kept}: split into both, the filter "
            f"is a difference of responses {float(first.abs().max() / truth.abs().max()):.1g} times as large, off by "
            f"{error:.1g}"
        )
    return stable, rest


def stable_parts(system: TransferFunction, order: int | None) -> tuple[dict[int, Parts], dict[int, str]]:
    """Split those filters of a bank that are not certainly stable.

    Args:
        system: The filters, numerator (D, n), float64.
        order: Order that they are to be reduced to, the rest included; None means any.

    Returns:
        Both parts by channel, and by channel why others have none of use.

    Example:
        >>> b, a = torch.tensor([[[1.0, 0.0]], [[-1.5, 0.5]]], dtype=torch.float64)
        >>> parts, why = stable_parts(TransferFunction(b, a, 0 * b[:, 0]), order=1)
        >>> why
        {0: '1 of its poles are on or outside the unit circle and kept, so that order=1 leaves no other'}
    """
    stable = spread(system.stability().stable, system.channels, axis=-1)
    parts: dict[int, Parts] = {}
    why: dict[int, str] = {}
    for d in (~stable).nonzero()[:, 0].tolist():
        try:
            found = stable_part(select(system, [d]))
        except ArithmeticError as error:
            why[d] = str(error)
            continue
        kept = found[1].order
        if not found[0].order:
            why[d] = "no pole is certainly inside the unit circle"
        elif order is not None and order <= kept:
            why[d] = f"{kept} of its poles are on or outside the unit circle and kept, so that {order=} leaves no other"
        else:
            parts[d] = found
    return parts, why


def joined(stable: TransferFunction, rest: TransferFunction) -> TransferFunction:
    """The sum of both parts as one filter.

    Args:
        stable: One filter, float64.
        rest: Another, of any order.

    Raises:
        ArithmeticError: if coefficients do not hold the sum.

    Example:
        >>> half = torch.full((1, 1), 0.5, dtype=torch.float64)
        >>> joined(TransferFunction(half, -half, half[0]), TransferFunction(half, -2 * half, 0 * half[0])).a
        tensor([[-1.5000,  0.5000]], dtype=torch.float64)
    """
    whole = TransferFunction(*parallel((stable.b, stable.a, stable.h0), (rest.b, rest.a, rest.h0)), stable.dt)
    length = samples_to_compare(*roots(whole.a))
    truth: Tensor = stable.impulse_response(length) + rest.impulse_response(length)
    error = float(response_error(whole.impulse_response(length), truth).max())
    if not error <= LARGEST_LOSS:
        raise ArithmeticError(
            f"coefficients of order {whole.order} do not hold the reduced filter with its {rest.order} poles on or "
            f"outside the unit circle: they are off by {error:.1g}"
        )
    return whole
