"""One sample of the recurrence on CPU tensors, outside of graphs: what decoding spends its time in."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import numpy

State = Float[Tensor, "B D n"]
Sample = Float[Tensor, "B D"]


def step(
    u: Sample, x: State, b: Float[Tensor, "D n"], a: Float[Tensor, "G n"], h0: Float[Tensor, " D"]
) -> tuple[Sample, State, bool]:
    """Compute w = u - a . x and y = h0 u + b . x, without derivatives.

    Args:
        u: Sample, (B, D), float32 or float64 like all others.
        x: State before it, newest first, (B, D, n).
        b: Numerator, (D, n).
        a: Denominator, (G, n), G a divisor of D.
        h0: Feedthrough, (D).

    Returns:
        y, (B, D), the state (w, x_1, ..., x_(n-1)) after it, and whether every w is finite.
    """
    from transferfn.kernels import _step as loops

    y, after = torch.empty(u.shape, dtype=u.dtype), torch.empty(x.shape, dtype=u.dtype)
    overflow = np.zeros(1, np.bool_)
    arrays = numpy(u), numpy(x), numpy(b), numpy(a), numpy(h0), y.numpy(), after.numpy(), overflow
    threads.split(lambda i, j: loops.step(*arrays, i, j), u.numel(), cost=x.numel() // 4)
    return y, after, not overflow[0]
