"""What reflection coefficients of given denominators tell at once, before anything is filtered, on CPU tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels.arrays import numpy


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
    from transferfn.kernels import _stability as loops

    worst, stable = loops.noise_gain(numpy(a.to(torch.float64)))
    return float(worst), bool(stable)
