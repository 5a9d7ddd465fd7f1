"""Filters one after the other on CPU tensors, with scipy's initial conditions; outside of graphs, without gradients."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import in_memory, lanes_of, numpy_type, scratch


def cascade(
    x: Float[Tensor, "D L"],
    b: Float[Tensor, "S D m"],
    a: Float[Tensor, "S D n"],
    zi: Float[Tensor, "S D n"] | None,
) -> tuple[Float[Tensor, "D L"], Float[Tensor, "S D n"]]:
    """Filter each channel by its sections, in float64 whatever the type of the signal.

    Args:
        x: Signals, float32 or float64, of any layout.
        b: Numerators b_0..b_n of S sections, n >= 1.
        a: Denominators a_1..a_n.
        zi: Initial conditions of the transposed direct form II; None means rest.

    Returns:
        Output, in the type of ``x``, and final conditions, float64.
    """
    from transferfn.kernels._cascade import rows_of_work

    x = in_memory(x)
    (sections, channels, order), length = a.shape, x.shape[1]
    y = torch.empty_like(x)
    coefficients = torch.cat((b, a), -1).to(torch.float64).contiguous()
    zi = None if zi is None else in_memory(zi.to(torch.float64).contiguous())
    zf = torch.empty(a.shape, dtype=torch.float64, device=x.device)
    if not channels:
        return y, zf
    width = lanes_of(8)
    jobs = -(-channels // (2 * width))
    count = threads.team(jobs, cost=x.numel() * sections * order)
    work, stride = scratch(rows_of_work(sections, order) * 2 * width, count, torch.float64)
    values = (
        sections, order, length, channels, x.data_ptr(), *x.stride(), y.data_ptr(), *y.stride(),
        coefficients.data_ptr(), 0 if zi is None else zi.data_ptr(), zf.data_ptr(), work.data_ptr(), stride, width,
    )  # fmt: skip
    threads.launch(_entry(x.dtype), jobs, count, values)
    return y, zf


@cache
def _entry(dtype: torch.dtype) -> int:
    from transferfn.kernels import _cascade as loops

    return loops.cascade_entry(numpy_type(dtype)).address
