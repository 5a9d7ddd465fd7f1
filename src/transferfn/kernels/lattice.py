"""Free parameters to stable denominators, taps to numerators, and the adjoint of that map, on CPU tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import numpy

OrderFirst = Float[Tensor, "n rows"]
EachOrderFirst = Float[Tensor, "n rows each"]


def filters(x: OrderFirst, taps: EachOrderFirst, *, scaled: bool, largest: float) -> tuple[OrderFirst, EachOrderFirst]:
    """Step up from the reflection coefficients of parameters, and sum up taps.

    Args:
        x: Free parameters, (n, rows), contiguous, float32 or float64.
        taps: Taps of the normalised lattice, (n, rows, each), contiguous; ``each`` may be 0.
        scaled: Whether k_m = tanh(g_m x_m), with g_m the product of 1 - k_j^2 over j > m, or tanh(x_m).
        largest: What |k| is kept within.

    Returns:
        a_1..a_n, (n, rows), and b_1..b_n, (n, rows, each).
    """
    from transferfn.kernels import _lattice as loops

    a, b = torch.empty_like(x), torch.empty_like(taps)
    arrays = numpy(x), numpy(taps), scaled, largest, a.numpy(), b.numpy()
    _over_tiles(lambda i, j: loops.filters(*arrays, i, j), x, taps, loops.TILE)
    return a, b


def gradients(
    x: OrderFirst, taps: EachOrderFirst, ga: OrderFirst, gb: EachOrderFirst, *, scaled: bool, largest: float
) -> tuple[OrderFirst, EachOrderFirst]:
    """The adjoint of :func:`filters`.

    Args:
        x: Free parameters, (n, rows), contiguous.
        taps: Taps, (n, rows, each), contiguous.
        ga: Gradient at the denominators, (n, rows), contiguous.
        gb: Gradient at the numerators, (n, rows, each), contiguous.
        scaled: As for :func:`filters`.
        largest: What |k| is kept within; coefficients there pass no gradient.

    Returns:
        Gradients at the parameters and at the taps.
    """
    from transferfn.kernels import _lattice as loops

    gx, gt = torch.empty_like(x), torch.empty_like(taps)
    arrays = numpy(x), numpy(taps), numpy(ga), numpy(gb), scaled, largest, gx.numpy(), gt.numpy()
    _over_tiles(lambda i, j: loops.gradients(*arrays, i, j), x, taps, loops.TILE)
    return gx, gt


def _over_tiles(work, x: Tensor, taps: Tensor, tile: int) -> None:
    order, rows = x.shape
    if order and rows:
        threads.split(work, -(-rows // tile), cost=(2 * rows + taps[0].numel()) * order**2)
