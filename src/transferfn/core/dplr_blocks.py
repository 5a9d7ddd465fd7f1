"""States of diagonal plus low rank systems after many samples, a block of samples at a time, without dense powers.

With v_t = Re(h . x_(t-1)) known, x_t = a x_(t-1) - g v_t + B u_t is a diagonal recurrence. Within a block v is the
solution of a triangular system, whose entries are responses of that diagonal recurrence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from transferfn.core.blocks import by_blocks, split
from transferfn.core.dplr import DiscreteDPLR, output_row, side_by_side
from transferfn.core.modal import doubled
from transferfn.typing import Lengths, Signal


def reached(system: DiscreteDPLR, u: Signal, ends: Lengths | None) -> Tensor:
    """State that an input leads to from rest, at a cost of O(N) a sample, and O(N sqrt L) a block of sqrt L samples.

    Args:
        system: D systems.
        u: Input, (B, L, D).
        ends: Number of samples of each row, (B,); None means L for all.

    Returns:
        State, (B, D, N/2, 2), in the type of ``u``; computed in that of the system.

    Example:
        >>> from transferfn.core.dplr import DPLR
        >>> one = torch.ones(1, 1, dtype=torch.complex64)
        >>> system = DPLR(-one, one[None], one, torch.ones(1)).bilinear(one, torch.zeros(1))
        >>> reached(system, torch.ones(1, 3, 1), None)
        tensor([[[[0.3360, 0.0000]]]])
    """
    block, kind = split(u.shape[1]), system.a.real.dtype
    past = by_blocks(u.to(kind), ends, block).flip(3)  # (D, B, Q, T), the last block first
    powers, last = doubled(system.a, block)  # a^t, (D, T, N/2), and a^T
    ranks = system.h.shape[1]

    def response(source: Tensor) -> Tensor:
        """Of v at t + 1 to what enters the states at 0, (D, R, N/2): (D, T, R, T) from each time to each later one."""
        taps = torch.einsum("dim,dtm,djm->dtij", system.h, powers, source).real  # (D, T, R, J)
        lag = torch.arange(block, device=u.device)
        lag = lag[:, None] - lag - 1
        held = torch.where((lag >= 0)[..., None, None], taps[:, lag.clamp_min(0)], 0)  # (D, T, T', R, J)
        return held.transpose(2, 3).flatten(1, 2).flatten(2)  # (D, T R, T' J)

    feedback = response(system.g)
    one = torch.eye(block * ranks, dtype=kind, device=u.device)
    from_state = (
        output_row(system.h[:, None] * powers[:, :, None]).flatten(1, 2) / 2
    )  # v of a state before, (D, T R, N)
    right = torch.cat((response(system.B[:, None]), from_state), -1)
    v_of_u, v_of_x = torch.linalg.solve_triangular(one + feedback, right, upper=False, unitriangular=True).split(
        (block, from_state.shape[-1]), -1
    )
    onward = powers.flip(1)[:, :, None]  # what enters at s is multiplied by a^(T - 1 - s)
    by_v = side_by_side(onward * system.g[:, None]).flatten(1, 2)  # (D, T R, N)
    by_u = side_by_side(onward * system.B[:, None, None])[:, :, 0] - v_of_u.mT @ by_v  # (D, T, N)
    entered = (past.flatten(1, 2) @ by_u).unflatten(1, past.shape[1:3])  # (D, B, Q, N)
    x, *more = entered.flip(2).unbind(2)
    for new in more:
        kept = last[:, None] * torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        x = side_by_side(kept) - (x @ v_of_x.mT) @ by_v + new
    return x.transpose(0, 1).unflatten(2, (-1, 2)).to(u.dtype)
