"""Banks of filters as systems of python-control, and back: ``pip install 'transferfn[control]'``.

A transfer function takes one channel at a time, a state space the whole bank: D inputs, D outputs, nothing between
them. With ``inputs=m`` both take p m channels as a matrix of p outputs and m inputs. python-control's ``dt=True``,
discrete time without a unit, is our ``dt=None``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transferfn.core.bank import stack
from transferfn.core.checks import interval, what_instead
from transferfn.core.converted import Converted
from transferfn.core.from_matrices import from_state_space
from transferfn.core.from_poles import LARGEST_ERROR
from transferfn.core.state_space import StateSpace
from transferfn.core.system import TransferFunction
from transferfn.interop.arrays import as_given, one_bank, to_ba
from transferfn.interop.assemble import assembled, check_inputs
from transferfn.interop.scipy_signal import from_powers_of_z, one_channel

if TYPE_CHECKING:
    import control


def to_tf(h: TransferFunction, *, channel: int | None = None, inputs: int | None = None) -> control.TransferFunction:
    """One channel, or a matrix of all, as a ``control.TransferFunction``; exact but for rounding of b + h0 a.

    Args:
        h: The filters, numerator (D, n).
        channel: Which; None only if there is one, or ``inputs`` are given.
        inputs: Number m of inputs of a matrix of D / m outputs, the first output from each input first, which is the
            order that :func:`from_control` gives; None means one channel.

    Returns:
        The system, with its ``dt``.

    Raises:
        ModuleNotFoundError: if python-control is not installed.
        ValueError: if no channel is named and there are several, or inputs do not divide the channels.

    Example:
        >>> import pytest, torch; _ = pytest.importorskip("control")
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]), dt=0.1)
        >>> g = to_tf(decay)
        >>> g.poles().real, g.dt
        (array([0.5]), 0.1)
    """
    control = _control()
    if inputs is None:
        b, a = to_ba(one_channel(h, channel))
        return control.TransferFunction(b[0], a[0], _their_interval(h.dt))
    if channel is not None:
        raise ValueError(
            f"pass the channel of one filter or the inputs of a matrix, got channel={channel} and {inputs=}"
        )
    check_inputs(inputs, one_bank(h).channels)
    num, den = ([list(x[row : row + inputs]) for row in range(0, len(x), inputs)] for x in to_ba(h))
    return control.TransferFunction(num, den, _their_interval(h.dt))


def to_ss(h: TransferFunction | StateSpace, *, inputs: int | None = None) -> control.StateSpace:
    """The whole bank as one ``control.StateSpace``; exact.

    Args:
        h: The filters, numerator (D, n), realized in companion coordinates; or G systems in matrices, as
            :func:`~transferfn.core.rate.d2c` returns them, in continuous time if their ``dt`` is 0.
        inputs: Number m of inputs. Channels (or systems of one input and output) are then a matrix of D / m outputs,
            the first output from each input first, which is the order that :func:`from_control` gives. None means that
            each has inputs and outputs of its own.

    Returns:
        A block-diagonal system, with its ``dt``: of filters D inputs, D outputs and D n states, or m inputs and n
        states for every denominator that an input meets.

    Raises:
        ModuleNotFoundError: if python-control is not installed.
        ValueError: if h is more than one bank, or inputs do not divide the channels.

    Example:
        >>> import pytest, torch; _ = pytest.importorskip("control")
        >>> decay = TransferFunction(torch.ones(2, 1) / 2, torch.tensor([[-0.5]]), torch.ones(2))
        >>> g = to_ss(decay)
        >>> g.ninputs, g.noutputs, g.nstates, g.dt
        (2, 2, 2, True)
        >>> one = to_ss(decay, inputs=1)
        >>> one.ninputs, one.noutputs, one.nstates
        (1, 2, 1)
    """
    control = _control()
    return control.StateSpace(*assembled(h, inputs), _their_interval(h.dt), remove_useless_states=False)


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


def _their_interval(dt: float | None) -> float | bool:
    return True if dt is None else dt


def _control() -> Any:
    try:
        import control
    except ModuleNotFoundError:
        raise ModuleNotFoundError("this needs python-control: pip install 'transferfn[control]'") from None
    return control
