"""Filtering with sampled rational transfer functions as one differentiable operator on CPU tensors.

It does what ``convolution(u, aliased_response(b, a, h0, period))`` does without ever writing the kernels down, which in
float64 take twice the memory of one row of the signal, and samples them anew for the backward pass.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.aliased import aliased_by_torch, aliased_response, circle, opposite_rows
from transferfn.kernels.arrays import elements, flat, has_plan, into_channels, lanes, numpy, plan, workspace
from transferfn.kernels.convolution import convolution, fast_points
from transferfn.kernels.tracing import apply, is_eager, is_plain


def rational_convolution(
    u: Float[Tensor, "B L D"],
    b: Float[Tensor, "*bank D n"],
    a: Float[Tensor, "*bank G n"],
    h0: Float[Tensor, "*bank D"],
    period: int,
) -> Float[Tensor, "B L D"]:
    """Convolve each channel with the first L samples of h0 + B(z)/A(z), sampled at the roots of unity.

    Args:
        u: Input, (B, L, D), float32 or float64, of any layout.
        b: Numerators b_1..b_n, (D, n) or (K, D, n), float64. The first of K = 2 banks is for the present and the past,
            the second for the future, the next sample first.
        a: Denominators a_1..a_n, (G, n) or (K, G, n), float64; channel d uses row d * G // D.
        h0: Feedthroughs, (D) or (K, D), float64.
        period: Number of samples P, at least L and more than n.

    Returns:
        Output, in the type and layout of ``u``.
    """
    if u.shape[1] > period or b.shape[-1] >= period:
        raise ValueError(
            f"expected a period of at least {u.shape[1]}, the length of the signal, and more than {b.shape[-1]}, the "
            f"order, got {period}"
        )
    banks = (b, a, h0) if b.ndim == 3 else (b[None], a[None], h0[None])
    if not has_plan(period):
        return _separately(u, *banks, period, 0.0)
    return _filtered(u, *banks, period, 0.0)[0]


def damped_convolution(
    u: Float[Tensor, "B L D"],
    b: Float[Tensor, "*bank D n"],
    a: Float[Tensor, "*bank G n"],
    h0: Float[Tensor, "*bank D"],
) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "*bank D"]]:
    """Convolve each channel with the true response of h0 + B(z)/A(z), sampled on a circle outside the unit circle.

    Args:
        u: Input, as for :func:`rational_convolution`.
        b: True numerators.
        a: Denominators.
        h0: True feedthroughs.

    Returns:
        Output, and how many times as large as in L samples each response gets later on, without derivatives.
    """
    period, exponent = circle(u.shape[1], b.shape[-1], torch.float64)
    damping = torch.exp(-exponent * torch.arange(1, b.shape[-1] + 1, dtype=b.dtype, device=b.device))
    banks = (b, a, h0) if b.ndim == 3 else (b[None], a[None], h0[None])
    y, growth = _filtered(u, banks[0] * damping, banks[1] * damping, banks[2], period, exponent)
    return y, growth.view_as(h0)


def _filtered(*arguments: Any) -> tuple[Tensor, Tensor]:
    return _run(*arguments) if is_plain(*arguments[:4]) else apply(_Rational, *arguments)


def _separately(u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float) -> Tensor:
    """The same from operators that are differentiable any number of times."""
    if has_plan(period):
        kernels = [aliased_response(*coefficients, period) for coefficients in zip(b, a, h0, strict=True)]
    else:
        kernels = list(aliased_by_torch(b, a, h0, period))
    return convolution(u, *(kernel * _growing(period, exponent) for kernel in kernels) if exponent else kernels)


@lru_cache(maxsize=16)
def _growing(period: int, exponent: float) -> Tensor:
    """What undoes the damping of a kernel's samples."""
    return torch.exp(exponent * torch.arange(period, dtype=torch.float64))


def _run(u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float) -> tuple[Tensor, Tensor]:
    from transferfn.kernels import _rational as loops

    y = torch.empty_like(u)
    peaks = h0.new_zeros(len(b), 2 if exponent else 0, h0.shape[1])
    if u.numel():
        arrays = (*flat(u), numpy(b), numpy(a), numpy(h0), numpy(_growing(period, exponent)), peaks.numpy(), *flat(y))
        _over_tiles(loops.convolve, arrays, u, _parts(u), period, buffers=1 + len(b), transforms=2)
    if not exponent:
        return y, torch.zeros_like(h0)
    growth = peaks[:, 1] / peaks[:, 0].clamp_min(torch.finfo(h0.dtype).tiny)
    return y, growth.nan_to_num(nan=torch.inf)


@torch.library.custom_op("transferfn::rational", mutates_args=())
@no_type_check
def _rational(u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float) -> tuple[Tensor, Tensor]:
    return _run(u, b, a, h0, period, exponent)


@_rational.register_fake
def _(u, b, a, h0, period, exponent):
    return torch.empty_like(u), h0.new_empty(h0.shape)


def _run_back(
    gy: Tensor, u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from transferfn.kernels import _rational as loops

    gu = torch.empty_like(u)
    parts = _parts(u)
    gb, ga, gh0 = (b.new_zeros(parts, *shape) for shape in (b.shape, b.shape, h0.shape))
    if u.numel():
        one_row = len(b) == 1 and _row_groups(u) <= parts
        given = (*(numpy(x) for x in (b, a, h0, _growing(period, exponent))), np.empty((len(b), 0, h0.shape[1])))
        arrays = (*flat(gy), *flat(u), *given, *flat(gu), *(x.numpy() for x in (gb, ga, gh0)))
        _over_tiles(loops.backward, arrays, u, parts, period, buffers=3 if one_row else 4, transforms=4)
    shared = b.shape[1] // max(a.shape[1], 1)
    return gu, gb.sum(0), ga.unflatten(2, (a.shape[1], shared)).sum((0, 3)), gh0.sum(0)


@torch.library.custom_op("transferfn::rational_backward", mutates_args=())
@no_type_check
def _backward(
    gy: Tensor, u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _run_back(gy, u, b, a, h0, period, exponent)


@_backward.register_fake
def _(gy, u, b, a, h0, period, exponent):
    return torch.empty_like(u), b.new_empty(b.shape), a.new_empty(a.shape), h0.new_empty(h0.shape)


class _Rational(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u, b, a, h0, period, exponent):
        return (_run if is_eager(u, b, a, h0) else _rational)(u, b, a, h0, period, exponent)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *saved, ctx.period, ctx.exponent = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx, gy, _):
        arguments: Any = (gy, *ctx.saved_tensors, ctx.period, ctx.exponent)
        gradients = _run_back(*arguments) if is_plain(*arguments[:5]) else apply(_Backward, *arguments)
        return *gradients, None, None


class _Backward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gy, u, b, a, h0, period, exponent):
        return (_run_back if is_eager(gy, u, b, a, h0) else _backward)(gy, u, b, a, h0, period, exponent)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *saved, ctx.period, ctx.exponent = inputs
        ctx.save_for_backward(*saved)

    @staticmethod
    def backward(ctx, *cotangents):
        # Higher derivatives are rare: the separate operators do.
        def gradients(gy, *arguments):
            def outputs(u, b, a, h0):
                return _separately(u, b, a, h0, ctx.period, ctx.exponent)

            return torch.func.vjp(outputs, *arguments)[1](gy)

        return *torch.func.vjp(gradients, *ctx.saved_tensors)[1](cotangents), None, None


@_rational.register_vmap
def _(info, in_dims, u, b, a, h0, period, exponent):
    size = info.batch_size
    u = into_channels(u, in_dims[0], size, channel_axis=2)
    b, a, h0 = (into_channels(x, d, size, channel_axis=1) for x, d in zip((b, a, h0), in_dims[1:4], strict=True))
    y, growth = _rational(u, b, a, h0, period, exponent)
    return (y.unflatten(2, (size, -1)), growth.unflatten(1, (size, -1))), (2, 1)


@_backward.register_vmap
def _(info, in_dims, gy, u, b, a, h0, period, exponent):
    size = info.batch_size
    gy, u = (into_channels(x, d, size, channel_axis=2) for x, d in zip((gy, u), in_dims[:2], strict=True))
    b, a, h0 = (into_channels(x, d, size, channel_axis=1) for x, d in zip((b, a, h0), in_dims[2:5], strict=True))
    gu, *others = _backward(gy, u, b, a, h0, period, exponent)
    return (gu.unflatten(2, (size, -1)), *(x.unflatten(1, (size, -1)) for x in others)), (2, 1, 1, 1)


def _row_groups(u: Tensor) -> int:
    return -(-u.shape[0] // max(lanes(u) // u.shape[2], 1))


def _parts(u: Tensor) -> int:
    """How many jobs share a tile. Each of them samples its kernels, so they get several rows where there are many.

    It depends on shapes alone, so that sums do not depend on the number of threads.
    """
    if not u.numel():
        return 1
    groups, tiles = _row_groups(u), u.shape[2] / lanes(u)
    return max(min(groups, max(int(2 / tiles), min(groups // 4, int(8 / tiles)))), 1)


def _over_tiles(
    loop: Any, arrays: tuple[Any, ...], u: Tensor, parts: int, period: int, *, buffers: int, transforms: int
) -> None:
    batch, length, channels = u.shape
    width, points = lanes(u), fast_points(length)
    sizes = (batch, length, channels, parts, buffers)
    table, signal_table = plan(period, torch.float64), plan(points, u.dtype)
    plans = table, opposite_rows(period, torch.float64), signal_table
    # Rows of registers have as many bytes in either type.
    size = max(elements(each, width * u.element_size() // 8) for each in (table, signal_table))

    def work(first: int, last: int) -> None:
        loop(*arrays, sizes, plans, workspace(buffers * size, torch.float64), first, last)

    flops = 5 * channels * points.bit_length() * (transforms * batch * points + 6 * parts * period)
    threads.split(work, -(-channels // width) * parts, cost=flops)
