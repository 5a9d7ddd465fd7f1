"""What filtering means, from the loops of `transferfn.core.naive`, and how far a fast path may be from it."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from transferfn.core import TransferFunction, naive

# Filters here have sums of |a_i| of at most 1/2, so that kappa is at most 3 and signals of order 1 stay so. Gradients
# are sums of up to 3 * 21 products; rounding of N terms of one size is at most N eps of their sum of sizes.
ROUNDING = 200.0


def bank(
    channels: int = 2, order: int = 3, groups: int = 0, *, both: bool = False, radius: float = 0.5, seed: int = 0
) -> TransferFunction:
    """A bank of filters; those of large radius are unstable."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*(2,) * both, *shape, generator=generator, dtype=torch.float64) * 2 - 1

    a = draw(groups or channels, order) * radius / max(order, 1)
    return TransferFunction(draw(channels, order), a, draw(channels))


def one_way(
    u: Tensor,
    system: TransferFunction,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return naive.filter_signal(u, system.b, system.a, system.h0, state, lengths, resets)


def both_ways(
    u: Tensor, system: TransferFunction, lengths: Tensor | None = None, resets: Tensor | None = None
) -> Tensor:
    """Piece by piece: the causal bank forwards, and the anti-causal one backwards and a sample ahead."""
    causal, anticausal = (TransferFunction(system.b[k], system.a[k], system.h0[k]) for k in range(2))
    batch, length, _ = u.shape
    rows = []
    for row in range(batch):
        end = length if lengths is None else int(lengths[row])
        cuts = [] if resets is None else [t for t in range(1, end) if resets[row, t]]
        edges = [0, *cuts, end]
        pieces = []
        for begin, after in itertools.pairwise(edges):
            piece = u[row : row + 1, begin:after]
            back = one_way(piece.flip(1), anticausal)[0].flip(1)
            ahead = torch.cat((back[:, 1:], torch.zeros_like(back[:, :1])), 1)
            pieces.append(one_way(piece, causal)[0] + ahead)
        rows.append(torch.cat((*pieces, torch.zeros_like(u[row : row + 1, end:])), 1))
    return torch.cat(rows)


def error(found: Tensor, expected: Tensor, scale: float | None = None) -> float:
    """Largest difference over the largest value or a given one, in units of eps * ROUNDING; infinite if not finite."""
    assert found.shape == expected.shape, f"{tuple(found.shape)} is not {tuple(expected.shape)}"
    if not found.numel():
        return 0.0
    scale = max(float(expected.detach().abs().max()) if scale is None else scale, 1e-30)
    wide = torch.complex128 if found.is_complex() else torch.float64
    difference = float((found.detach().to(wide) - expected.detach()).abs().max())
    return difference / scale / torch.finfo(found.dtype).eps / ROUNDING if math.isfinite(difference) else math.inf
