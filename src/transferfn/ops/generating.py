"""The kernel of S4 from its truncated generating function at the roots of unity."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from transferfn.core.dplr import DPLR
from transferfn.kernels.tracing import values_are_hidden
from transferfn.ops.cauchy import cauchy
from transferfn.typing import Kernel

ROOM = 2**17  # sums that are worked on at once


def generated_kernel(system: DPLR, C_tilde: Complex[Tensor, "*bank D N"], horizon: int) -> Kernel:
    r"""First samples of the impulse response of a DPLR system discretized bilinearly, from its truncated output vector.

    Sum_t k_t w^t for t < P is C~ (I - A_bar w)^-1 B_bar, C~ = C (I - A_bar^P); at w = exp(-2 i phi), phi = pi m / P,

        K(w) = dt / 2 exp(i phi) [ S(C~, B) - dt / 2 cos phi S(C~, P) (I + dt / 2 cos phi S(P^*, P))^-1 S(P^*, B) ]

    with S(x, y) the :func:`cauchy` sum of x y over the poles dt Lambda / 2. Half the roots are enough. What is made of
    the sums is made some channels at a time, and again for derivatives.

    Args:
        system: D systems of N/2 pairs of modes.
        C_tilde: Truncated output vectors relative to the horizon, one of each pair, (*bank, D, N/2).
        horizon: Number of samples P.

    Returns:
        k_0..k_(P-1), without a feedthrough, (*bank, D, P).

    Source:
        Gu et al. 2022, arXiv:2111.00396, Algorithm 1.
    """
    half = system.dt[:, None, None, None] / 2
    phi = torch.arange(horizon // 2 + 1, dtype=system.dt.dtype, device=system.dt.device) * (math.pi / horizon)
    outputs = C_tilde.reshape(-1, *C_tilde.shape[-2:])
    left = torch.cat((outputs.transpose(0, 1), system.P.conj()), 1)  # (D, J + R, N/2)
    right = torch.cat((system.B[:, None], system.P), 1)  # (D, 1 + R, N/2)
    v = left[:, :, None] * right[:, None]
    sums = cauchy(v.flatten(1, 2), system.Lambda * half[:, 0, 0], phi).unflatten(1, v.shape[1:3])
    scales = half[..., 0] * torch.polar(torch.ones_like(phi), phi)
    channels = max(ROOM // sums[0].numel(), 1)
    pieces = zip(sums.split(channels), half.split(channels), scales.split(channels), strict=True)
    again = len(sums) > channels and torch.is_grad_enabled() and not values_are_hidden()
    spectrum = torch.cat(
        [
            checkpoint(_eliminated, *piece, phi, use_reentrant=False, preserve_rng_state=False)
            if again
            else _eliminated(*piece, phi)
            for piece in pieces
        ]
    )
    k = torch.fft.irfft(spectrum, horizon).transpose(0, 1)
    return k.reshape(*C_tilde.shape[:-1], horizon)


def _eliminated(sums: Tensor, half: Tensor, scale: Tensor, phi: Tensor) -> Tensor:
    """K(w) of some channels, (D, J, F), from the sums, (D, J + R, 1 + R, F)."""
    rank = sums.shape[2] - 1
    # Entries apart: the gradient of a slice of a table is a table of zeros.
    table = [list(row.unbind(1)) for row in sums.unbind(1)]
    factor = half[:, 0, 0] * phi.cos()
    for at, row in enumerate(table[-rank:], 1):
        row[:] = [factor * entry for entry in row]
        row[at] = row[at] + 1
    # Eliminate row by row. I + dt / 2 cos phi S(P^*, P) has a positive definite Hermitian part: any pivot will do.
    for _ in range(rank):
        *rows, last = table
        *last, pivot = last
        last = [entry / pivot for entry in last]
        table = [[entry - row[-1] * below for entry, below in zip(row, last, strict=False)] for row in rows]
    return scale * torch.stack([row[0] for row in table], 1)
