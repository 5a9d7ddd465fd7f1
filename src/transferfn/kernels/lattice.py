"""Free parameters to stable denominators, and the adjoint of that map, on CPU tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import numpy

OrderFirst = Float[Tensor, "n rows"]


def denominators(x: OrderFirst, *, largest: float) -> OrderFirst:
    """Step up from the reflection coefficients k_m = tanh(g_m x_m), g_m = prod_(j > m) (1 - k_j^2).

    Args:
        x: Free parameters, (n, rows), contiguous, float32 or float64.
        largest: What |k| is kept within.

    Returns:
        a_1..a_n, (n, rows).
    """
    from transferfn.kernels import _lattice as loops

    a = torch.empty_like(x)
    arrays = numpy(x), largest, a.numpy()
    _over_tiles(lambda i, j: loops.denominators(*arrays, i, j), x, loops.TILE)
    return a


def gradients(x: OrderFirst, ga: OrderFirst, *, largest: float) -> OrderFirst:
    """The adjoint of :func:`denominators`.

    Args:
        x: Free parameters, (n, rows), contiguous.
        ga: Gradient at the denominators, (n, rows), contiguous.
        largest: What |k| is kept within; coefficients there pass no gradient.

    Returns:
        Gradient at the parameters, (n, rows).
    """
    from transferfn.kernels import _lattice as loops

    gx = torch.empty_like(x)
    arrays = numpy(x), numpy(ga), largest, gx.numpy()
    _over_tiles(lambda i, j: loops.gradients(*arrays, i, j), x, loops.TILE)
    return gx


def noise_gain(a: Float[Tensor, "rows n"]) -> float:
    """How much a recurrence amplifies the rounding of its own samples: (1 + sum|a_i|) |1/A|, of the worst denominator.

    |1/A| is the root of the response's energy, by the reflection coefficients: its square is prod 1 / (1 - k_j^2). Each
    sample w_t is rounded by up to eps (1 + sum|a_i|) of the largest; these errors are as good as independent.

    Args:
        a: Denominators a_1..a_n, (rows, n), on the CPU.

    Returns:
        The gain; unstable denominators, whose response has no energy, do not count.

    Example:
        >>> noise_gain(torch.tensor([[-0.6]]))
        2.0
    """
    return _noise_gain(a)[0]


def seem_stable(a: Float[Tensor, "rows n"]) -> bool:
    """Whether all reflection coefficients are below 1 as computed: then no denominator is certainly unstable.

    Args:
        a: Denominators a_1..a_n, (rows, n), on the CPU.

    Example:
        >>> seem_stable(torch.tensor([[-0.6]])), seem_stable(torch.tensor([[-0.6], [-1.1]]))
        (True, False)
    """
    return _noise_gain(a)[1]


def _noise_gain(a: Tensor) -> tuple[float, bool]:
    from transferfn.kernels import _lattice as loops

    worst, stable = loops.noise_gain(numpy(a.to(torch.float64)))
    return float(worst), bool(stable)


def _over_tiles(work, x: Tensor, tile: int) -> None:
    order, rows = x.shape
    if order and rows:
        threads.split(work, -(-rows // tile), cost=2 * rows * order**2)
