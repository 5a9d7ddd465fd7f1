"""One sample of a cascade of sections, and samples of a normalised lattice, on CPU tensors, outside of graphs."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import numpy

Sample = Float[Tensor, "B D"]


def sections_step(
    u: Sample,
    x: Float[Tensor, "B D S 2"],
    b: Float[Tensor, "D S 2"],
    a: Float[Tensor, "D S 2"],
    h0: Float[Tensor, "D S"],
) -> tuple[Sample, Float[Tensor, "B D S 2"], bool]:
    """Run sections of order 2 one after the other, without derivatives.

    Args:
        u: Sample, (B, D), float32 or float64 like all others.
        x: Last two samples of w of each section, newest first, (B, D, S, 2).
        b: Numerators, (D, S, 2).
        a: Denominators, (D, S, 2).
        h0: Feedthroughs, (D, S).

    Returns:
        y, (B, D), the state after it, and whether every w is finite.
    """
    from transferfn.kernels import _forms as loops

    y, after = u.new_empty(u.shape), u.new_empty(x.shape)
    finite = loops.sections(*map(numpy, (u, x, b, a, h0)), y.numpy(), after.numpy())
    return y, after, bool(finite)


def lattice_step(
    u: Sample,
    x: Float[Tensor, "B D n"],
    k: Float[Tensor, "G n"],
    c: Float[Tensor, "G n"],
    v: Float[Tensor, "D n"],
    h0: Float[Tensor, " D"],
) -> tuple[Sample, Float[Tensor, "B D n"], bool]:
    """Run a normalised lattice with taps, without derivatives.

    Args:
        u: Sample, (B, D), float32 or float64 like all others.
        x: Backward signals of the sample before, (B, D, n).
        k: Reflection coefficients, (G, n), G a divisor of D.
        c: Their complements (1 - k^2)^(1/2), (G, n).
        v: Taps, (D, n).
        h0: Feedthrough, (D).

    Returns:
        y, (B, D), the state after it, and whether every forward signal is finite.
    """
    from transferfn.kernels import _forms as loops

    y, after = u.new_empty(u.shape), u.new_empty(x.shape)
    finite = loops.lattice(*map(numpy, (u, x, k, c, v, h0)), y.numpy(), after.numpy())
    return y, after, bool(finite)


def lattice_chunk(
    u: Float[Tensor, "B L D"],
    x: Float[Tensor, "B D n"],
    k: Float[Tensor, "G n"],
    c: Float[Tensor, "G n"],
    v: Float[Tensor, "D n"],
    h0: Float[Tensor, " D"],
    *,
    lengths: Int[Tensor, " B"] | None,
    resets: Bool[Tensor, "B L"] | None,
) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B D n"]]:
    """Run a normalised lattice with taps over several samples, in float64, without derivatives.

    Args:
        u: Samples, (B, L, D).
        x: Backward signals of the sample before, (B, D, n).
        k: Reflection coefficients, (G, n), G a divisor of D.
        c: Their complements (1 - k^2)^(1/2), (G, n).
        v: Taps, (D, n).
        h0: Feedthrough, (D).
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.

    Returns:
        y, (B, L, D), zero past ``lengths``, and the state after each row's last valid sample, both float64.
    """
    from transferfn.kernels import _forms as loops

    parts = [z.detach().to(torch.float64).contiguous().numpy() for z in (u, x, k, c, v, h0)]
    ends = torch.empty(0, dtype=torch.int64) if lengths is None else lengths.to(torch.int64).contiguous()
    cleared = torch.empty(0, 0, dtype=torch.bool) if resets is None else resets.contiguous()
    y, after = u.new_empty(u.shape, dtype=torch.float64), u.new_empty(x.shape, dtype=torch.float64)
    arrays = *parts, ends.numpy(), cleared.numpy(), y.numpy(), after.numpy()
    jobs = u.shape[0] * -(-u.shape[2] // loops.TILE)
    threads.split(lambda i, j: loops.lattice_chunk(*arrays, i, j), jobs, cost=5 * u.numel() * x.shape[2])
    return y, after
