"""The impulse response of B(z)/A(z) folded modulo a period, as a differentiable operator on CPU tensors."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transferfn.kernels.arrays import elements, lanes, numpy, plan, share, smooth_numbers
from transferfn.kernels.tracing import apply

Coefficients = Float[Tensor, "D n"]


def aliased_response(
    b: Coefficients, a: Float[Tensor, "G n"], h0: Float[Tensor, " D"], period: int
) -> Float[Tensor, "D P"]:
    """Sample h0 + B(z)/A(z) at the roots of unity and transform back; |A| is held at its rounding error.

    Args:
        b: Numerators b_1..b_n, (D, n), float32 or float64, on the CPU.
        a: Denominators a_1..a_n, (G, n), G a divisor of D.
        h0: Feedthroughs, (D).
        period: Number of samples P, more than n.

    Returns:
        Kernels, (D, P).
    """
    return apply(_Aliased, b, a, h0, period)


def aliased_by_torch(b: Tensor, a: Tensor, h0: Tensor, period: int) -> Tensor:
    """Do what :func:`aliased_response` does with PyTorch's transforms, on any device and for any period.

    Args:
        b: Numerators b_1..b_n, (*bank, D, n).
        a: Denominators a_1..a_n, (*bank, G, n).
        h0: Feedthroughs, (*bank, D).
        period: Number of samples P, more than n.
    """
    channels, groups = b.shape[-2], a.shape[-2]
    denominator = torch.fft.rfft(pad(a, (1, 0), value=1.0), period)
    floor = torch.finfo(a.dtype).eps * (1 + a.abs().sum(-1, keepdim=True)).detach()
    denominator = torch.where(denominator.detach().abs() < floor, floor.to(denominator.dtype), denominator)
    numerator = torch.fft.rfft(pad(b, (1, 0)), period).unflatten(-2, (groups, channels // groups))
    response = (numerator / denominator[..., None, :]).flatten(-3, -2) + h0[..., None]
    return torch.fft.irfft(response, period)


@lru_cache(maxsize=64)  # looking for a fast period takes 40 microseconds, a tenth of a short signal's call
def circle(length: int, order: int, dtype: torch.dtype) -> tuple[int, float]:
    """Where to sample a true response that goes on: samples h_t r^-t with r > 1 die out before they are folded.

    Folding costs r^-Q of what the response is from Q on, and rounding eps r^length: with this r they are equal.

    Args:
        length: Number of samples wanted.
        order: Order n.
        dtype: Type of the coefficients.

    Returns:
        The period Q, about 1.25 times the length and fast, and log r.
    """
    period = smooth_numbers(max(length - -length // 4, order + 1))[0]
    return period, -math.log(torch.finfo(dtype).eps) / (period + length)


@torch.library.custom_op("transferfn::aliased", mutates_args=())
@no_type_check
def _aliased(b: Tensor, a: Tensor, h0: Tensor, period: int) -> Tensor:
    from transferfn.kernels import _aliased as loops

    k = b.new_empty(b.shape[0], period)
    _over_tiles(loops.kernels, (_bank(b, a), numpy(h0), k.numpy()), b, period, buffers=2)
    return k


@_aliased.register_fake
def _(b, a, h0, period):
    return b.new_empty(b.shape[0], period)


@torch.library.custom_op("transferfn::aliased_gradients", mutates_args=())
@no_type_check
def _gradients(gk: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    from transferfn.kernels import _aliased as loops

    gb, ga = b.new_empty(b.shape), b.new_empty(b.shape)
    arrays = numpy(gk), _bank(b, a), _pair(gb), _pair(ga)
    _over_tiles(loops.gradients, arrays, b, gk.shape[1], buffers=3)
    return gb, ga.unflatten(0, (a.shape[0], -1)).sum(1)


@_gradients.register_fake
def _(gk, b, a):
    return b.new_empty(b.shape), a.new_empty(a.shape)


def _bank(b: Tensor, a: Tensor) -> tuple[Any, ...]:
    """A bank of coefficients as the loops read it."""
    return _pair(b), _pair(a), b.shape[0], a.shape[0], b.shape[1], np.empty(0)


def _pair(x: Tensor) -> tuple[Any, Any]:
    """A float32 and a float64 array of all elements, one of them empty."""
    flat = numpy(x).reshape(-1)
    return (flat, np.empty(0)) if x.dtype == torch.float32 else (np.empty(0, np.float32), flat)


class _Aliased(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(b, a, h0, period):
        return _aliased(b, a, h0, period)

    @staticmethod
    def setup_context(ctx, inputs, output):
        b, a, h0, _ = inputs
        ctx.save_for_backward(b, a, h0)

    @staticmethod
    def backward(ctx, gk):
        return *apply(_Gradients, gk, *ctx.saved_tensors), None


class _Gradients(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gk, b, a, h0):
        return *_gradients(gk, b, a), gk[:, 0].clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *cotangents):
        # Higher derivatives are rare: PyTorch's transforms do.
        def gradients(gk, b, a, h0):
            return torch.func.vjp(lambda b, a, h0: aliased_by_torch(b, a, h0, gk.shape[1]), b, a, h0)[1](gk)

        return torch.func.vjp(gradients, *ctx.saved_tensors)[1](cotangents)


@_aliased.register_vmap
def _(info, in_dims, b, a, h0, period):
    b, a, h0 = (_stacked(x, d, info.batch_size) for x, d in zip((b, a, h0), in_dims[:3], strict=True))
    return _aliased(b.flatten(0, 1), a.flatten(0, 1), h0.flatten(0, 1), period).unflatten(0, b.shape[:2]), 0


@_gradients.register_vmap
def _(info, in_dims, gk, b, a):
    gk, b, a = (_stacked(x, d, info.batch_size) for x, d in zip((gk, b, a), in_dims, strict=True))
    gb, ga = _gradients(gk.flatten(0, 1), b.flatten(0, 1), a.flatten(0, 1))
    return (gb.unflatten(0, b.shape[:2]), ga.unflatten(0, a.shape[:2])), (0, 0)


def _stacked(x: Tensor, axis: int | None, size: int) -> Tensor:
    return x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)


@lru_cache(maxsize=8)
def opposite_rows(period: int, dtype: torch.dtype) -> Any:
    """The row of the value at 1/z, for each row of a transform that holds the value at a root of unity z.

    Args:
        period: Number of points.
        dtype: float32 or float64.
    """
    from transferfn.kernels._aliased import opposite

    return opposite(*plan(period, dtype)[1:])


def _over_tiles(loop: Any, arrays: tuple[Any, ...], b: Tensor, period: int, *, buffers: int) -> None:
    channels, width = b.shape[0], lanes(b)
    table, partners = plan(period, b.dtype), opposite_rows(period, b.dtype)

    def work(first: int, last: int, memory: Any) -> None:
        loop(*arrays, table, partners, memory, first, last)

    if channels:
        flops = 10 * channels * period * int(np.log2(period) + 1)
        room = buffers * elements(table, width)
        share(work, -(-channels // (2 * width)), cost=flops, size=room, dtype=b.dtype)
