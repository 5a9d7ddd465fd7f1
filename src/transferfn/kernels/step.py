"""One sample of the recurrence on CPU tensors, outside of graphs: what decoding spends its time in."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import in_memory, lanes, numpy_type

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
    u, x, b, a, h0 = (in_memory(c if c.is_contiguous() else c.contiguous()) for c in (u, x, b, a, h0))
    y, after = torch.empty_like(u), torch.empty_like(x)
    jobs = u.numel()
    if not jobs:
        return y, after, True
    overflow = ctypes.c_int64(0)
    values = (
        u.data_ptr(), x.data_ptr(), b.data_ptr(), a.data_ptr(), h0.data_ptr(), y.data_ptr(), after.data_ptr(),
        ctypes.addressof(overflow), u.shape[1], a.shape[0], x.shape[2], lanes(u),
    )  # fmt: skip
    threads.launch(_entry(u.dtype), jobs, threads.team(jobs, cost=x.numel() // 2), values)
    return y, after, not overflow.value


def ring_step(
    u: Sample,
    ring: Float[Tensor, "B D capacity"],
    head: int,
    b: Float[Tensor, "D n"],
    a: Float[Tensor, "G n"],
    h0: Float[Tensor, " D"],
) -> tuple[Sample, bool]:
    """Do what :func:`step` does to a state that lies in a longer row, in place: w is written before it.

    Args:
        u: Sample, (B, D), float32 or float64 like all others.
        ring: Rows whose entries head..head+n-1 are the state, newest first; contiguous. Entry head - 1 becomes w.
        head: Where the state begins, at least 1.
        b: Numerator, (D, n), contiguous.
        a: Denominator, (G, n), contiguous.
        h0: Feedthrough, (D), contiguous.

    Returns:
        y, (B, D), and whether every w is finite.
    """
    u = in_memory(u if u.is_contiguous() else u.contiguous())
    y = torch.empty_like(u)
    overflow = ctypes.c_int64(0)
    values = (
        u.data_ptr(), ring.data_ptr(), b.data_ptr(), a.data_ptr(), h0.data_ptr(), y.data_ptr(),
        ctypes.addressof(overflow), u.shape[1], a.shape[0], b.shape[1], ring.shape[2], head, lanes(u),
    )  # fmt: skip
    jobs = u.numel()
    threads.launch(_ring_entry(u.dtype), jobs, threads.team(jobs, cost=jobs * b.shape[1] // 2), values)
    return y, not overflow.value


@cache
def _entry(dtype: torch.dtype) -> int:
    from transferfn.kernels import _step as loops

    return loops.step_entry(numpy_type(dtype)).address


@cache
def _ring_entry(dtype: torch.dtype) -> int:
    from transferfn.kernels import _step as loops

    return loops.ring_step_entry(numpy_type(dtype)).address
