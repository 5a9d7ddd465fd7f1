"""Series, parallel and feedback connections of banks, and inverses, on their coefficients (b, a, h0)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.kernel import spread
from transferfn.core.polynomial import monic, multiply
from transferfn.kernels.tracing import values_are_hidden

Coefficients = tuple[Tensor, Tensor, Tensor]


def numerator(b: Tensor, a: Tensor, h0: Tensor) -> Tensor:
    """Whole numerator h0 A(z) + B(z) over the common denominator A(z).

    Args:
        b: Strictly proper numerator, (*bank, D, n).
        a: Denominator, (*bank, G, n).
        h0: Feedthrough, (*bank, D).

    Returns:
        Coefficients of z^0..z^-n, (*bank, D, n + 1).
    """
    return h0[..., None] * spread(monic(a), b.shape[-2]) + pad(b, (1, 0))


def series(first: Coefficients, second: Coefficients) -> Coefficients:
    """One filter after the other: H_1(z) H_2(z).

    Args:
        first: Coefficients (b, a, h0) of D channels.
        second: Coefficients of as many channels.

    Returns:
        Coefficients of order n_1 + n_2.

    Example:
        Two delays of one sample make one of two:

        >>> delay = torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([0.0])
        >>> series(delay, delay)[0]
        tensor([[0., 1.]])
    """
    return _proper(multiply(numerator(*first), numerator(*second)), _common_denominator(first, second))


def parallel(first: Coefficients, second: Coefficients) -> Coefficients:
    """Both filters on the same input, outputs added: H_1(z) + H_2(z).

    Args:
        first: Coefficients (b, a, h0) of D channels.
        second: Coefficients of as many channels.

    Returns:
        Coefficients of order n_1 + n_2.

    Example:
        A delay of one sample, twice:

        >>> delay = torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([0.0])
        >>> parallel(delay, delay)[0]
        tensor([[2., 0.]])
    """
    channels = first[0].shape[-2]
    left = multiply(numerator(*first), spread(monic(second[1]), channels))
    right = multiply(numerator(*second), spread(monic(first[1]), channels))
    return _proper(left + right, _common_denominator(first, second))


def feedback(forward: Coefficients, backward: Coefficients, *, sign: int) -> Coefficients:
    """Closed loop H / (1 - sign H G).

    Args:
        forward: Coefficients (b, a, h0) of H.
        backward: Coefficients of G, as many channels.
        sign: -1 for negative feedback, +1 for positive.

    Returns:
        Coefficients of order n_1 + n_2, one denominator a channel.

    Raises:
        ValueError: if 1 - sign h0 g0 vanishes for some channel, so that the loop has no solution at t = 0; inside
            compiled graphs and function transforms, where nobody can look, the result is not finite instead.

    Example:
        A delay with its output subtracted from its input has the pole -1:

        >>> delay = torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([0.0])
        >>> one = torch.zeros(1, 0), torch.zeros(1, 0), torch.tensor([1.0])
        >>> feedback(delay, one, sign=-1)[1]
        tensor([[1.]])
    """
    channels = forward[0].shape[-2]
    open_loop = multiply(numerator(*forward), numerator(*backward))
    whole = spread(multiply(*_to_common_groups(monic(forward[1]), monic(backward[1]))), channels) - sign * open_loop
    lead = whole[..., :1]
    if not values_are_hidden() and bool((lead.detach().abs() <= torch.finfo(lead.dtype).eps).any()):
        raise ValueError(
            "the loop is algebraic and has no solution: 1 - sign * h0 * g0 is zero for some channel. "
            "Put a delay (zero feedthrough) into one of the two paths."
        )
    top = multiply(numerator(*forward), spread(monic(backward[1]), channels))
    return _proper(top / lead, (whole / lead)[..., 1:])


def inverse(h: Coefficients) -> Coefficients:
    """The filters that undo given ones: 1 / H(z), poles and zeros exchanged.

    Args:
        h: Coefficients (b, a, h0) of D channels.

    Returns:
        Coefficients of the same order, one denominator a channel.

    Raises:
        ZeroDivisionError: if h0 vanishes for some channel, so that the inverse is no causal filter; inside compiled
            graphs and function transforms, where nobody can look, the result is not finite instead.

    Example:
        A leaky integrator is undone by the difference of a sample and half of the one before:

        >>> leaky = torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0])
        >>> inverse(leaky)
        (tensor([[-0.5000]]), tensor([[0.]]), tensor([1.]))
    """
    whole = numerator(*h)
    lead = whole[..., :1]
    size = whole.detach().abs()
    is_lost = size[..., 0] <= torch.finfo(whole.dtype).eps * size.amax(-1)
    if not values_are_hidden() and bool(is_lost.any()):
        raise ZeroDivisionError(
            f"{int(is_lost.sum())} of {is_lost.numel()} filters have zero feedthrough: they begin with a delay, and "
            f"what undoes them would have to foresee its input. Divide by the filters without their delay, or close a "
            f"loop with feedback()."
        )
    return _proper(spread(monic(h[1]), whole.shape[-2]) / lead, (whole / lead)[..., 1:])


def _proper(whole: Tensor, a: Tensor) -> Coefficients:
    """Split h0 off a whole numerator of the same degree as the denominator."""
    h0 = whole[..., 0]
    return (whole - h0[..., None] * spread(monic(a), whole.shape[-2]))[..., 1:], a, h0


def _common_denominator(first: Coefficients, second: Coefficients) -> Tensor:
    return multiply(*_to_common_groups(monic(first[1]), monic(second[1])))[..., 1:]


def _to_common_groups(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    groups = math.lcm(p.shape[-2], q.shape[-2])
    return spread(p, groups), spread(q, groups)
