"""Products of few rows with a matrix of bytes on the CPU: what takes the time is reading the matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import numpy


def product(x: Float[Tensor, "R I"], weight: Int8[Tensor, "O I"], scale: Float[Tensor, " O"]) -> Float[Tensor, "R O"]:
    """Multiply rows with a matrix whose rows have a scale each, without derivatives.

    Args:
        x: Rows, float32, on the CPU as all others.
        weight: The matrix, contiguous.
        scale: What each of its rows is multiplied by, float32.

    Returns:
        scale_o sum_i weight_oi x_ri, float32.

    Example:
        >>> product(torch.ones(1, 3), torch.tensor([[1, 2, 3], [0, 0, -4]], dtype=torch.int8), torch.tensor([1.0, 0.5]))
        tensor([[ 6., -2.]])
    """
    from transferfn.kernels import _narrow as loops

    y = torch.empty(x.shape[0], weight.shape[0], dtype=torch.float32, device=x.device)
    arrays = (numpy(x), weight.numpy(), scale.numpy(), y.numpy())
    if y.numel():
        threads.split(lambda i, j: loops.product(*arrays, i, j), weight.shape[0], cost=x.shape[0] * weight.numel() // 4)
    return y
