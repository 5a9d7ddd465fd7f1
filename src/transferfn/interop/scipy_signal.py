"""Banks of filters as arrays and objects of ``scipy.signal``, and back.

Arrays hold a whole bank, one row a channel. Objects hold one channel: scipy's transfer functions have one input; a bank
of D filters as one system of D inputs and D outputs is what :func:`transferfn.interop.control.to_ss` gives. All numbers
are float64. scipy's ``dt=True``, discrete time without a unit, is our ``dt=None``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from transferfn.core.bank import select
from transferfn.core.checks import interval, what_instead
from transferfn.core.converted import Converted
from transferfn.core.from_matrices import from_state_space
from transferfn.core.from_poles import LARGEST_ERROR
from transferfn.core.system import TransferFunction
from transferfn.interop.arrays import as_given, as_real, bank_of, one_bank
from transferfn.interop.arrays import from_ba as from_ba
from transferfn.interop.arrays import from_sos as from_sos
from transferfn.interop.arrays import from_zpk as from_zpk
from transferfn.interop.arrays import to_ba as to_ba
from transferfn.interop.arrays import to_sos as to_sos
from transferfn.interop.arrays import to_zpk as to_zpk

if TYPE_CHECKING:
    from scipy.signal import dlti


def from_dlti(
    system: dlti, *, length: int | None = None, tolerance: float = LARGEST_ERROR
) -> Converted[TransferFunction]:
    """Filters from a ``scipy.signal`` object in discrete time, its ``dt`` included.

    Args:
        system: A discrete-time ``TransferFunction``, ``ZerosPolesGain`` or ``StateSpace``; those with m inputs and p
            outputs become p m channels, the first output from each input first.
        length: Number of samples over which impulse responses are compared; None means until they have died out.
        tolerance: Largest error that is not refused.

    Returns:
        The filters, float64, and the error of each channel, (D); that of coefficients, taken as they are, is 0.
        They are looked at as :func:`from_ba` does, and warned of like there.

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filters.
        TypeError: if it is another object, or one in continuous time.
        ValueError: if it is not causal.

    Example:
        >>> import scipy.signal
        >>> from_dlti(scipy.signal.dlti([1.0], [1.0, -0.5], dt=0.1)).value
        TransferFunction(b=tensor([[1.]], dtype=torch.float64), a=tensor([[-0.5000]], dtype=torch.float64),
        h0=tensor([0.], dtype=torch.float64), dt=0.1)
    """
    from scipy.signal import StateSpace, ZerosPolesGain, dlti

    if not isinstance(system, dlti):
        raise TypeError(f"expected a discrete-time system of scipy.signal, got {what_instead(system)}")
    given: Any = system
    dt = interval(given.dt)
    if isinstance(system, ZerosPolesGain):
        return from_zpk(given.zeros, given.poles, given.gain, dt=dt, length=length, tolerance=tolerance)
    if isinstance(system, StateSpace):
        matrices = (np.asarray(x, dtype=np.float64) for x in (given.A, given.B, given.C, given.D))
        return from_state_space(*matrices, dt=dt, length=length, tolerance=tolerance)
    h = from_powers_of_z(given.num, given.den, dt=dt)
    return as_given(h, length, tolerance)


def to_dlti(
    h: TransferFunction,
    *,
    channel: int | None = None,
    form: Literal["tf", "zpk", "ss"] = "tf",
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Any:
    """One channel as a ``scipy.signal`` object in discrete time, with its ``dt``.

    Args:
        h: The filters, numerator (D, n).
        channel: Which; None only if there is one.
        form: ``"tf"``, ``"zpk"`` or ``"ss"`` (companion matrices): TransferFunction, ZerosPolesGain or StateSpace.
        length: Number of samples over which zeros and poles are checked, None means until responses have died out; the
            other forms are exact.
        tolerance: Largest error of theirs that is not refused.

    Returns:
        The object. What zeros and poles are off by is checked only: :func:`to_zpk` returns it.

    Raises:
        ArithmeticError: if zeros and poles do not hold the filter.
        ValueError: if no channel is named and there are several, or the form is another one.

    Example:
        >>> h = from_ba([1.0, 0.5], [2.0, -1.0], dt=0.1)
        >>> to_dlti(h).dt, to_dlti(h, form="ss").A
        (0.1, array([[0.5]]))
    """
    from scipy.signal import StateSpace, ZerosPolesGain
    from scipy.signal import TransferFunction as Fraction

    one = one_channel(h, channel)
    dt: Any = True if h.dt is None else h.dt
    if form == "tf":
        b, a = to_ba(one)
        first = int(np.flatnonzero(b[0])[0]) if b.any() else b.shape[1] - 1  # leading zeros are no coefficients of z
        return Fraction(b[0, first:], a[0], dt=dt)
    if form == "zpk":
        return ZerosPolesGain(*to_zpk(one, length=length, tolerance=tolerance).value[0], dt=dt)
    if form == "ss":
        return StateSpace(*(x[0].to(torch.float64).numpy(force=True) for x in one.state_space()[:4]), dt=dt)
    raise ValueError(f"form is 'tf', 'zpk' or 'ss', got {form!r}")


def from_powers_of_z(num: ArrayLike, den: ArrayLike, *, dt: float | None = None) -> TransferFunction:
    """Filters from coefficients of descending powers of z, where a shorter numerator means a delay.

    Args:
        num: Numerator, (k) or (D, k).
        den: Denominator, its first coefficient not zero, (m) or (G, m).
        dt: Sampling interval in seconds; None means per sample.

    Returns:
        The filters, float64, of order m - 1.

    Raises:
        ValueError: if the numerator is of a higher degree than the denominator: it is not causal.

    Example:
        >>> from_powers_of_z([1.0], [1.0, -0.5]).h0
        tensor([0.], dtype=torch.float64)
    """
    b, a = (np.atleast_2d(as_real(name, value)) for name, value in (("num", num), ("den", den)))
    excess = b.shape[1] - a.shape[1]
    if excess > 0:
        if (b[:, :excess] != 0).any():
            raise ValueError(
                f"the system is not causal: its numerator is of degree {b.shape[1] - 1} in z, its denominator of "
                f"degree {a.shape[1] - 1}"
            )
        b = b[:, excess:]
    return bank_of(np.pad(b, ((0, 0), (max(-excess, 0), 0))), a, dt)


def one_channel(h: TransferFunction, channel: int | None) -> TransferFunction:
    """The bank of one channel.

    Args:
        h: The filters, numerator (D, n).
        channel: Which; None only if there is one.

    Returns:
        Its filter, float64.

    Raises:
        ValueError: if no channel is named and there are several, or it is not there.

    Example:
        >>> one_channel(from_ba([[1.0], [2.0]], [1.0, -0.5]), 1).h0
        tensor([2.], dtype=torch.float64)
    """
    h = one_bank(h)
    if channel is None and h.channels != 1:
        raise ValueError(f"such an object holds one filter, the bank has {h.channels}: name one, channel=0")
    return select(h, [0 if channel is None else channel])
