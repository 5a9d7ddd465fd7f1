"""The recurrence as its definition, on tensors; importable by child processes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from transferfn.kernels.recurrence import recurrence


def plain_loop(
    u: Tensor, b: Tensor, a: Tensor, h0: Tensor, past: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    m, n = b.shape[1], a.shape[1]
    x = past.flip(1).mT  # newest first
    y, w = [u[:, :0]], [past]
    for t in range(u.shape[1]):
        if resets is not None:
            x = torch.where(resets[:, t, None, None], 0, x)
        if m:
            y.append((h0 * u[:, t] + (b * x[..., :m]).sum(-1))[:, None])
        w.append((u[:, t] - (a * x[..., :n]).sum(-1))[:, None])
        x = torch.cat((w[-1].mT, x), -1)[..., : past.shape[1]]
    return torch.cat(y, 1), torch.cat(w, 1)


def example(
    m: int,
    n: int,
    length: int,
    channels: int,
    *,
    resets: bool,
    batch: int = 2,
    extra_past: int = 0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Arguments of a recurrence whose sums of |a_i| stay below 1, so that it forgets."""
    generator = torch.Generator().manual_seed(m + 10 * n + 100 * length + channels)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype) * 2 - 1

    cuts = torch.rand(batch, length, generator=generator) < 0.15 if resets else None
    past = uniform(batch, max(m, n) + extra_past, channels)
    return (
        uniform(batch, length, channels),
        uniform(channels, m),
        uniform(channels, n) / (n + 1),
        uniform(channels),
        past,
        cuts,
    )


def large_example() -> tuple[Tensor, ...]:
    """Enough work for several threads of ours, in tensors too small for those of torch, which do not survive a fork."""
    u, b, a, h0, past, _ = example(64, 64, 100, 40, resets=False, batch=4)
    return u, b, a, h0, past


def run_with_gradients(*arguments: Tensor) -> list[Tensor]:
    """Outputs and gradients of a fixed functional of them."""
    leaves = [x.detach().clone().requires_grad_() for x in arguments]
    y, w = recurrence(*leaves, None)
    gradients = torch.autograd.grad((y * y).sum() + (w * w).sum(), leaves)
    return [x.detach() for x in (y, w, *gradients)]


def answer(connection, arrays: list[np.ndarray]) -> None:
    """What a child process computes for its parent."""
    torch.set_num_threads(2)
    connection.send([x.numpy() for x in run_with_gradients(*(torch.from_numpy(x) for x in arrays))])
