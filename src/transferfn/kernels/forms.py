"""One sample of a cascade of sections and of a normalised lattice on CPU tensors, outside of graphs."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

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
