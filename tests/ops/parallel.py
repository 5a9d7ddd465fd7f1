"""What callers at once, and workers of a loader, compute by each way to filter."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from transferfn.core import TransferFunction
from transferfn.ops import linear_filter
from transferfn.ops.filter import Method

METHODS: tuple[Method, ...] = ("scan", "fft", "blocks")


def filtered(seed: int) -> list[Tensor]:
    """Outputs, states and gradients of all ways, of tiles for several threads.

    Args:
        seed: Of the signal and the filters.
    """
    generator = torch.Generator().manual_seed(seed)
    u, b, a = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((2, 250, 40), (40, 5), (40, 5))
    )
    h0 = torch.ones(40, dtype=torch.float64)
    found = []
    for method in METHODS:
        leaves = [x.clone().requires_grad_() for x in (u, b, a / 8, h0)]
        y, state = linear_filter(leaves[0], TransferFunction(*leaves[1:]), method=method)
        assert state is not None
        found += [y, state, *torch.autograd.grad(y.square().sum() + state.square().sum(), leaves)]
    return [x.detach() for x in found]


class Filtered(Dataset[list[Tensor]]):
    """Four samples, filtered where they are loaded."""

    def __len__(self) -> int:
        """Number of samples."""
        return 4

    def __getitem__(self, index: int) -> list[Tensor]:
        """What one of them gives.

        Args:
            index: Which.
        """
        return filtered(index)
