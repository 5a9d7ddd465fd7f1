"""Transfer functions as sums of modes, one a pole, and back: partial fractions."""

from __future__ import annotations

import torch
from torch import Tensor

from transferfn.core.bank import check_one_bank
from transferfn.core.converted import Converted, check_error, response_error, samples_to_compare
from transferfn.core.from_poles import LARGEST_ERROR, from_poles
from transferfn.core.kernel import impulse_response, spread
from transferfn.core.modal import ModalSystem
from transferfn.core.polynomial import monic, roots
from transferfn.core.system import TransferFunction


@torch.no_grad()
def to_modal(
    h: TransferFunction, *, length: int | None = None, tolerance: float = LARGEST_ERROR
) -> Converted[ModalSystem]:
    r"""Partial fractions: H(z) = h0 + sum_k r_k z^-1 / (1 - p_k z^-1), complex poles in pairs.

    A mode stands for itself and its conjugate, so that a real pole is a mode with half its residue. Channels with more
    real poles have more modes; the others are filled up with modes that are zero. Poles that lie together have large
    residues that cancel, and multiple ones have no such form at all: the measured error says so.

    Args:
        h: The filters, numerator (D, n).
        length: Number of samples over which the impulse responses are compared; None means until they have died out.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.

    Returns:
        N modes a channel, n / 2 <= N <= n, complex128, B = 1 and C = r / p; and the error of each channel, (D).

    Raises:
        ArithmeticError: if modes do not hold the filters: multiple poles, or poles at zero, which are delays.
        ValueError: if h is more than one bank.

    Source:
        Partial fractions, e.g. Oppenheim and Schafer, Discrete-Time Signal Processing, section 3.3.

    Example:
        >>> h = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> system, error = to_modal(h, length=8)
        >>> system.A, error.item()
        (tensor([[0.5000+0.j]], dtype=torch.complex128), 0.0)
    """
    check_one_bank(h)
    h = h.to(dtype=torch.float64)
    poles = roots(h.a)[0]
    size = poles.abs().amax(-1, keepdim=True) if h.order else poles.abs()
    if bool((poles.abs() <= torch.finfo(torch.float64).eps * size).any()):
        raise ArithmeticError(
            "modes do not hold filters with a pole at zero, which is a delay: cancel it with minimal(h) if a zero lies "
            "there, too, or keep the coefficients, state_space() or second-order sections."
        )
    upper = poles.imag >= 0
    order = torch.argsort((~upper).to(torch.int8), dim=-1, stable=True)[:, : int(upper.sum(-1).max()) if h.order else 0]
    p, used = (spread(torch.take_along_dim(x, order, -1), h.channels) for x in (poles, upper))
    p = torch.where(used, p, 0)
    k = torch.arange(h.order, dtype=torch.float64)
    a = spread(monic(h.a), h.channels)
    # r = p^n B(1/p) / (p^n times the derivative of A at p), both in powers of p, highest first.
    b_at, slope = (_values(c, p) for c in (h.b, (h.order - k) * a[:, :-1]))
    weight = torch.where(p.imag == 0, 0.5, 1.0)
    c = torch.where(used, weight * b_at / (slope * p), 0)
    system = ModalSystem(p, torch.ones_like(p), c, h.h0 - 2 * c.real.sum(-1), h.dt)  # x_0 = B u_0 is seen at once
    length = samples_to_compare(poles) if length is None else length
    truth = impulse_response(h.b, h.a, h.h0, length=length)
    error = response_error(system.kernel(length, torch.float64), truth)
    check_error(
        error,
        tolerance,
        what=f"modes do not hold the filters, whose {h.order} poles lie too close together",
        instead="Keep the coefficients, or use state_space() or second-order sections.",
    )
    return Converted(system, error, length)


@torch.no_grad()
def from_modal(
    system: ModalSystem, *, length: int | None = None, tolerance: float = LARGEST_ERROR
) -> Converted[TransferFunction]:
    """Coefficients of a sum of modes: real modes count once, complex ones stand for a pair.

    Args:
        system: The modes, (D, N).
        length: Number of samples over which the impulse responses are compared, more than the number of poles; None
            means until they have died out.
        tolerance: Largest error that is not refused, relative to the largest sample of each channel.

    Returns:
        The filters, float64, with the ``dt`` of the modes, and the error of each channel, (D). Their order is the
        largest number of poles that are not zero.

    Raises:
        ArithmeticError: if coefficients in float64 do not hold the filters.
        ValueError: if the response is too short.

    Example:
        >>> one = torch.ones(1, 1)
        >>> from_modal(ModalSystem(0.5 * one, one, one, torch.zeros(1)), length=8).value.a
        tensor([[-0.5000]], dtype=torch.float64)
    """
    wide = torch.complex128 if system.A.is_complex() else torch.float64
    A, B, C = (x.to(wide) for x in (system.A, system.B, system.C))
    system = ModalSystem(A, B, C, system.D.to(torch.float64), system.dt)
    poles = A.to(torch.complex128)
    if A.is_complex():
        poles = torch.cat((A, torch.where(A.imag == 0, 0, A.conj())), -1)
    is_there = poles != 0
    count = int(is_there.sum(-1).max()) if poles.numel() else 0
    first = torch.argsort((~is_there).to(torch.int8), dim=-1, stable=True)[:, :count]
    poles = torch.take_along_dim(poles, first, -1)
    length = samples_to_compare(poles) if length is None else length
    return from_poles(poles, system.kernel(length, torch.float64), tolerance=tolerance, dt=system.dt)


def _values(c: Tensor, z: Tensor) -> Tensor:
    """c_0 z^(m-1) + ... + c_(m-1) at N numbers a channel, by Horner's rule, (D, N)."""
    value = torch.zeros_like(z)
    for coefficient in c.unbind(-1):
        value = value * z + coefficient[:, None]
    return value
