"""Systems in continuous time as they are given: coefficients, matrices, or objects of other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.checks import as_tensor, what_instead
from transferfn.core.state_space import StateSpace, balancing, state_space
from transferfn.core.system import TransferFunction

Given = Sequence[ArrayLike | Tensor]
"""(num, den) or (A, B, C, D)."""


def given_systems(system: Any) -> list[Given]:
    """The coefficients or matrices of what is given.

    Other libraries' objects are known by their attributes, so that none of them need be installed.

    Args:
        system: (num, den) or (A, B, C, D); or an object that has them as attributes, as a ``StateSpace`` of ours and
            those of ``scipy.signal.lti`` and python-control do.

    Returns:
        One pair or four matrices; of a transfer function of m inputs and p outputs, p m pairs, the first output from
        each input first.

    Raises:
        TypeError: if it is none of these, or in discrete time.
        ValueError: if there are neither two parts nor four.

    Example:
        >>> import scipy.signal
        >>> [(num, den)] = given_systems(scipy.signal.lti([1.0], [1.0, 2.0]))
        >>> den
        array([1., 2.])
    """
    if isinstance(system, TransferFunction):
        raise TypeError(f"filters are in discrete time already, here dt={system.dt}: with_rate(h, dt) changes it")
    if isinstance(system, StateSpace):
        system = system if system.dt else system[:4]  # matrices of no interval may be meant either way
    if not hasattr(system, "dt") and isinstance(system, Sequence):
        if len(system) not in (2, 4):
            raise ValueError(f"expected (num, den) or (A, B, C, D), got {len(system)} parts")
        return [system]
    if not any(hasattr(system, name) for name in ("A", "num", "zeros")):
        raise TypeError(
            f"expected (num, den), (A, B, C, D), or a system of scipy.signal or python-control, got "
            f"{what_instead(system)}"
        )
    if getattr(system, "dt", None):  # scipy has None for continuous time, python-control 0
        raise TypeError(
            f"the system is in discrete time already, dt={system.dt}: take from_state_space, from_dlti or "
            f"from_control, and with_rate for another interval"
        )
    if not hasattr(system, "A") and not hasattr(system, "num"):
        system = system.to_ss()  # zeros, poles and gain of scipy
    if hasattr(system, "A"):
        return [tuple(np.asarray(x, dtype=np.float64) for x in (system.A, system.B, system.C, system.D))]
    if not isinstance(system.den, list):
        return [(system.num, system.den)]
    rows = zip(system.num, system.den, strict=True)  # python-control: lists of lists
    return [pair for row in rows for pair in zip(*row, strict=True)]


def in_steps(system: Given, dt: float) -> StateSpace:
    """Matrices in continuous time with the sampling interval as the unit of time.

    Args:
        system: (num, den), coefficients of descending powers of s, (k) or (D, k); or (A, B, C, D).
        dt: Sampling interval in seconds.

    Returns:
        G systems, float64.

    Raises:
        ValueError: if a system is not proper, or shapes do not fit.

    Example:
        >>> in_steps(([1.0], [1.0, 2.0]), 0.1).A
        tensor([[[-0.2000]]], dtype=torch.float64)
    """
    if len(system) == 4:
        given = state_space(*system)
        return _balanced(given._replace(A=given.A * dt, B=given.B * dt))
    num, den = (torch.atleast_2d(as_tensor(x).to(torch.float64)) for x in system)
    if not num.shape[-1] or not den.shape[-1] or bool((den[:, 0] == 0).any()):
        raise ValueError("num and den need a coefficient at least, and the first of den must not be zero")
    n = den.shape[-1] - 1
    if num.shape[-1] > n + 1 and bool((num[:, : -n - 1] != 0).any()):
        raise ValueError(
            f"the system is not proper: its numerator is of degree {num.shape[-1] - 1}, its denominator of degree {n}. "
            f"Differentiators have no samples; add a pole far above the band."
        )
    num = pad(num, (n + 1 - num.shape[-1], 0))
    scale = dt ** torch.arange(n + 1, dtype=torch.float64)
    num, den = num * scale / den[:, :1], den * scale / den[:, :1]
    channels = max(len(num), len(den))
    num, den = num.expand(channels, -1), den.expand(channels, -1)
    h0 = num[:, 0]
    companion = TransferFunction((num - h0[:, None] * den)[:, 1:], den[:, 1:], h0)
    return companion.state_space()


def _balanced(system: StateSpace) -> StateSpace:
    """The same systems in units of their states that make rows and columns of A alike: what expm is exact for."""
    scale = balancing(system.A)
    A = system.A * scale[:, None] / scale[:, :, None]
    return system._replace(A=A, B=system.B / scale[:, :, None], C=system.C * scale[:, None])
