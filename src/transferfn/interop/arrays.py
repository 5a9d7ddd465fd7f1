"""Banks of filters as the arrays of ``scipy.signal``, one row a channel, and back: (b, a), (z, p, k) and sections."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from transferfn.core.algebra import numerator
from transferfn.core.bank import check_one_bank
from transferfn.core.checks import refuse_foreign
from transferfn.core.converted import Converted, check_error, response_error, samples_to_compare
from transferfn.core.doubt import warn_of_rounded
from transferfn.core.from_poles import LARGEST_ERROR, check_holds_sections
from transferfn.core.kernel import spread
from transferfn.core.polynomial import finite_roots, monic, roots
from transferfn.core.system import TransferFunction

ZPK = tuple[NDArray[np.complexfloating], NDArray[np.complexfloating], float]
Array = NDArray[np.floating]


def from_ba(
    b: ArrayLike | Tensor,
    a: ArrayLike | Tensor,
    *,
    dt: float | None = None,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> TransferFunction:
    """Filters from the arrays of ``scipy.signal.lfilter``; exact but for the division by a[0].

    Coefficients are the filter, whatever they were computed from, so that there is no error to return. Warns
    (:class:`~transferfn.IllConditionedWarning`) where float64 is too narrow to run them: poles so close together that
    rounding in the recurrence changes the response. Such coefficients hold no design, either.

    Args:
        b: Numerator, b[0] first, ascending powers of 1/z, (nb) or (D, nb).
        a: Denominator, a[0] first, (na) or (G, na), G a divisor of D.
        dt: Sampling interval in seconds; None means per sample.
        length: Number of samples over which the recurrence in float64 is compared with one in ``longdouble``; None
            means until responses have died out.
        tolerance: Largest difference, relative to the largest sample of each channel, of which nothing is said.

    Returns:
        The filters, float64, of order max(na, nb) - 1.

    Raises:
        TypeError: if coefficients are complex.
        ValueError: if a[0] is zero, there is no coefficient, or shapes do not fit.

    Example:
        >>> from_ba([1.0, 0.5], [2.0, -1.0])
        TransferFunction(b=tensor([[0.5000]], dtype=torch.float64), a=tensor([[-0.5000]], dtype=torch.float64),
        h0=tensor([0.5000], dtype=torch.float64), dt=None)
    """
    return as_given(bank_of(b, a, dt), length, tolerance).value


def as_given(h: TransferFunction, length: int | None, tolerance: float) -> Converted[TransferFunction]:
    """Coefficients as they were given, whose error is none, and a warning where float64 is too narrow to run them.

    Args:
        h: The filters, numerator (D, n).
        length: Number of samples over which the recurrence is compared with one in ``longdouble``; None means until
            responses have died out.
        tolerance: Largest difference, relative to the largest sample of each channel, of which nothing is said.

    Returns:
        The filters and zeros, (D).
    """
    length = samples_to_compare(*roots(h.a)) if length is None else length
    warn_of_rounded(h.b, h.a, h.h0, length=length, tolerance=tolerance)
    return Converted(h, torch.zeros(h.channels, dtype=torch.float64), length)


def bank_of(b: ArrayLike | Tensor, a: ArrayLike | Tensor, dt: float | None) -> TransferFunction:
    """The same as :func:`from_ba`, without a look at what float64 makes of it.

    Args:
        b: Numerator, (nb) or (D, nb).
        a: Denominator, (na) or (G, na).
        dt: Sampling interval in seconds; None means per sample.

    Returns:
        The filters.
    """
    b, a = (np.atleast_2d(as_real(name, value)) for name, value in (("b", b), ("a", a)))
    if b.ndim != 2 or a.ndim != 2 or not b.shape[1] or not a.shape[1]:
        raise ValueError(f"expected b (nb) or (D, nb) and a (na) or (G, na), not empty, got {b.shape} and {a.shape}")
    if (a[:, 0] == 0).any():
        raise ValueError("a[0] must not be zero: the filter would not be causal")
    if len(b) % len(a):
        raise ValueError(f"the number of denominators must divide that of numerators, got {len(a)} and {len(b)}")
    n = max(a.shape[1], b.shape[1]) - 1
    b, a = (np.pad(x, ((0, 0), (0, n + 1 - x.shape[1]))) for x in (b, a))
    lead = a[:, :1]
    b, a = b / np.repeat(lead, len(b) // len(a), 0), a / lead
    proper = b[:, 1:] - b[:, :1] * np.repeat(a, len(b) // len(a), 0)[:, 1:]
    b_proper, a_rest, h0 = (torch.from_numpy(x.copy()) for x in (proper, a[:, 1:], b[:, 0]))
    return TransferFunction(b_proper, a_rest, h0, dt)


def to_ba(h: TransferFunction) -> tuple[Array, Array]:
    """The arrays that ``scipy.signal.lfilter`` takes, one row a channel; exact but for rounding of b + h0 a.

    Args:
        h: The filters, numerator (D, n).

    Returns:
        b and a, (D, n + 1) each, b[0] and a[0] = 1 first.

    Raises:
        ValueError: if h is more than one bank.

    Example:
        >>> to_ba(from_ba([1.0, 0.5], [2.0, -1.0]))
        (array([[0.5 , 0.25]]), array([[ 1. , -0.5]]))
    """
    h = one_bank(h)
    return numerator(h.b, h.a, h.h0).numpy(), spread(monic(h.a), h.channels).numpy()


def from_zpk(
    z: ArrayLike,
    p: ArrayLike,
    k: float,
    *,
    dt: float | None = None,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Converted[TransferFunction]:
    """One filter from its zeros, poles and gain; :func:`~transferfn.core.bank.stack` makes banks.

    Args:
        z: Zeros, with the conjugates of complex ones, no more than poles.
        p: Poles, likewise.
        k: Gain: H(z) = k prod(z - z_i) / prod(z - p_i).
        dt: Sampling interval in seconds; None means per sample.
        length: Number of samples over which the impulse response is compared with that of second-order sections; None
            means until it has died out.
        tolerance: Largest error that is not refused, relative to the largest sample.

    Returns:
        The filter, float64, and its error, (1).

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filter.
        ValueError: if there are more zeros than poles, or conjugates are missing.

    Example:
        >>> h, error = from_zpk([-1.0], [0.5], 0.25)
        >>> h.h0, h.b, error.item()
        (tensor([0.2500], dtype=torch.float64), tensor([[0.3750]], dtype=torch.float64), 0.0)
    """
    from scipy.signal import zpk2sos

    z, p = np.atleast_1d(np.asarray(z)), np.atleast_1d(np.asarray(p))
    if len(z) > len(p):
        raise ValueError(f"the filter is not causal: it has {len(z)} zeros and {len(p)} poles")
    delays = len(p) - len(z)  # zpk2sos would put as many zeros at 0 and leave the delay out
    sos = zpk2sos(z, p, k)
    return _from_sections(_delayed(sos, delays)[None], len(p), dt, length, tolerance)


def to_zpk(h: TransferFunction, *, length: int | None = None, tolerance: float = LARGEST_ERROR) -> Converted[list[ZPK]]:
    """Zeros, poles and gain of each channel.

    Args:
        h: The filters, numerator (D, n).
        length: Number of samples over which the impulse responses are compared; None means until they have died out.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.

    Returns:
        z, p and k of each channel, as ``scipy.signal.zpk2sos`` takes them; and the error of each channel, (D), of the
        sections they make.

    Raises:
        ArithmeticError: if rounding of the roots loses a filter: those of clustered poles are uncertain.
        ValueError: if h is more than one bank.

    Example:
        >>> [(z, p, k)], error = to_zpk(from_ba([1.0, 0.5], [2.0, -1.0]))
        >>> z.real, p.real, k
        (array([-0.5]), array([0.5]), 0.5)
    """
    h = one_bank(h)
    zpk = _factors(h)
    length = samples_to_compare(*roots(h.a)) if length is None else length
    error = _error_of_sections(_sections(zpk, h.order), h, length)
    check_error(
        error,
        tolerance,
        what=f"the zeros and poles of order {h.order} do not hold the filters, for the coefficients hardly tell them",
        instead="Keep the coefficients, or design the filters as zeros and poles or second-order sections.",
    )
    return Converted(zpk, error, length)


def from_sos(
    sos: ArrayLike | Tensor,
    *,
    dt: float | None = None,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Converted[TransferFunction]:
    """Filters from second-order sections: their product.

    Args:
        sos: Rows b0, b1, b2, a0, a1, a2, (S, 6), or those of each channel, (D, S, 6).
        dt: Sampling interval in seconds; None means per sample.
        length: Number of samples over which the impulse responses are compared with those of the sections; None means
            until they have died out.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.

    Returns:
        The filters, float64, of order 2 S less the coefficients that end in zeros everywhere; and the error of each
        channel, (D).

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filters.
        ValueError: if the shape is another one, or an a0 is zero.

    Example:
        >>> from_sos([[1.0, 0, 0, 1, -0.5, 0], [2.0, 0, 0, 1, -0.25, 0]]).value.a
        tensor([[-0.7500, 0.1250]], dtype=torch.float64)
    """
    sections = as_real("sos", sos)
    sections = sections[None] if sections.ndim == 2 else sections
    if sections.ndim != 3 or sections.shape[-1] != 6 or not sections.size:
        raise ValueError(f"sos is (S, 6), or (D, S, 6) of a bank, got {np.shape(sos)}")
    if (sections[..., 3] == 0).any():
        raise ValueError("a0 of a section must not be zero: the filter would not be causal")
    b, a = _product(sections)
    ends = np.flatnonzero((b != 0).any(0) | (a != 0).any(0))[-1]
    return _from_sections(sections, int(ends), dt, length, tolerance)


def to_sos(h: TransferFunction, *, length: int | None = None, tolerance: float = LARGEST_ERROR) -> Converted[Array]:
    """Second-order sections of each channel, paired and ordered by ``scipy.signal.zpk2sos``.

    Args:
        h: The filters, numerator (D, n).
        length: Number of samples over which the impulse responses are compared; None means until they have died out.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.

    Returns:
        Sections, (D, ceil(n / 2), 6), and the error of each channel, (D). What is lost in coefficients does not come
        back in sections made of them: design high orders as sections.

    Raises:
        ArithmeticError: if rounding of the roots loses a filter.
        ValueError: if h is more than one bank.

    Example:
        >>> to_sos(from_ba([1.0, 0.5], [2.0, -1.0])).value
        array([[[ 0.5 , 0.25, 0. , 1. , -0.5 , 0. ]]])
    """
    h = one_bank(h)
    sections = _sections(_factors(h), h.order)
    length = samples_to_compare(*roots(h.a)) if length is None else length
    error = _error_of_sections(sections, h, length)
    check_error(
        error,
        tolerance,
        what=f"second-order sections made of {h.order} uncertain poles do not hold the filters",
        instead="Keep the coefficients, or design the filters as second-order sections.",
    )
    return Converted(sections, error, length)


def one_bank(h: TransferFunction) -> TransferFunction:
    """The coefficients of a bank as arrays can be made of them: float64, on the CPU, without derivatives.

    Args:
        h: The filters, numerator (D, n).

    Returns:
        The same filters.

    Raises:
        ValueError: if h is more than one bank.
    """
    check_one_bank(h)
    b, a, h0 = (x.detach().to("cpu", torch.float64) for x in (h.b, h.a, h.h0))
    return TransferFunction(b, a, h0, h.dt)


def as_real(name: str, value: ArrayLike | Tensor) -> Array:
    """An array of real numbers, float64.

    Args:
        name: What the caller calls it.
        value: What the caller passed.

    Returns:
        The array.

    Raises:
        TypeError: if it is complex, or a system of another library.
    """
    refuse_foreign(f"an array {name}", value)
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if np.iscomplexobj(array):
        raise TypeError(f"{name} must be real, got {array.dtype}")
    return array.astype(np.float64)


def _factors(h: TransferFunction) -> list[ZPK]:
    poles = spread(roots(h.a)[0], h.channels)
    whole = numerator(h.b, h.a, h.h0)
    zeros = finite_roots(whole)[0]
    found: list[ZPK] = []
    for z, p, c in zip(zeros, poles, whole, strict=True):
        z = z[z.isfinite()]
        gain = float(c[h.order - len(z)])
        found.append((z.numpy() if gain else np.zeros(0, complex), p.numpy(), gain))
    return found


def _sections(zpk: Sequence[ZPK], order: int) -> Array:
    from scipy.signal import zpk2sos

    rows = []
    for z, p, k in zpk:
        z, p = (_conjugate_exactly(x) for x in (z, p))
        rows.append(_delayed(zpk2sos(z, p, k), len(p) - len(z)))
    count = max((len(row) for row in rows), default=0)
    one = np.array([1.0, 0, 0, 1, 0, 0])
    return np.stack([np.concatenate((row, np.tile(one, (count - len(row), 1)))) for row in rows])


def _conjugate_exactly(x: NDArray[np.complexfloating]) -> NDArray[np.complexfloating]:
    """Conjugate pairs to the last digit, as scipy pairs them: from what is above the real axis."""
    upper = x[x.imag > 0]
    return np.concatenate((upper, upper.conj(), x[x.imag == 0]))


def _delayed(sos: Array, delays: int) -> Array:
    """Sections with the delays that zpk2sos leaves out, z^-delays, shifted into numerators that have room for them."""
    sos = sos.copy()
    for row in sos:
        while delays and row[2] == 0:
            row[:3] = (0, *row[:2])
            delays -= 1
    more = [[0.0, 0, 1, 1, 0, 0]] * (delays // 2) + [[0.0, 1, 0, 1, 0, 0]] * (delays % 2)
    return np.concatenate((sos, np.array(more).reshape(-1, 6)))


def _product(sections: Array) -> tuple[Array, Array]:
    """Numerators and denominators of products of sections, a[0] = 1, (D, 2 S + 1) each."""
    found = []
    for rows in sections:
        b, a = np.ones(1), np.ones(1)
        for row in rows:
            b, a = np.convolve(b, row[:3] / row[3]), np.convolve(a, row[3:] / row[3])
        found.append((b, a))
    b, a = zip(*found, strict=True)
    return np.stack(b), np.stack(a)


def _from_sections(
    sections: Array, order: int, dt: float | None, length: int | None, tolerance: float
) -> Converted[TransferFunction]:
    b, a = (x[:, : order + 1] for x in _product(sections))
    h = bank_of(b, a, dt)
    poles = torch.stack([roots(torch.from_numpy(rows[:, 4:] / rows[:, 3:4]))[0].flatten() for rows in sections])
    length = samples_to_compare(poles) if length is None else length
    error = _error_of_sections(sections, h, length, truth_is_sections=True)
    check_holds_sections(h, poles, error, tolerance)
    return Converted(h, error, length)


def _error_of_sections(sections: Array, h: TransferFunction, length: int, *, truth_is_sections: bool = False) -> Tensor:
    from scipy.signal import sosfilt

    impulse = np.zeros(length)
    impulse[0] = 1
    by_sections = torch.from_numpy(np.stack([sosfilt(rows, impulse) for rows in sections]))
    by_coefficients = h.impulse_response(length)
    pair = (by_coefficients, by_sections) if truth_is_sections else (by_sections, by_coefficients)
    return response_error(*pair)
