"""Filtering with sampled rational transfer functions as one differentiable operator on CPU tensors.

It does what ``convolution(u, aliased_response(b, a, h0, period))`` does without ever writing the kernels down, which in
float64 take twice the memory of one row of the signal, and samples them anew for the backward pass.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.aliased import aliased_by_torch, aliased_response, circle, opposite_rows
from transferfn.kernels.arrays import elements, has_plan, in_memory, into_channels, lanes, numpy_type, plan, scratch
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
        b: Numerators b_1..b_n, (D, n) or (K, D, n), float32 or float64. The first of K = 2 banks is for the present and
            the past, the second for the future, the next sample first.
        a: Denominators a_1..a_n, (G, n) or (K, G, n); channel d uses row d * G // D.
        h0: Feedthroughs, (D) or (K, D).
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
    banks = (b, a, h0) if b.ndim == 3 else (b[None], a[None], h0[None])
    y, growth = _filtered(u, *banks, period, exponent)
    return y, growth.view_as(h0)


def _filtered(u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float) -> tuple[Tensor, Tensor]:
    if not b.dtype == a.dtype == h0.dtype:
        b, a, h0 = (x.to(torch.float64) for x in (b, a, h0))
    if is_plain(u, b, a, h0):
        return _run(u, b, a, h0, period, exponent)
    return apply(_Rational, u, b, a, h0, period, exponent)


def _separately(u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float) -> Tensor:
    """The same from operators that are differentiable any number of times."""
    b, a, h0 = (x.to(torch.float64) for x in (b, a, h0))
    if exponent:
        damping = _powers(b.shape[-1] + 1, -exponent)[1:]
        b, a = b * damping, a * damping
    if has_plan(period):
        kernels = [aliased_response(*coefficients, period) for coefficients in zip(b, a, h0, strict=True)]
    else:
        kernels = list(aliased_by_torch(b, a, h0, period))
    return convolution(u, *(kernel * _powers(period, exponent) for kernel in kernels) if exponent else kernels)


@lru_cache(maxsize=16)
def _powers(count: int, exponent: float) -> Tensor:
    """exp(exponent t), by which samples are damped, or grow again."""
    return torch.exp(exponent * torch.arange(count, dtype=torch.float64, device="cpu"))


def _run(
    u: Tensor, b: Tensor, a: Tensor, h0: Tensor, period: int, exponent: float, *, training: bool = False
) -> tuple[Tensor, Tensor]:
    """Filter a signal; in training in the work space of the backward pass, which is larger, so that it can stay."""
    u = in_memory(u)
    y = torch.empty_like(u)
    peaks = torch.zeros(*h0.shape, 2 if exponent else 0, dtype=torch.float64, device=u.device)
    if u.numel():
        signals = u.data_ptr(), *u.stride(), y.data_ptr(), *y.stride()
        values = *signals, peaks.data_ptr() if exponent else 0
        room = _buffers_back(u, b) if training else 1 + len(b)
        _launch("convolve", u, b, a, h0, _parts(u), period, exponent, room, 2, values)
    if not exponent:
        return y, torch.zeros_like(h0)
    growth = peaks[..., 1] / peaks[..., 0].clamp_min(torch.finfo(torch.float64).tiny)
    return y, growth.nan_to_num(nan=torch.inf).to(h0.dtype)


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
    gy, u = in_memory(gy), in_memory(u)
    gu = torch.empty_like(u)
    parts = _parts(u)
    make = b.new_empty if u.numel() else b.new_zeros
    gb, ga = (make(parts, *b.shape) for _ in "ba")
    gh0 = b.new_zeros(parts, *h0.shape)  # a bank ahead of one sample has no taps
    if u.numel():
        signals = (part for x in (gy, u, gu) for part in (x.data_ptr(), *x.stride()))
        values = *signals, gb.data_ptr(), ga.data_ptr(), gh0.data_ptr()
        _launch("backward", u, b, a, h0, parts, period, exponent, _buffers_back(u, b), 4, values)
    if a.shape[1] != b.shape[1]:
        ga = ga.unflatten(2, (a.shape[1], -1)).sum(3)
    gb, ga, gh0 = (x[0] if parts == 1 else x.sum(0) for x in (gb, ga, gh0))
    return gu, gb, ga, gh0


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
        if is_eager(u, b, a, h0):
            return _run(u, b, a, h0, period, exponent, training=True)
        return _rational(u, b, a, h0, period, exponent)

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


def _buffers_back(u: Tensor, b: Tensor) -> int:
    """How many transforms the backward pass works in: one less where every job has one row."""
    return 3 if len(b) == 1 and _row_groups(u) <= _parts(u) else 4


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


def _launch(
    loop: str,
    u: Tensor,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    parts: int,
    period: int,
    exponent: float,
    buffers: int,
    transforms: int,
    values: tuple[int, ...],
) -> None:
    """Run a loop over tiles of channels and parts of the batch."""
    batch, length, channels = u.shape
    width, points = lanes(u), fast_points(length)
    entries, held = _plans(period, points, u.dtype)
    flops = 5 * channels * points.bit_length() * (transforms * batch * points + 6 * parts * period)
    jobs = -(-channels // width) * parts
    count = threads.team(jobs, cost=flops)
    # Rows of registers have as many bytes in either type.
    size = max(elements(each, width * u.element_size() // 8) for each in held[:2])
    work, stride = scratch(buffers * size + _small(), count, torch.float64)
    coefficients = [in_memory(x.contiguous()) for x in (b, a, h0)]
    damping, growing = (_powers(b.shape[2] + 1, -exponent)[1:], _powers(period, exponent)) if exponent else (None, None)
    given = (
        len(b), channels, a.shape[1], b.shape[2], *(x.data_ptr() for x in coefficients), b.dtype == torch.float64,
        *(0 if x is None else x.data_ptr() for x in (damping, growing)), work.data_ptr(), stride,
        size, batch, length, parts, buffers, *entries,
    )  # fmt: skip
    threads.launch(_address(loop, u.dtype), jobs, count, (*given, *values))


@lru_cache(maxsize=8)
def _plans(period: int, points: int, dtype: torch.dtype) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The plans of both transforms as the loops are told them, and the arrays that must live meanwhile."""
    table, signal_table, partners = (
        plan(period, torch.float64),
        plan(points, dtype),
        opposite_rows(period, torch.float64),
    )
    told = ((weights.ctypes.data, entries.ctypes.data, *layout) for weights, entries, layout in (table, signal_table))
    return (*next(told), partners.ctypes.data, *next(told)), (table, signal_table, partners)


def _small() -> int:
    from transferfn.kernels._rational import SMALL
    from transferfn.kernels._simd import BYTES

    return SMALL * BYTES // 8


@cache
def _address(loop: str, dtype: torch.dtype) -> int:
    from transferfn.kernels import _rational as loops

    made = loops.convolve_entry if loop == "convolve" else loops.backward_entry
    return made(numpy_type(dtype)).address
