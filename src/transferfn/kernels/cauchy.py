"""Sums over conjugate pairs of poles and their gradients on CPU tensors, in float64.

No derivatives are registered here: :mod:`transferfn.ops.cauchy` has an autograd function around both.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import pad

from transferfn.kernels import threads
from transferfn.kernels.arrays import lanes, numpy


def sums(
    real: Float[Tensor, "D M N"], size: Float[Tensor, "D N"], decay: Float[Tensor, "D N"], angles: Float[Tensor, " F"]
) -> Complex[Tensor, "D K F"]:
    """S_k(phi) = sum_n (cos phi b_kn + i sin phi a_kn) / (cos^2 phi |p_n|^2 - sin^2 phi - 2i sin phi cos phi Re p_n).

    Args:
        real: a and b, one after the other along the second axis, M = 2 K.
        size: |p|.
        decay: Re p.
        angles: phi.

    Returns:
        The sums, complex128.
    """
    from transferfn.kernels import _cauchy as loops

    given, points = _given(real, size, decay, angles)
    a = given[0]
    parts = [torch.empty(a.shape[0], a.shape[1], points, dtype=torch.float64, device=a.device) for _ in range(2)]
    _over_channels(loops.sums, (*map(numpy, given), *(x.numpy() for x in parts)), len(size), points * real[0].numel())
    return torch.complex(*(x[..., : len(angles)] for x in parts))


def gradients(
    g: Complex[Tensor, "D K F"],
    real: Float[Tensor, "D M N"],
    size: Float[Tensor, "D N"],
    decay: Float[Tensor, "D N"],
    angles: Float[Tensor, " F"],
) -> tuple[Float[Tensor, "D M N"], Float[Tensor, "D N"], Float[Tensor, "D N"]]:
    """Gradients of :func:`sums` at its numerators, sizes and decays, float64.

    Args:
        g: Gradient at the sums.
        real: As for :func:`sums`.
        size: As for :func:`sums`.
        decay: As for :func:`sums`.
        angles: As for :func:`sums`.
    """
    from transferfn.kernels import _cauchy as loops

    given, points = _given(real, size, decay, angles)
    parts = [pad(x.to(torch.float64), (0, points - len(angles))) for x in (g.real, g.imag)]
    found = [torch.empty(x.shape, dtype=torch.float64, device=x.device) for x in given[:4]]
    arrays = *map(numpy, (*parts, *given)), *(x.numpy() for x in found)
    _over_channels(loops.gradients, arrays, len(size), 2 * points * real[0].numel())
    return torch.cat(found[:2], 1), found[2], found[3]


def _given(real: Tensor, size: Tensor, decay: Tensor, angles: Tensor) -> tuple[tuple[Tensor, ...], int]:
    """a, b, sizes, decays, sines and cosines, in float64, the last two padded to whole registers of some points."""
    a, b = real.to(torch.float64).chunk(2, 1)
    size, decay, phi = (x.to(torch.float64) for x in (size, decay, angles))
    missing = -len(phi) % lanes(phi)
    return (a, b, size, decay, pad(phi.sin(), (0, missing), value=1.0), pad(phi.cos(), (0, missing))), len(
        phi
    ) + missing


def _over_channels(loop: Any, arrays: tuple[Any, ...], channels: int, cost: int) -> None:
    threads.split(lambda i, j: loop(*arrays, i, j), channels, cost=4 * channels * cost)
