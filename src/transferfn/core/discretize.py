"""From diagonal systems in continuous time, dx/dt = Lambda x + B u, to x_t = A_bar x_(t-1) + B_bar u_t."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Discretization = Literal["zoh", "bilinear"]

_SMALL = 0.1  # where the series takes over: dividing exp(z) - 1 by larger z loses at most ten units of the last place
_TERMS = 12  # 0.1^12 / 13! is below 1e-21


def zero_order_hold(Lambda: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Discretize a diagonal system whose input is constant during each step.

    A_bar = exp(dt Lambda), B_bar = B (exp(dt Lambda) - 1) / Lambda, its limit dt B where Lambda is zero.

    Args:
        Lambda: Eigenvalues in continuous time, real or complex, (*D, N).
        B: Input coefficients, (*D, N).
        dt: Step sizes, real, (*D).

    Returns:
        A_bar (*D, N) and B_bar (*D, N).

    Example:
        >>> zero_order_hold(torch.tensor([0.0, -1.0]), torch.ones(2), torch.tensor(0.5))
        (tensor([1.0000, 0.6065]), tensor([0.5000, 0.3935]))
    """
    z = Lambda * dt[..., None]
    return z.exp(), B * dt[..., None] * _mean_of_exponential(z)


def bilinear(Lambda: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Discretize a diagonal system by the trapezoidal rule (Tustin's method).

    A_bar = (1 + dt Lambda / 2) / (1 - dt Lambda / 2), B_bar = dt B / (1 - dt Lambda / 2).

    Args:
        Lambda: Eigenvalues in continuous time, real or complex, (*D, N).
        B: Input coefficients, (*D, N).
        dt: Step sizes, real, (*D).

    Returns:
        A_bar (*D, N) and B_bar (*D, N).

    Example:
        >>> bilinear(torch.tensor([0.0, -1.0]), torch.ones(2), torch.tensor(0.5))
        (tensor([1.0000, 0.6000]), tensor([0.5000, 0.4000]))
    """
    half = Lambda * (dt[..., None] / 2)
    return (1 + half) / (1 - half), dt[..., None] * B / (1 - half)


def discretize(method: Discretization, Lambda: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Discretize a diagonal system.

    Args:
        method: ``"zoh"``, see :func:`zero_order_hold`, or ``"bilinear"``, see :func:`bilinear`.
        Lambda: Eigenvalues in continuous time, real or complex, (*D, N).
        B: Input coefficients, (*D, N).
        dt: Step sizes, real, (*D).

    Returns:
        A_bar (*D, N) and B_bar (*D, N).

    Example:
        >>> discretize("zoh", torch.tensor([-1.0]), torch.ones(1), torch.tensor(0.5))[0]
        tensor([0.6065])
    """
    return {"zoh": zero_order_hold, "bilinear": bilinear}[method](Lambda, B, dt)


def _mean_of_exponential(z: Tensor) -> Tensor:
    """(exp(z) - 1) / z, which is the mean of exp over the way from 0 to z; values and derivatives exact around zero."""
    small = z.abs() < _SMALL
    near, far = torch.where(small, z, 0), torch.where(small, 1, z)  # both sides are differentiated everywhere
    series = torch.ones_like(z)
    for k in range(_TERMS, 0, -1):
        series = 1 + series * near / (k + 1)
    return torch.where(small, series, (far.exp() - 1) / far)
