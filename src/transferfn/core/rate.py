"""From continuous time to samples, back, and from one sampling rate to another."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.bank import check_one_bank, stack
from transferfn.core.checks import check_interval
from transferfn.core.continuous import given_systems, in_steps
from transferfn.core.converted import Converted, check_error, response_error, samples_to_compare
from transferfn.core.from_matrices import from_state_space
from transferfn.core.from_poles import LARGEST_ERROR
from transferfn.core.kernel import impulse_response
from transferfn.core.polynomial import roots
from transferfn.core.state_space import StateSpace, markov
from transferfn.core.system import TransferFunction

FREQUENCIES = 1024  # of the band over which two rates are compared

Hold = Literal["zoh", "bilinear"]


@torch.no_grad()
def c2d(
    system: Any,
    dt: float,
    *,
    method: Literal["zoh", "bilinear", "impulse"] = "zoh",
    prewarp_hz: float | None = None,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Converted[TransferFunction]:
    """Sample a system in continuous time.

    Args:
        system: (num, den), coefficients of descending powers of s, of one filter (k) or of several, (D, k); or
            (A, B, C, D) with dx/dt = A x + B u, as :func:`~transferfn.core.from_matrices.from_state_space` takes them.
            Time is in seconds. Or an object that has either: a ``StateSpace`` without a ``dt``, a ``lti`` of
            ``scipy.signal``, or a system of python-control, whose m inputs and p outputs become p m channels, the first
            output from each input first.
        dt: Sampling interval in seconds.
        method: ``"zoh"``: the input is held between samples; step responses agree. ``"bilinear"`` (Tustin): frequency
            responses agree, over a warped frequency axis. ``"impulse"``: impulse responses agree, times dt.
        prewarp_hz: For ``"bilinear"``, the frequency in Hz at which the frequency responses agree exactly; None
            means 0.
        length: Number of samples over which impulse responses are compared, more than the order; None means until
            they have died out.
        tolerance: Largest error that is not refused.

    Returns:
        The filters, float64, with their ``dt``; and how far their coefficients' impulse responses are from those of
        the sampled state space, (D).

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filters.
        TypeError: if the system is another object, or in discrete time.
        ValueError: if dt is not positive, a system is not proper, shapes do not fit, the prewarping frequency is not
            below half the sampling rate, or a feedthrough has no sampled impulse.

    Source:
        Franklin, Powell and Workman, Digital Control of Dynamic Systems, chapter 6.

    Example:
        A low-pass of time constant 1 s, ten times a second: 1 - exp(-0.1) of a step is reached after a sample.

        >>> h, error = c2d(([1.0], [1.0, 1.0]), dt=0.1)
        >>> h.b, h.dt
        (tensor([[0.0952]], dtype=torch.float64), 0.1)
    """
    check_interval(dt)
    warp = _warp(dt, method, prewarp_hz)
    sampled = [_sampled(in_steps(one, dt), method, warp) for one in given_systems(system)]
    if length is None:
        length = max(samples_to_compare(torch.linalg.eigvals(one.A)) for one in sampled)
    found = [from_state_space(*one[:4], float(dt), length=length, tolerance=tolerance) for one in sampled]
    if len(found) == 1:
        return found[0]
    return Converted(stack([one.value for one in found]), torch.cat([one.error for one in found]), length)


@torch.no_grad()
def d2c(
    h: TransferFunction,
    *,
    method: Hold = "zoh",
    prewarp_hz: float | None = None,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Converted[StateSpace]:
    """Find the system in continuous time whose samples a bank is: the inverse of :func:`c2d`.

    Args:
        h: The filters, numerator (D, n), with ``dt``.
        method: How they were sampled, ``"zoh"`` or ``"bilinear"``.
        prewarp_hz: For ``"bilinear"``, the frequency in Hz at which the frequency responses agree; None means 0.
        length: Number of samples over which impulse responses are compared; None means until they have died out.
        tolerance: Largest error that is not refused.

    Returns:
        D systems of one input and one output, dx/dt = A x + B u with time in seconds, their ``dt`` 0; and how far the
        impulse responses are from those of h once sampled again, (D).

    Raises:
        ArithmeticError: if there is no such system: of poles on the negative real axis or at zero none that is held,
            of a pole at -1 none by the bilinear rule; or if rounding loses it.
        ValueError: if h has no ``dt`` or is more than one bank.

    Source:
        The matrix logarithm undoes the zero-order hold: Higham, Functions of Matrices, section 2.3.

    Example:
        >>> system, error = d2c(c2d(([1.0], [1.0, 1.0]), dt=0.1).value)
        >>> system.A.round(decimals=6), bool(error < 1e-12)
        (tensor([[[-1.]]], dtype=torch.float64), True)
    """
    dt = _interval_of(h)
    warp = _warp(dt, method, prewarp_hz)
    h = h.to(dtype=torch.float64)
    A, B, C, D, _ = h.state_space()
    n = h.order
    if method == "zoh":
        _check_has_logarithm(h)
        log = _logarithm(pad(torch.cat((A, B), -1), (0, 0, 0, 1)) + pad(A.new_ones(1, 1), (n, 0, n, 0)))
        per_step = StateSpace(log[:, :n, :n], log[:, :n, n:], C, D)
    else:
        half = torch.eye(n, dtype=A.dtype, device=A.device) + A
        if n and not bool((torch.linalg.cond(half) < 0.1 / torch.finfo(A.dtype).eps).all()):
            raise ArithmeticError(
                "a pole at z = -1 comes from infinity by the bilinear rule: no system in continuous time has it. "
                "Move the pole with stabilize(), or stay in discrete time."
            )
        Q = torch.linalg.inv(half)
        per_step = StateSpace(2 * (A @ Q - Q) / warp, 2 * Q @ B / warp, 2 * C @ Q, D - C @ Q @ B)
    length = samples_to_compare(*roots(h.a)) if length is None else length
    again = markov(_sampled(per_step, method, warp), length)[:, 0, 0]
    error = response_error(again, impulse_response(h.b, h.a, h.h0, length=length))
    check_error(
        error,
        tolerance,
        what=f"rounding loses the system in continuous time that {method} leads back to",
        instead="Use the other method, a lower order, or convert the sections of the filter one by one.",
    )
    continuous = per_step._replace(A=per_step.A / dt, B=per_step.B / dt, dt=0.0)
    return Converted(continuous, error, length)


@torch.no_grad()
def with_rate(
    h: TransferFunction,
    dt: float,
    *,
    method: Hold = "zoh",
    prewarp_hz: float | None = None,
    up_to_hz: float | None = None,
    length: int | None = None,
    tolerance: float = LARGEST_ERROR,
) -> Converted[TransferFunction]:
    """The same filters at another sampling rate, and how much that changes their frequency response.

    Args:
        h: The filters, numerator (D, n), with ``dt``.
        dt: New sampling interval in seconds.
        method: ``"zoh"`` keeps the response to inputs that are held, so that step responses agree at common times;
            ``"bilinear"`` keeps the shape of the frequency response over a warped frequency axis.
        prewarp_hz: For ``"bilinear"``, the frequency in Hz at which the frequency responses agree; None means 0.
        up_to_hz: End of the band over which frequency responses are compared; None means half the lower sampling rate.
        length: Number of samples over which each of the two steps is checked; None means until responses have died
            out.
        tolerance: Largest rounding error of them that is not refused.

    Returns:
        The filters at the new rate, float64; and max_f |H_new(f) - H(f)| / max_f |H(f)| from 0 to ``up_to_hz`` of each
        channel, (D): what the change of rate costs, which is not rounding. It is infinite if h has a pole on the circle
        within the band.

    Raises:
        ArithmeticError: as for :func:`d2c` and :func:`c2d`.
        ValueError: if h has no ``dt``, or a frequency is not in the band.

    Example:
        >>> h = c2d(([1.0], [1.0, 1.0]), dt=0.1).value
        >>> twice, error = with_rate(h, 0.05)
        >>> twice.a.round(decimals=4), twice.dt
        (tensor([[-0.9512]], dtype=torch.float64), 0.05)
    """
    before = _interval_of(h)
    check_interval(dt)
    nyquist = 0.5 / max(before, dt)
    if up_to_hz is not None and not 0 < up_to_hz <= nyquist:
        raise ValueError(f"up_to_hz lies in (0, {nyquist:g}], half the lower sampling rate, got {up_to_hz}")
    options = {"method": method, "prewarp_hz": prewarp_hz, "length": length, "tolerance": tolerance}
    new = c2d(d2c(h, **options).value, dt, **options).value
    f = torch.linspace(0, nyquist if up_to_hz is None else up_to_hz, FREQUENCIES, dtype=torch.float64)
    one, other = (x.frequency_response(f, unit="Hz") for x in (h, new))
    error = ((other - one).abs().amax(-1) / one.abs().amax(-1)).nan_to_num(nan=torch.inf)
    return Converted(new, error, None)


def _sampled(system: StateSpace, method: str, warp: float) -> StateSpace:
    """One step of a system whose unit of time is the step."""
    A, B, C, D, _ = system
    n = A.shape[-1]
    if method == "zoh":
        exponential = _exponential(pad(torch.cat((A, B), -1), (0, 0, 0, B.shape[-1])))
        return StateSpace(exponential[:, :n, :n], exponential[:, :n, n:], C, D)
    if method == "impulse":
        if bool((D != 0).any()):
            raise ValueError("a feedthrough responds with an impulse in continuous time, which has no samples: use zoh")
        E = _exponential(A)
        return StateSpace(E, E @ B, C, C @ B)
    if method != "bilinear":
        raise ValueError(f"method is 'zoh', 'bilinear' (Tustin's) or for c2d 'impulse', got {method!r}")
    one = torch.eye(n, dtype=A.dtype, device=A.device)
    half = A * (warp / 2)
    Ad, Bd = torch.linalg.solve(one - half, torch.cat((one + half, warp * B), -1)).split((n, B.shape[-1]), -1)
    Cd = torch.linalg.solve(one - half, C, left=False)
    return StateSpace(Ad, Bd, Cd, D + C @ Bd / 2)


def _warp(dt: float, method: str, prewarp_hz: float | None) -> float:
    """Factor on the step at which the bilinear rule meets the frequency response."""
    if prewarp_hz is None:
        return 1.0
    if method != "bilinear":
        raise ValueError(f"prewarp_hz belongs to method='bilinear', got method={method!r}")
    if not 0 < prewarp_hz < 0.5 / dt:
        raise ValueError(f"prewarp_hz lies between 0 and half the sampling rate, {0.5 / dt:g} Hz, got {prewarp_hz}")
    angle = math.pi * prewarp_hz * dt
    return math.tan(angle) / angle


def _exponential(M: Tensor) -> Tensor:
    """Of matrices far from normal, which torch.linalg.matrix_exp loses some digits of."""
    from scipy.linalg import expm

    return torch.as_tensor(expm(M.cpu().numpy())).to(M) if M.numel() else M


def _logarithm(M: Tensor) -> Tensor:
    from scipy.linalg import logm

    logarithms = [torch.as_tensor(logm(matrix.cpu().numpy())) for matrix in M]
    return torch.stack([x.real if x.is_complex() else x for x in logarithms]).to(M)


def _check_has_logarithm(h: TransferFunction) -> None:
    poles = roots(h.a)[0]
    wrong = poles[(poles.imag == 0) & (poles.real <= 0)]
    if len(wrong):
        pole = float(wrong[0].real) + 0.0  # no -0
        raise ArithmeticError(
            f"no system in continuous time of the same order, its input held, has the pole {pole:.4g}: "
            f"real poles that are not positive alternate or are delays. Use method='bilinear', or cancel poles at zero "
            f"with minimal(h)."
        )


def _interval_of(h: TransferFunction) -> float:
    check_one_bank(h)
    if h.dt is None:
        raise ValueError("the filters have no sampling interval: give them one, dataclasses.replace(h, dt=...)")
    return h.dt
