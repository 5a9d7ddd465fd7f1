"""Banks of filters as systems of python-control, and back: ``pip install 'transferfn[control]'``.

A transfer function takes one channel at a time, a state space the whole bank: D inputs, D outputs, nothing between
them. python-control's ``dt=True``, discrete time without a unit, is our ``dt=None``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transferfn.core.bank import stack
from transferfn.core.checks import interval, what_instead
from transferfn.core.converted import Converted
from transferfn.core.from_matrices import from_state_space
from transferfn.core.from_poles import LARGEST_ERROR
from transferfn.core.system import TransferFunction
from transferfn.interop.arrays import as_given, one_bank, to_ba
from transferfn.interop.scipy_signal import from_powers_of_z, one_channel

if TYPE_CHECKING:
    import control


def to_tf(h: TransferFunction, *, channel: int | None = None) -> control.TransferFunction:
    """One channel as a ``control.TransferFunction``; exact but for rounding of b + h0 a.

    Args:
        h: The filters, numerator (D, n).
        channel: Which; None only if there is one.

    Returns:
        The system, with its ``dt``.

    Raises:
        ModuleNotFoundError: if python-control is not installed.
        ValueError: if no channel is named and there are several.

    Example:
        >>> import pytest, torch; _ = pytest.importorskip("control")
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]), dt=0.1)
        >>> g = to_tf(decay)
        >>> g.poles().real, g.dt
        (array([0.5]), 0.1)
    """
    control = _control()
    b, a = to_ba(one_channel(h, channel))
    return control.TransferFunction(b[0], a[0], True if h.dt is None else h.dt)


def to_ss(h: TransferFunction) -> control.StateSpace:
    """The whole bank as one ``control.StateSpace`` in companion coordinates; exact.

    Args:
        h: The filters, numerator (D, n).

    Returns:
        A system of D inputs, D outputs and D n states, block-diagonal, with its ``dt``.

    Raises:
        ModuleNotFoundError: if python-control is not installed.
        ValueError: if h is more than one bank.

    Example:
        >>> import pytest, torch; _ = pytest.importorskip("control")
        >>> decay = TransferFunction(torch.ones(2, 1) / 2, torch.tensor([[-0.5]]), torch.ones(2))
        >>> g = to_ss(decay)
        >>> g.ninputs, g.noutputs, g.nstates, g.dt
        (2, 2, 2, True)
    """
    control = _control()
    from scipy.linalg import block_diag

    h = one_bank(h)
    matrices = h.state_space()[:4]
    if h.order:
        A, B, C, D = (block_diag(*x.numpy()) for x in matrices)
    else:
        A, B, C, D = np.zeros((0, 0)), np.zeros((0, h.channels)), np.zeros((h.channels, 0)), np.diag(h.h0.numpy())
    return control.StateSpace(A, B, C, D, True if h.dt is None else h.dt, remove_useless_states=False)


def from_control(
    system: control.TransferFunction | control.StateSpace,
    *,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Converted[TransferFunction]:
    """Filters from a discrete-time system of python-control, its ``dt`` included.

    Args:
        system: A transfer function or state space of m inputs and p outputs: p m channels, the first output from each
            input first.
        length: Number of samples over which impulse responses are compared; None means until they have died out.
        tolerance: Largest error that is not refused.

    Returns:
        The filters, float64, and the error of each channel, (p m); that of coefficients, taken as they are, is 0.
        They are looked at as :func:`~transferfn.interop.arrays.from_ba` does, and warned of like there.

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filters.
        ModuleNotFoundError: if python-control is not installed.
        TypeError: if it is another object, or one in continuous time.
        ValueError: if it is not causal.

    Example:
        >>> import pytest; control = pytest.importorskip("control")
        >>> from_control(control.tf([1.0], [1.0, -0.5], 0.1)).value
        TransferFunction(b=tensor([[1.]], dtype=torch.float64), a=tensor([[-0.5000]], dtype=torch.float64),
        h0=tensor([0.], dtype=torch.float64), dt=0.1)
    """
    control = _control()
    if not isinstance(system, control.TransferFunction | control.StateSpace):
        raise TypeError(f"expected a TransferFunction or StateSpace of python-control, got {what_instead(system)}")
    given: Any = system
    dt = interval(given.dt)
    if isinstance(system, control.StateSpace):
        matrices = (np.asarray(x, dtype=np.float64) for x in (given.A, given.B, given.C, given.D))
        return from_state_space(*matrices, dt=dt, length=length, tolerance=tolerance)
    pairs = [pair for rows in zip(given.num, given.den, strict=True) for pair in zip(*rows, strict=True)]
    h = stack([from_powers_of_z(num, den, dt=dt) for num, den in pairs])
    return as_given(h, length, tolerance)


def _control() -> Any:
    try:
        import control
    except ModuleNotFoundError:
        raise ModuleNotFoundError("this needs python-control: pip install 'transferfn[control]'") from None
    return control
