"""Tensors as the arrays that native loops take, and memory for the loops to work in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transferfn.kernels import threads

KEPT = 13 << 20  # bytes of work space that a thread keeps for its next call; mapping memory anew is slow

_kept = threading.local()


def in_memory(x: Tensor) -> Tensor:
    """The same values as loops find them at its address: PyTorch negates the imaginary part of a conjugate lazily.

    Args:
        x: A tensor.
    """
    return x.resolve_neg() if x.is_neg() else x


def numpy(x: Tensor) -> Any:
    """A contiguous array of the same values.

    Args:
        x: A tensor on the CPU.
    """
    return in_memory(x.detach().contiguous()).numpy()


def flat(x: Tensor) -> tuple[Any, tuple[int, ...]]:
    """The elements from the first to the last one in memory, none copied, and the strides of the axes.

    Args:
        x: A tensor on the CPU.
    """
    x = in_memory(x.detach())
    extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    return x.as_strided((extent,), (1,)).numpy(), x.stride()


def numpy_type(dtype: torch.dtype) -> type:
    """NumPy's name for float32 or float64.

    Args:
        dtype: PyTorch's name.
    """
    return np.float64 if dtype == torch.float64 else np.float32


def lanes(x: Tensor) -> int:
    """How many elements a register of the native loops holds.

    Args:
        x: A tensor of their type.
    """
    return lanes_of(x.element_size())


@cache
def lanes_of(itemsize: int) -> int:
    """How many numbers a register of the native loops holds.

    Args:
        itemsize: Bytes of a number, 4 or 8.
    """
    from transferfn.kernels._simd import BYTES

    return BYTES // itemsize


def scratch(size: int, count: int, dtype: torch.dtype, *, purpose: str = "signals") -> tuple[Tensor, int]:
    """Uninitialised memory for each thread of a team, the same at every call of the thread that starts it.

    Args:
        size: Number of elements a thread needs.
        count: Number of threads.
        dtype: float32 or float64.
        purpose: What memory of another purpose is used beside.

    Returns:
        The memory of all, one thread's after the other's, and the number of elements that each of them has.
    """
    size = -(-size // 16) * 16  # whole registers
    blocks = _kept.__dict__.setdefault("blocks", {})
    block = blocks.get((dtype, purpose))
    if block is None or block.numel() < size * count:
        block = blocks[dtype, purpose] = None
        block = torch.empty(size * count, dtype=dtype, device="cpu")  # whatever the default device is
        if block.nbytes <= KEPT:
            blocks[dtype, purpose] = block
    return block, size


def share(work: Callable[[int, int, Any], None], jobs: int, *, cost: int, size: int, dtype: torch.dtype) -> None:
    """Cut jobs among threads as :func:`transferfn.kernels.threads.split` does, and give each memory to work in.

    It is the caller's: a thread that C started forgets what it kept as soon as it leaves Python.

    Args:
        work: Runs the jobs of a range in an array, of which nothing is known.
        jobs: Number of independent jobs, at least 1.
        cost: Rough number of multiply-adds of all jobs together.
        size: Number of elements a thread needs.
        dtype: float32 or float64.
    """
    count = threads.team(jobs, cost=cost)
    memory, stride = scratch(size, count, dtype, purpose="tiles")
    rooms = memory.numpy()

    def run(first: int, last: int) -> None:
        which = -(-first * count // jobs)  # ranges begin at jobs * which // count
        work(first, last, rooms[which * stride : (which + 1) * stride])

    threads.split(run, jobs, cost=cost)


def smooth_numbers(least: int) -> list[int]:
    """The products of 2, 3 and 5, for which transforms are fast, from a number to the next power of two.

    Args:
        least: The number, at least 1.

    Example:
        >>> smooth_numbers(49)
        [50, 54, 60, 64]
    """
    most = 1 << (int(least) - 1).bit_length()  # NumPy's integers have no bit_length
    bits = range(most.bit_length())
    odd = [3**j * 5**k for j in bits for k in bits if 3**j * 5**k <= most]
    return sorted(x << i for x in odd for i in bits if least <= x << i <= most)


def has_plan(points: int) -> bool:
    """Whether there is a transform of so many points: products of 2, 3, 5 and 7.

    Args:
        points: Number of points, at least 1.

    Example:
        >>> has_plan(784), has_plan(1025)
        (True, False)
    """
    for radix in (2, 3, 5, 7):
        while points % radix == 0:
            points //= radix
    return points == 1


@lru_cache(maxsize=8)  # up to 32 MB each, at a million points
def plan(points: int, dtype: torch.dtype) -> tuple[Any, ...]:
    """Weights, table and layout of a transform.

    Args:
        points: Number of points, a product of 2, 3, 5 and 7.
        dtype: float32 or float64.
    """
    from transferfn.kernels._fft import tables

    return tables(points, numpy_type(dtype))


def elements(table: tuple[Any, ...], width: int) -> int:
    """How many numbers of work space a transform takes.

    Args:
        table: Its plan.
        width: Numbers in a register.
    """
    groups, _, pitch, *_ = table[2]
    return 2 * groups * pitch * width


def into_channels(x: Tensor, axis: int | None, size: int, *, channel_axis: int) -> Tensor:
    """Merge a vmapped axis with the channels, (..., size * D, ...).

    Args:
        x: An argument of an operator under vmap.
        axis: Where its vmapped axis is; None for one that all share.
        size: Length of that axis.
        channel_axis: Where its channels are.
    """
    x = x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)
    return x.movedim(0, channel_axis).flatten(channel_axis, channel_axis + 1)
