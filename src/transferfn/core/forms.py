"""The same filter in other coordinates: second-order sections, modes and the normalised lattice.

The coefficients of a long direct form determine poles that crowd together badly, so that what is made of them is
computed in NumPy's ``longdouble`` where the machine has a wider one than float64, and rounded at the end. Nothing here
has derivatives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.core.bank import check_filters
from transferfn.core.kernel import spread
from transferfn.core.modal import ModalSystem
from transferfn.core.polynomial import roots
from transferfn.core.system import TransferFunction

POINTS = 4096  # of the unit circle, at which the largest gain of a section is looked for
SWEEPS = 50  # of the refinement of roots at most
LARGEST_REFINED = 64  # orders up to here afford it
BITS = 192  # behind the point of the numbers in it
REAL = 1e-3  # a root is never taken for real if its angle is larger

Sections = Float[Tensor, "D sections 6"]
"""Sections of each channel, b0, b1, b2, 1, a1, a2 as ``scipy.signal`` has them."""


def second_order_sections(system: TransferFunction) -> Sections:
    """Factor filters into sections of order 2, in the pairs and the order of ``scipy.signal.zpk2sos``.

    Each pair of poles goes with the zeros nearest to it, those nearest to the unit circle last. The largest gain, over
    all frequencies, of each section together with those before it is 1, but for the last one, which has the filter's.

    Args:
        system: D filters of order n.

    Returns:
        Sections, float64, (D, ceil(n / 2), 6), at least one.

    Raises:
        ArithmeticError: if poles or zeros cannot be paired.

    Source:
        scipy.signal.zpk2sos, pairing "nearest"; the scaling is the L-infinity one of Jackson 1970.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> second_order_sections(decay)
        tensor([[[ 1.0000,  0.0000,  0.0000,  1.0000, -0.5000,  0.0000]]], dtype=torch.float64)
    """
    b, a, h0 = _by_channel(system)
    rows = [_sections_of(*one) for one in zip(b, a, h0, strict=True)]
    return torch.as_tensor(np.stack(rows), dtype=torch.float64, device=system.a.device)


def modes(system: TransferFunction) -> ModalSystem:
    """Expand filters in partial fractions: one complex mode for each pair of poles, and one for each real pole.

    A mode's state has a variance of about 1 if the input is white noise of variance 1.

    Args:
        system: D filters of order n.

    Returns:
        The system, complex128. Where channels have different numbers of modes, modes without effect fill them up.

    Raises:
        ArithmeticError: if poles coincide, or one is 0, which no mode holds.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([2.0]))
        >>> modes(decay).kernel(4, torch.float64)
        tensor([[2.0000, 0.5000, 0.2500, 0.1250]], dtype=torch.float64)
    """
    b, a, h0 = _by_channel(system)
    found = [_modes_of(*one) for one in zip(b, a, h0, strict=True)]
    most = max((len(p) for p, _, _ in found), default=0)

    def filled(parts: list[Any]) -> Tensor:
        rows = np.stack([np.pad(x.astype(np.complex128), (0, most - len(x))) for x in parts])
        return torch.as_tensor(rows, device=system.a.device)

    A, C = filled([p for p, _, _ in found]), filled([c for _, c, _ in found])
    gain = (1 - A.abs() ** 2).abs().clamp_min(torch.finfo(torch.float64).eps).sqrt()
    D = torch.as_tensor(np.array([float(d) for _, _, d in found]), dtype=torch.float64, device=system.a.device)
    return ModalSystem(A, gain.to(A.dtype), C / gain, D, system.dt)


def lattice(system: TransferFunction) -> tuple[Tensor, Tensor, Tensor]:
    """Reflection coefficients, their complements, and the taps of a normalised lattice.

    Args:
        system: D filters of order n with G denominators, all of them stable.

    Returns:
        k_1..k_n and (1 - k^2)^(1/2), (G, n) each, and taps of the states, (D, n), float64. The feedthrough is h0.

    Raises:
        ArithmeticError: if a denominator is not stable, for then it has no lattice.

    Source:
        Gray and Markel 1975, "A normalized digital filter structure".

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.6]]), torch.tensor([1.0]))
        >>> [x.item() for x in lattice(decay)]
        [-0.6, 0.8, 0.625]
    """
    a, b = _extended(system.a), _extended(system.b)
    k = _step_down(a)
    if not bool((np.abs(k) < 1).all()):
        unstable = int((~(np.abs(k) < 1).all(-1)).sum())
        raise ArithmeticError(
            f"{unstable} of {len(k)} denominators are not stable, and only stable ones have a lattice: repair them "
            f"with stabilize(), or keep another form"
        )
    c = np.sqrt((1 - k) * (1 + k))
    rows = _backward_polynomials(k, c)  # (G, n, n): states are these combinations of the companion state
    rows = np.repeat(rows, max(len(b) // max(len(k), 1), 1), axis=0)
    rest, v = b.copy(), np.zeros_like(b)
    for j in reversed(range(b.shape[1])):
        v[:, j] = rest[:, j] / rows[:, j, j]
        rest -= v[:, j : j + 1] * rows[:, j]
    return tuple(_rounded(x, system) for x in (k, c, v))  # pyright: ignore[reportReturnType]


def refined_poles(a: Any) -> Any:
    """Roots of a monic polynomial in extended precision, by Aberth's iteration from the eigenvalues in float64.

    Args:
        a: Coefficients a_1..a_n of one polynomial, an array.

    Returns:
        Real roots, then those above the real axis, then their conjugates in the same order: an array of length n, and
        how many are real.

    Source:
        Aberth 1973, "Iteration methods for finding all zeros of a polynomial simultaneously".

    Example:
        >>> poles, reals = refined_poles(np.array([-1.0, 0.5, 0.0]))
        >>> poles.astype(complex).round(6).tolist(), reals
        ([0j, (0.5+0.5j), (0.5-0.5j)], 1)
    """
    a = np.asarray(a, np.longdouble)
    at_zero = len(a) - (int(np.flatnonzero(a)[-1]) + 1 if a.any() else 0)
    c = np.concatenate(([np.longdouble(1)], a[: len(a) - at_zero]))
    start = roots(torch.as_tensor(c[1:].astype(np.float64)))[0].numpy().astype(np.clongdouble)
    candidates = [_in_pairs(start)]
    if 1 < len(c) <= LARGEST_REFINED + 1:
        # A pair near the real axis may come as two real roots: turned a little, all can go where they belong.
        candidates.append(_in_pairs(_by_aberth(c, start * np.exp(1j * np.longdouble(1e-6)))))
    z, reals = min((one for one in candidates if one is not None), key=lambda one: _residual(c, one[0]))
    return np.concatenate((np.zeros(at_zero, np.clongdouble), z)), at_zero + reals


def _by_aberth(c: Any, z: Any) -> Any:
    """Only the values of the polynomial are computed exactly: near a root all but the last digits cancel."""
    slope = c[:-1] * np.arange(len(c) - 1, 0, -1)
    exact = [_fixed(x) for x in c]
    for _ in range(SWEEPS):
        with np.errstate(all="ignore"):
            newton = np.array([_value(exact, x) for x in z]) / np.polyval(slope, z)
            gaps = z[:, None] - z
            near = np.where(gaps == 0, 0, 1 / np.where(gaps == 0, 1, gaps)).sum(-1)
            move = newton / (1 - newton * near)
        move = np.where(np.isfinite(move), move, 0)
        z = z - move
        if (np.abs(move) <= 4 * np.finfo(np.longdouble).eps * np.abs(z)).all():
            break
    return z


def _value(exact: list[int], z: Any) -> Any:
    """A polynomial at z by Horner's rule in fixed-point numbers."""
    real, imag = _fixed(z.real), _fixed(z.imag)
    x, y = exact[0], 0
    for c in exact[1:]:
        x, y = ((x * real - y * imag) >> BITS) + c, (x * imag + y * real) >> BITS
    try:
        return np.longdouble(math.ldexp(x, -BITS)) + 1j * np.longdouble(math.ldexp(y, -BITS))
    except OverflowError:  # a root far outside: it stays where it is
        return np.clongdouble(np.nan)


def _fixed(x: Any) -> int:
    high = float(x)
    return int(math.ldexp(high, BITS)) + int(math.ldexp(float(x - np.longdouble(high)), BITS))


def _in_pairs(z: Any) -> tuple[Any, int] | None:
    """Real roots, then those above the axis, then their conjugates; None if above and below do not match.

    A root is real if it is much nearer to the axis than to any other: it is half as far from the axis as from its
    conjugate.
    """
    gaps = np.abs(z[:, None] - z)
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps.min(-1, initial=np.inf)
    is_real = np.abs(z.imag) < np.minimum(nearest / 4, REAL * np.abs(z)) if len(z) else np.zeros(0, bool)
    real, upper, lower = z[is_real].real, z[~is_real & (z.imag > 0)], z[~is_real & (z.imag <= 0)]
    if len(upper) != len(lower):
        return None
    return np.concatenate((real.astype(z.dtype), upper, upper.conj())), len(real)


def _residual(c: Any, z: Any) -> float:
    return float(np.abs(np.poly(z) - c).max() / np.abs(c).max()) if len(z) else 0.0


def _sections_of(b: Any, a: Any, h0: Any) -> Any:
    """Sections of one channel, (S, 6)."""
    from scipy import signal

    count = max(-(-len(a) // 2), 1)
    numerator = np.concatenate(([h0], h0 * a + b))
    large = np.flatnonzero(np.abs(numerator) > np.finfo(np.float64).eps * np.abs(numerator).sum())
    if not len(large):  # a channel that is silent
        sos = np.tile(np.array([1.0, 0, 0, 1, 0, 0]), (count, 1))
        sos[0, 0] = 0
        return sos
    delay = int(large[0])
    zeros, _ = refined_poles(numerator[delay + 1 :] / numerator[delay])
    poles, _ = refined_poles(a)
    try:
        sos = signal.zpk2sos(zeros.astype(complex), poles.astype(complex), float(numerator[delay]), pairing="nearest")
    except (ValueError, AssertionError, IndexError) as error:
        raise ArithmeticError(
            f"{len(poles)} poles and {len(zeros)} zeros cannot be paired into sections ({error}): keep another form"
        ) from error
    sos = np.concatenate((sos, np.tile(np.array([1.0, 0, 0, 1, 0, 0]), (count - len(sos), 1))))
    for _ in range(delay):  # zpk2sos makes up for missing zeros with zeros at 0, which a delay takes away again
        free = np.flatnonzero((sos[:, 2] == 0) & (np.abs(sos[:, :2]).sum(-1) > 0))
        if not len(free):
            raise ArithmeticError(f"{delay} samples of delay do not fit into {count} sections: keep another form")
        sos[free[0], :3] = 0, *sos[free[0], :2]
    return _scaled(sos)


def _scaled(sos: Any) -> Any:
    """Spread the gain over sections: the largest gain of the first m of them is 1."""
    ratio = np.fft.rfft(sos[:, :3], 2 * POINTS) / np.fft.rfft(sos[:, 3:], 2 * POINTS)
    with np.errstate(all="ignore"):
        peaks = np.abs(np.cumprod(ratio, 0)).max(-1)
    if not (np.isfinite(peaks).all() and (peaks > 0).all()):  # a pole on the circle
        return sos
    sos = sos.copy()
    sos[:, :3] *= (np.concatenate(([1], peaks[:-1])) / peaks)[:, None]
    sos[-1, :3] *= peaks[-1]
    return sos


def _modes_of(b: Any, a: Any, h0: Any) -> tuple[Any, Any, Any]:
    """Poles, weights and feedthrough of one channel: y = 2 Re(C x) + d u."""
    poles, reals = refined_poles(a)
    if (poles == 0).any():
        raise ArithmeticError(
            f"{int((poles == 0).sum())} of {len(poles)} poles are 0 (pure delays), which no mode holds: take another "
            f"form, or lower the order"
        )
    gaps = poles[:, None] - poles
    np.fill_diagonal(gaps, 1)
    if (gaps == 0).any():
        raise ArithmeticError("two poles coincide, so that there are no partial fractions: take another form")
    weights: Any = np.polyval(b, poles) / np.prod(gaps, -1) / poles if len(poles) else poles
    upper = (len(poles) - reals) // 2
    kept = reals + upper
    weights = np.concatenate((weights[:reals] / 2, weights[reals:kept]))
    return poles[:kept], weights, h0 - 2 * np.real(weights).sum()


def _step_down(a: Any) -> Any:
    """Reflection coefficients, (G, n); rows that are not stable end in values of at least 1 or NaN."""
    k = np.zeros_like(a)
    with np.errstate(all="ignore"):
        for m in reversed(range(a.shape[1])):
            k[:, m] = a[:, -1]
            head, last = a[:, :-1], a[:, -1:]
            a = (head - last * head[:, ::-1]) / ((1 - last) * (1 + last))
    return k


def _backward_polynomials(k: Any, c: Any) -> Any:
    groups, n = k.shape
    rows, a = np.zeros((groups, n, n), k.dtype), np.ones((groups, 1), k.dtype)
    scale = np.cumprod(c[:, ::-1], 1)[:, ::-1]
    for m in range(n):
        rows[:, m, : m + 1] = a[:, ::-1] * scale[:, m : m + 1]
        a = np.pad(a, ((0, 0), (0, 1)))
        a = a + k[:, m : m + 1] * a[:, ::-1]
    return rows


def _by_channel(system: TransferFunction) -> tuple[Any, Any, Any]:
    check_filters(system)
    return _extended(system.b), _extended(spread(system.a, system.channels)), _extended(system.h0)


def _extended(x: Tensor) -> Any:
    return x.detach().to("cpu", torch.float64).numpy().astype(np.longdouble)


def _rounded(x: Any, system: TransferFunction) -> Tensor:
    return torch.as_tensor(x.astype(np.float64), device=system.a.device)
