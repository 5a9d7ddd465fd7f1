"""The memory of mixers that keep every sample: what a chunk adds to it, and what a reset removes.

Such a state is made of tensors whose axis before the last is time, newest last, and of the number of samples that count
for each row. What is in front of those is zero, so that rows that remember less than others go together with them.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transferfn.ops.boundaries import check_tensor, values_are_hidden
from transferfn.typing import Lengths, Resets

Memory = Float[Tensor, "B *_ _ _"]
"""What is kept of T samples, newest last."""

Counts = Int[Tensor, " B"]
"""How many samples of a memory count for each row, the newest ones."""


def beginnings(counts: Counts, length: int, resets: Resets | None) -> Int[Tensor, "B L"]:
    """When the sequence that a sample belongs to began, as a time of the chunk: negative where it was before the chunk.

    Args:
        counts: Number of samples of each row before the chunk, (B,).
        length: Number of samples L of the chunk.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.

    Example:
        >>> beginnings(torch.tensor([2]), 4, torch.tensor([[False, True, False, False]]))
        tensor([[-2,  1,  1,  1]])
    """
    if resets is None:
        return (-counts)[:, None].expand(-1, length)
    time = torch.arange(length, device=resets.device)
    return torch.where(resets, time, -counts[:, None]).cummax(1).values


def remember(
    past: tuple[Memory, ...],
    counts: Counts,
    new: tuple[Memory, ...],
    lengths: Lengths | None = None,
    resets: Resets | None = None,
) -> tuple[tuple[Memory, ...], Counts]:
    """The memory after a chunk.

    Where rows end or begin anew within the chunk, samples that no row remembers are dropped; in a compiled graph, whose
    sizes cannot depend on values, they stay, as zeros.

    Args:
        past: What is kept of the T samples before the chunk, (B, ..., T, C) each.
        counts: How many of them count for each row, (B,).
        new: What is to be kept of the chunk, (B, ..., L, C) each, L at least 1.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.

    Returns:
        What is kept of at most T + L samples, and how many of them count for each row.

    Example:
        >>> old, chunk = torch.tensor([[[1.0]], [[2.0]]]), torch.tensor([[[3.0]], [[4.0]]])
        >>> (both,), counts = remember((old,), torch.tensor([1, 1]), (chunk,), torch.tensor([1, 0]))
        >>> both[..., 0], counts
        (tensor([[1., 3.], [0., 2.]]), tensor([2, 1]))
    """
    length = new[0].shape[-2]
    both = tuple(torch.cat((x.to(y.dtype), y), -2) for x, y in zip(past, new, strict=True))
    if lengths is None and resets is None:
        return both, counts + length
    ends = torch.full_like(counts, length) if lengths is None else lengths.to(counts)
    begun = beginnings(counts, length, resets)
    last = begun.take_along_dim((ends - 1).clamp_min(0)[:, None], 1)[:, 0]
    counts = torch.where(ends > 0, ends - last, counts)

    size = both[0].shape[-2]
    kept = size if values_are_hidden() or not len(counts) else int(counts.max())
    time = torch.arange(size - kept, size, device=counts.device)
    source = (time - (length - ends)[:, None]).clamp_min(0)  # what follows a row's end is passed over
    counted = time >= size - counts[:, None]

    def row_by_row(x: Tensor) -> Tensor:
        shape = len(counts), *[1] * (x.dim() - 3), kept, 1
        return torch.where(counted.view(shape), x.take_along_dim(source.view(shape), -2), 0)

    return tuple(map(row_by_row, both)), counts


def grown(memory: Memory, size: int) -> Memory:
    """The same memory with room for more samples: zeros in front.

    Args:
        memory: What is kept of T samples, (B, ..., T, C).
        size: Number of samples, at least T.
    """
    return torch.nn.functional.pad(memory, (0, 0, size - memory.shape[-2], 0))


def check_memory(state: object, expected: tuple[tuple[int | str, ...], ...], batch_size: int) -> None:
    """Raise unless a state is a tuple of memories of the same size and of counts.

    Args:
        state: What the caller passed.
        expected: Shapes of the memories, with "T" for the number of samples.
        batch_size: Number of rows B.
    """
    shapes = (*expected, (batch_size,))
    if isinstance(state, tuple) and len(state) == len(shapes):
        for x in state:
            check_tensor("each part of the state", x)
        sizes = [x.shape[-2] if x.dim() > 1 else -1 for x in state[:-1]]  # symbols, while a program is exported
        found = tuple(tuple(x.shape) for x in state)
        fits = found == tuple(tuple(sizes[0] if n == "T" else n for n in s) for s in shapes)
        if fits and not state[-1].is_floating_point():
            return
        told = f"{found}, the last of {state[-1].dtype}"
    else:
        told = f"a {type(state).__name__}"
    raise ValueError(
        f"expected a state of shapes {shapes} (T samples so far, and how many of them count), got {told}. "
        f"Begin with init_state({batch_size}), and use the state of the same layer and batch."
    )
