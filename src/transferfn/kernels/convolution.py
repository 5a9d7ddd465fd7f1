"""Convolution with one kernel a channel as a differentiable operator on CPU tensors.

    y_t = k_0 u_t + k_1 u_(t-1) + ... + ahead_0 u_(t+1) + ahead_1 u_(t+2) + ...

Two raw operators, the convolution and its backward pass, are closed under differentiation: derivatives of any order
are made of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels.arrays import elements, flat, into_channels, lanes, numpy, plan, share, smooth_numbers
from transferfn.kernels.tracing import apply


def convolution(
    u: Float[Tensor, "B L D"], k: Float[Tensor, "D _"], ahead: Float[Tensor, "D _"] | None = None
) -> Float[Tensor, "B L D"]:
    """Convolve each channel of a signal with its kernel.

    Args:
        u: Input, (B, L, D), float32 or float64, of any layout.
        k: Taps for the present and the past, (D, >= 0); those past L do not matter.
        ahead: Taps for the future, (D, >= 0), the next sample first.

    Returns:
        Output, in the type and layout of ``u``.
    """
    return apply(_Convolution, u, k, k[:, :0] if ahead is None else ahead)


@torch.library.custom_op("transferfn::convolution", mutates_args=())
@no_type_check
def _convolution(u: Tensor, k: Tensor, ahead: Tensor) -> Tensor:
    from transferfn.kernels import _convolve as loops

    y = torch.empty_like(u)
    if not u.numel():
        return y
    arrays = (*flat(u), numpy(k), numpy(ahead), *flat(y))
    _over_tiles(loops.convolve, arrays, u, parts_of(u), buffers=2)
    return y


@_convolution.register_fake
def _(u, k, ahead):
    return torch.empty_like(u)


@torch.library.custom_op("transferfn::convolution_backward", mutates_args=())
@no_type_check
def _backward(gy: Tensor, u: Tensor, k: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from transferfn.kernels import _convolve as loops

    gu = torch.empty_like(u)
    parts = parts_of(u)
    gk, ga = k.new_zeros(parts, *k.shape), k.new_zeros(parts, *ahead.shape)
    if u.numel():
        arrays = (*flat(gy), *flat(u), numpy(k), numpy(ahead), *flat(gu), gk.numpy(), ga.numpy())
        _over_tiles(loops.backward, arrays, u, parts, buffers=4)
    return gu, gk.sum(0) if parts > 1 else gk[0].clone(), ga.sum(0) if parts > 1 else ga[0].clone()


@_backward.register_fake
def _(gy, u, k, ahead):
    return torch.empty_like(u), k.new_empty(k.shape), ahead.new_empty(ahead.shape)


class _Convolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u, k, ahead):
        return _convolution(u, k, ahead)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gy):
        return apply(_Backward, gy, *ctx.saved_tensors)


class _Backward(torch.autograd.Function):
    """gu = A(gy; k) and gk = P(gy, u), each linear in both arguments, as is y = C(u; k)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gy, u, k, ahead):
        return _backward(gy, u, k, ahead)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, cu, ck, ca):
        gy, u, k, ahead = ctx.saved_tensors
        along, dk, da = _Backward.apply(gy, cu, ck, ca)  # A(gy; ck) and P(gy, cu)
        return _Convolution.apply(cu, k, ahead) + _Convolution.apply(u, ck, ca), along, dk, da


@_convolution.register_vmap
def _(info, in_dims, u, k, ahead):
    size = info.batch_size
    u = into_channels(u, in_dims[0], size, channel_axis=2)
    k, ahead = (into_channels(x, d, size, channel_axis=0) for x, d in ((k, in_dims[1]), (ahead, in_dims[2])))
    return _convolution(u, k, ahead).unflatten(2, (size, -1)), 2


@_backward.register_vmap
def _(info, in_dims, gy, u, k, ahead):
    size = info.batch_size
    gy, u = (into_channels(x, d, size, channel_axis=2) for x, d in ((gy, in_dims[0]), (u, in_dims[1])))
    k, ahead = (into_channels(x, d, size, channel_axis=0) for x, d in ((k, in_dims[2]), (ahead, in_dims[3])))
    gu, gk, ga = _backward(gy, u, k, ahead)
    return (gu.unflatten(2, (size, -1)), gk.unflatten(0, (size, -1)), ga.unflatten(0, (size, -1))), (2, 0, 0)


@lru_cache(maxsize=64)
def fast_points(length: int) -> int:
    """The number of points, at least as many as a signal has samples, whose transform takes the fewest operations.

    Args:
        length: Number of samples, at least 1.

    Example:
        >>> fast_points(784), fast_points(1025), fast_points(4001)
        (800, 1152, 4096)
    """
    return min(smooth_numbers(length), key=_operations)


def _operations(points: int) -> float:
    total, size = 0.0, points
    for radix, cost in ((3, 1.0), (5, 1.5), (4, 1.0), (2, 0.7)):
        while size % radix == 0:
            total, size = total + cost, size // radix
    return total * points


def parts_of(u: Tensor) -> int:
    """How many jobs share a tile. It depends on shapes alone, so that sums do not depend on the number of threads.

    Args:
        u: The signal, (B, L, D).
    """
    batch, _, channels = u.shape
    width = lanes(u)
    if not u.numel():
        return 1
    groups = -(-batch // max(width // channels, 1))
    return max(min(groups, 8 * width // channels), 1)


def _over_tiles(loop: Any, arrays: tuple[Any, ...], u: Tensor, parts: int, *, buffers: int) -> None:
    batch, length, channels = u.shape
    width, points = lanes(u), fast_points(length)
    sizes = (batch, length, channels, parts)
    table = plan(points, u.dtype)

    def work(first: int, last: int, memory: Any) -> None:
        loop(*arrays, sizes, table, memory, first, last)

    flops = 10 * batch * channels * points * points.bit_length()
    room = buffers * elements(table, width)
    share(work, -(-channels // width) * parts, cost=flops, size=room, dtype=u.dtype)
