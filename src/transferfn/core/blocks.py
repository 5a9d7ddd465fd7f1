"""Time cut into blocks of equal size, for sums over samples that are made in two levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from transferfn.typing import Lengths, Signal


def split(count: int) -> int:
    """A power of two near the root of a number of samples.

    Args:
        count: Number of samples, at least 1.

    Example:
        >>> [split(n) for n in (1, 5, 64, 1000)]
        [1, 2, 8, 32]
    """
    return 2 ** (max(count - 1, 0).bit_length() // 2)


def by_blocks(u: Signal, ends: Lengths | None, block: int) -> Tensor:
    """Samples before each row's end, the latest first, in blocks; what is before the first sample is zero.

    Args:
        u: Input, (B, L, D).
        ends: Number of samples of each row, (B,); None means L for all.
        block: Number of samples T of a block.

    Returns:
        (D, B, Q, T) with Q = ceil(L / T).
    """
    length = u.shape[1]
    blocks = -(-length // block)
    if ends is None:
        past = torch.nn.functional.pad(u.flip(1), (0, 0, 0, blocks * block - length))
    else:
        index = ends[:, None] - 1 - torch.arange(blocks * block, device=u.device)
        past = torch.take_along_dim(u, index.clamp_min(0)[..., None], 1)
        past = torch.where((index >= 0)[..., None], past, 0)
    return past.permute(2, 0, 1).unflatten(2, (blocks, block))


def shifted(x: Tensor, by: int) -> Tensor:
    """Put zeros in front of the second axis.

    Args:
        x: Values, (B, L, ...).
        by: Number of zeros.
    """
    return torch.cat((x.new_zeros(x.shape[0], by, *x.shape[2:]), x), 1)


def doublings(count: int) -> int:
    """How often one is doubled until it is at least a number.

    Args:
        count: That number, at least 1.

    Example:
        >>> [doublings(n) for n in (1, 2, 3, 64, 65)]
        [0, 1, 2, 6, 7]
    """
    return math.ceil(math.log2(count))
