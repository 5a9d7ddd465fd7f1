"""What rounding hides: the response and the truncation of one filter in mpmath, with as many digits as it takes.

Coefficients are lists of mpmath numbers; :func:`coefficients` makes them from float64 ones, of which no bit is lost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from transferfn.core import TransferFunction, TruncatedTransferFunction

DIGITS = 60

Numbers = list[Any]
"""mpmath numbers."""


def mpmath() -> Any:
    """The mpmath context, set to 60 digits.

    Raises:
        ImportError: if mpmath is not installed.
    """
    try:
        from mpmath import mp
    except ImportError as error:
        raise ImportError("the truth needs mpmath: pip install 'transferfn[dev]'") from error
    mp.dps = DIGITS
    return mp


def exact(x: Tensor) -> Numbers:
    """A tensor of one axis as mpmath numbers.

    Args:
        x: Values, (n).
    """
    mp = mpmath()
    return [mp.mpf(value) for value in x.tolist()]


def coefficients(system: TransferFunction, channel: int = 0) -> tuple[Numbers, Numbers, Any]:
    """Numerator, denominator and feedthrough of one channel.

    Args:
        system: Filters, without bank axes.
        channel: Which of them.
    """
    group = channel * system.denominator_groups // system.channels
    return exact(system.b[channel]), exact(system.a[group]), exact(system.h0[channel : channel + 1])[0]


def recursive_response(a: Numbers, length: int) -> Numbers:
    """g_0..g_(length-1), the impulse response of 1/A(z), by the recurrence.

    Args:
        a: Denominator a_1..a_n.
        length: Number of samples.
    """
    mp = mpmath()
    g: Numbers = []
    newest_first: Numbers = []
    for t in range(length):
        g.append(mp.mpf(t == 0) - mp.fdot(a, newest_first))
        newest_first = [g[-1], *newest_first[: len(a) - 1]]
    return g


def impulse_response(b: Numbers, a: Numbers, h0: Any, length: int) -> Numbers:
    """h_0..h_(length-1).

    Args:
        b: Numerator b_1..b_n.
        a: Denominator a_1..a_n.
        h0: Feedthrough.
        length: Number of samples.
    """
    mp, g = mpmath(), recursive_response(a, length)
    return [h0, *(mp.fdot(b, g[t - 1 :: -1]) for t in range(1, length))]


def power(a: Numbers, exponent: int) -> Numbers:
    """z^exponent modulo A(z), lowest power first, one factor of z at a time.

    Args:
        a: Denominator a_1..a_n.
        exponent: Power of z.
    """
    mp, n = mpmath(), len(a)
    remainder = [mp.mpf(k == 0) for k in range(n)]
    for _ in range(exponent):
        remainder = [below - remainder[-1] * x for below, x in zip([mp.mpf(0), *remainder[:-1]], a[::-1], strict=True)]
    return remainder


def filter_signal(u: Numbers, b: Numbers, a: Numbers, h0: Any) -> Numbers:
    """w_t = u_t - a . x_t, y_t = h0 u_t + b . x_t with x_t = (w_(t-1), ..., w_(t-n)), from rest.

    Args:
        u: Input.
        b: Numerator b_1..b_n.
        a: Denominator a_1..a_n.
        h0: Feedthrough.
    """
    mp = mpmath()
    x, y = [mp.mpf(0)] * len(a), []
    for sample in u:
        y.append(h0 * sample + mp.fdot(b, x))
        x = [sample - mp.fdot(a, x), *x[:-1]]
    return y


def truncate(b: Numbers, a: Numbers, h: Numbers, horizon: int) -> tuple[Numbers, Any]:
    """b~_j = b_j + sum_i a_i h_(P+j-i) and h0~ = h_0 - h_P, from a response that is known.

    Args:
        b: Numerator b_1..b_n.
        a: Denominator a_1..a_n.
        h: Response h_0..h_P of these coefficients, or more.
        horizon: Period P; must exceed n.
    """
    mp, n = mpmath(), len(a)
    b_tilde = [b[j - 1] + mp.fdot((a[i - 1], h[horizon + j - i]) for i in range(j, n + 1)) for j in range(1, n + 1)]
    return b_tilde, h[0] - h[horizon]


def truncated(system: TransferFunction, horizon: int) -> tuple[TruncatedTransferFunction, Numbers]:
    """The nearest float64 form of one filter relative to a horizon, and its response h_0..h_P.

    Args:
        system: One channel.
        horizon: Period P; must exceed the order.
    """
    b, a, h0 = coefficients(system)
    h = impulse_response(b, a, h0, horizon + 1)
    b_tilde, h0_tilde = truncate(b, a, h, horizon)
    return TruncatedTransferFunction(rounded(b_tilde)[None], system.a, rounded([h0_tilde]), horizon), h


def relative_error(measured: Tensor, truth: Numbers) -> float:
    """Largest difference relative to the largest true value.

    Args:
        measured: Values, (n).
        truth: What they should be.
    """
    largest = max(abs(x) for x in truth)
    difference = max(abs(x - y) for x, y in zip(exact(measured.detach()), truth, strict=True))
    return float(difference / largest) if largest else float(difference)


def rounded(x: Numbers) -> Tensor:
    """The nearest float64 values.

    Args:
        x: mpmath numbers.
    """
    return torch.tensor([float(value) for value in x], dtype=torch.float64)
