"""The recurrence as its definition, on tensors; importable by child processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from transferfn.core import naive
from transferfn.kernels.recurrence import recurrence


def plain_loop(
    u: Tensor,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    state: Tensor | None,
    resets: Tensor | None,
    lengths: Tensor | None,
    *,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    if not reverse:
        return naive.filter_signal(u, b, a, h0, state, lengths, resets)
    outputs, states = [], []
    for row in range(len(u)):
        end = u.shape[1] if lengths is None else int(lengths[row])
        before = None if state is None else state[row : row + 1]
        cut = torch.zeros(1, end, dtype=torch.bool)
        if resets is not None and end:
            cut[0, 1:] = resets[row, 1:end].flip(0)  # a reset hides what is before it from what is ahead of it
        y, after = naive.filter_signal(u[row : row + 1, :end].flip(1), b, a, h0, before, None, cut)
        outputs.append(torch.nn.functional.pad(y.flip(1), (0, 0, 0, u.shape[1] - end)))
        states.append(after)
    return torch.cat(outputs), torch.cat(states)


def example(
    order: int,
    length: int,
    channels: int,
    *,
    groups: int | None = None,
    batch: int = 2,
    resets: bool = False,
    lengths: bool = False,
    state: bool = True,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Arguments of a recurrence whose sums of |a_i| stay below 1, so that it forgets."""
    generator = torch.Generator().manual_seed(10 * order + 100 * length + channels)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype) * 2 - 1

    return (
        uniform(batch, length, channels),
        uniform(channels, order),
        uniform(groups or channels, order) / (order + 1),
        uniform(channels),
        uniform(batch, channels, order) if state else None,
        torch.rand(batch, length, generator=generator) < 0.15 if resets else None,
        torch.randint(0, length + 1, (batch,), generator=generator) if lengths else None,
    )


def large_example() -> tuple[Tensor, ...]:
    """Enough work for several threads of ours, in tensors too small for those of torch, which do not survive a fork."""
    u, b, a, h0, state, *_ = example(64, 100, 40, batch=4)
    assert state is not None
    return u, b, a, h0, state


def run_with_gradients(*arguments: Tensor) -> list[Tensor]:
    """Outputs and gradients of a fixed functional of them."""
    leaves = [x.detach().clone().requires_grad_() for x in arguments]
    y, after = recurrence(*leaves)
    gradients = torch.autograd.grad((y * y).sum() + (after * after).sum(), leaves)
    return [x.detach() for x in (y, after, *gradients)]


def answer(connection, arrays: list[np.ndarray]) -> None:
    """What a child process computes for its parent."""
    torch.set_num_threads(2)
    connection.send([x.numpy() for x in run_with_gradients(*(torch.from_numpy(x) for x in arrays))])
