"""Time of one decoding step: ours, a stream's in blocks, and a tidy one in PyTorch's operations."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor

from transferfn.bench.timing import alternate
from transferfn.nn import RTF, Realization, Stream

CHANNELS, ORDER, BLOCK = 256, 64, 64
SAME = 1e-4


def rows(seconds: float) -> list[dict[str, Any]]:
    """Microseconds a sample for one row and for 16.

    Args:
        seconds: How long to measure each.

    Raises:
        ArithmeticError: if the sides do not compute the same.
    """
    return [_row(batch, seconds) for batch in (1, 16)]


@torch.no_grad()
def _row(batch: int, seconds: float) -> dict[str, Any]:
    torch.manual_seed(0)
    layer = Realization(RTF(CHANNELS, ORDER, horizon=1024).transfer_function().to(dtype=torch.float32))
    u, x = torch.randn(batch, CHANNELS), torch.randn(batch, CHANNELS, ORDER) / ORDER
    block = torch.randn(batch, BLOCK, CHANNELS)
    stream = Stream(layer, batch)

    def eager(u: Tensor = u, x: Tensor = x) -> tuple[Tensor, Tensor]:
        w = u - (layer.a * x).sum(-1)
        y = layer.h0 * u + (layer.b * x).sum(-1)
        return y, torch.cat((w[..., None], x[..., :-1]), -1)

    for mine, theirs in zip(layer.step(u, x), eager(), strict=True):
        error = float((mine - theirs).abs().max() / theirs.abs().max())
        if not error <= SAME:
            raise ArithmeticError(f"our step and PyTorch's differ by {error:.1e}: no ratio of them means anything")
    sides = {"step": lambda: layer.step(u, x), "eager": eager, "stream": lambda: stream(block)}
    median = {name: 1e6 * statistics.median(values) for name, values in alternate(sides, seconds).items()}
    a_sample = median["stream"] / BLOCK
    return {
        "B": batch,
        "PyTorch step, us": median["eager"],
        "our step, us": median["step"],
        "stream of blocks of 64, us a sample": a_sample,
        "PyTorch / our step": median["eager"] / median["step"],
        "PyTorch / stream": median["eager"] / a_sample,
    }
