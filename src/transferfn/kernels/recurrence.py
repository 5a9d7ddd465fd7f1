"""The companion recurrence as a differentiable operator on CPU tensors.

    w_t = u_t - (a_1 w_(t-1) + ... + a_n w_(t-n)),        y_t = h0 u_t + b_1 w_(t-1) + ... + b_n w_(t-n)

Two raw operators, the recurrence and all its gradients in one run over the signals, are closed under differentiation:
the derivatives of the second are made of both, so that derivatives of any order are right.
"""

from __future__ import annotations

from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import in_memory, into_channels, lanes, numpy_type, scratch
from transferfn.kernels.tracing import apply, is_eager, is_plain

Signal = Float[Tensor, "B L D"]
State = Float[Tensor, "B D n"]
Coefficients = Float[Tensor, "_ n"]
Cuts = Bool[Tensor, "B L"] | None
Ends = Int[Tensor, " B"] | None


def recurrence(
    u: Signal,
    b: Coefficients,
    a: Coefficients,
    h0: Float[Tensor, " D"],
    state: State | None = None,
    resets: Cuts = None,
    lengths: Ends = None,
    *,
    reverse: bool = False,
) -> tuple[Signal, State]:
    """Run the companion recurrence over a signal.

    Args:
        u: Input, (B, L, D), float32 or float64, of any layout.
        b: Numerator b_1..b_n, (D, n), of any floating type.
        a: Denominator a_1..a_n, (G, n), G a divisor of D.
        h0: Feedthrough, (D).
        state: w_(-1), ..., w_(-n), newest first, (B, D, n), in the type of ``u``; None means rest.
        resets: True where earlier samples are forgotten, (B, L), or None.
        lengths: How many samples of each row count, (B,), or None for all: y is zero behind them.
        reverse: Whether to run backwards in time, from each row's last sample to its first.

    Returns:
        y, (B, L, D), in the layout of ``u``, and the state after the last sample of the run, (B, D, n).
    """
    tensors = (u, b, a, h0) if state is None else (u, b, a, h0, state)
    if is_plain(*tensors):
        y, after, _ = _run(u, b, a, h0, state, resets, lengths, reverse, False)
    else:
        y, after, _ = apply(_Recurrence, u, b, a, h0, state, resets, lengths, reverse)
    return y, after


def _run(
    u: Tensor,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    state: Tensor | None,
    resets: Tensor | None,
    lengths: Tensor | None,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    u = in_memory(u)
    sizes, jobs = _plan(u, b, a, resets, lengths)
    y, after, kept = _outputs(u, b, keep, sizes)
    if jobs:
        held = _held(b, a, h0, u.dtype, state, resets, lengths)
        rows = _rows_of_work(sizes[5])[0]
        count = threads.team(jobs, cost=u.numel() * (2 * sizes[5] + 8))
        work, size = scratch(rows * sizes[8], count, u.dtype)
        values = (
            u.data_ptr(), *u.stride(), *map(_address, held),
            y.data_ptr(), *y.stride(), after.data_ptr(), kept.data_ptr(),
            work.data_ptr(), size, *sizes, reverse,
        )  # fmt: skip
        threads.launch(_scan(u.dtype), jobs, count, values)
    return y, after, kept


def _run_back(
    gy: Tensor,
    gafter: Tensor | None,
    u: Tensor,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    state: Tensor | None,
    resets: Tensor | None,
    lengths: Tensor | None,
    reverse: bool,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    gy, u = in_memory(gy), in_memory(u)
    sizes, jobs = _plan(u, b, a, resets, lengths)
    batch, _, channels, groups, order, lags, _, parts, width = sizes
    gu = torch.empty_like(u)
    gstate = u.new_empty(0 if state is None else batch, channels, order)
    double = {"dtype": torch.float64, "device": u.device}
    gb, ga = torch.empty(parts, channels, order, **double), torch.empty(parts, channels, order, **double)
    gh = torch.empty(parts, channels, **double)
    if jobs:
        held = _held(b, a, h0, u.dtype, state, resets, lengths)
        last = None if gafter is None else in_memory(gafter.to(u.dtype).contiguous())
        count = threads.team(jobs, cost=u.numel() * (7 * lags + 16))
        work, size = scratch(_rows_of_work(lags)[1] * width, count, u.dtype)
        totals, more = scratch((2 * lags + 1) * width, count, torch.float64, purpose="totals")
        values = (
            gy.data_ptr(), *gy.stride(), _address(last), u.data_ptr(), *u.stride(), *map(_address, held),
            kept.data_ptr(), gu.data_ptr(), *gu.stride(), gb.data_ptr(), ga.data_ptr(), gh.data_ptr(),
            gstate.data_ptr(), work.data_ptr(), size, totals.data_ptr(), more, *sizes, reverse,
        )  # fmt: skip
        threads.launch(_scan_back(u.dtype), jobs, count, values)
    else:
        gb, ga, gh = gb.zero_(), ga.zero_(), gh.zero_()
    of_groups = ga.view(parts, groups, channels // max(groups, 1), order).sum((0, 2))
    of_channels = (gb[0], gh[0]) if parts == 1 else (gb.sum(0), gh.sum(0))
    return gu, of_channels[0].to(b.dtype), of_groups.to(a.dtype), of_channels[1].to(h0.dtype), gstate


@no_type_check  # sizes may be symbols
def _plan(
    u: Tensor, b: Tensor, a: Tensor, resets: Tensor | None, lengths: Tensor | None
) -> tuple[tuple[int, ...], int]:
    """Sizes as the loops want them, and the number of jobs; they depend on shapes alone, and so do all sums."""
    batch, length, channels = u.shape
    order, width = a.shape[1], lanes(u)
    side = 1 if resets is not None or lengths is not None else max(width // max(channels, 1), 1)
    groups = -(-batch // side)
    parts = max(min(groups, 8 * width // max(channels, 1)), 1)
    lags = max(-(-order // 4) * 4, 4)
    sizes = batch, length, channels, a.shape[0], order, lags, side, parts, width
    return sizes, -(-channels // width) * parts if batch else 0


@no_type_check
def _outputs(u: Tensor, b: Tensor, keep: bool, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, channels, _, order, lags, side, _, width = sizes
    slots = -(-channels // width) * -(-batch // side) * ((length - 1) // _chunk()) if keep else 0
    return torch.empty_like(u), u.new_empty(batch, channels, order), u.new_empty(max(slots, 0) * lags * width)


def _held(
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    dtype: torch.dtype,
    state: Tensor | None,
    resets: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """What the loops read beside signals, in the types and layout that they expect."""
    return (
        *(in_memory(x.to(torch.float64).contiguous()) for x in (b, a, h0)),
        None if state is None else in_memory(state.to(dtype).contiguous()),
        None if resets is None else resets.contiguous(),
        None if lengths is None else lengths.to(torch.int64).contiguous(),
    )


def _given(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(x for x in tensors if x is not None)


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _chunk() -> int:
    return 128


@cache
def _scan(dtype: torch.dtype) -> int:
    from transferfn.kernels import _scan as loops

    return loops.scan_entry(numpy_type(dtype)).address


@cache
def _scan_back(dtype: torch.dtype) -> int:
    from transferfn.kernels import _scan as loops

    return loops.gradients_entry(numpy_type(dtype)).address


def _rows_of_work(lags: int) -> tuple[int, int]:
    from transferfn.kernels import _scan as loops

    return loops.rows_of_work(lags)


@torch.library.custom_op("transferfn::recurrence", mutates_args=())
@no_type_check
def _recurrence(
    u: Tensor,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    state: Tensor | None,
    resets: Tensor | None,
    lengths: Tensor | None,
    reverse: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _run(u, b, a, h0, state, resets, lengths, reverse, keep)


@_recurrence.register_fake
def _(u, b, a, h0, state, resets, lengths, reverse, keep):
    return _outputs(u, b, keep, _plan(u, b, a, resets, lengths)[0])


@torch.library.custom_op("transferfn::recurrence_gradients", mutates_args=())
@no_type_check
def _gradients(
    gy: Tensor,
    gafter: Tensor | None,
    u: Tensor,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    state: Tensor | None,
    resets: Tensor | None,
    lengths: Tensor | None,
    reverse: bool,
    kept: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _run_back(gy, gafter, u, b, a, h0, state, resets, lengths, reverse, kept)


@_gradients.register_fake
def _(gy, gafter, u, b, a, h0, state, resets, lengths, reverse, kept):
    gstate = u.new_empty(0 if state is None else u.shape[0], u.shape[2], a.shape[1])
    return torch.empty_like(u), b.new_empty(b.shape), a.new_empty(a.shape), h0.new_empty(h0.shape), gstate


class _Recurrence(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u, b, a, h0, state, resets, lengths, reverse):
        run = _run if is_eager(u, b, a, h0, *_given(state)) else _recurrence
        return run(u, b, a, h0, state, resets, lengths, reverse, True)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[2])
        *tensors, ctx.reverse = inputs
        ctx.save_for_backward(*tensors, output[2])

    @staticmethod
    def backward(ctx, gy, gafter, _):
        *given, kept = ctx.saved_tensors
        u, state = given[0], given[4]
        if gy is None and gafter is None:
            return (None,) * 8
        gy = torch.zeros_like(u) if gy is None else gy
        run: Any = _run_back if is_plain(*_given(gy, gafter, *given[:5])) else _Gradients.apply
        *gradients, gstate = run(gy, gafter, *given, ctx.reverse, kept)
        return *gradients, None if state is None else gstate, None, None, None


class _Gradients(torch.autograd.Function):
    """All gradients, with w the input filtered by 1/A and lam the same of gy by B/A and of gafter, backwards in time.

    gu = lam + h0 gy,   gb_i = sum_t gy_t w_(t-i),   ga_i = -sum_t lam_t w_(t-i),   gh0 = <gy, u>,   gstate = lam_(-i).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gy, gafter, u, b, a, h0, state, resets, lengths, reverse, kept):
        run = _run_back if is_eager(gy, u, b, a, h0, *_given(gafter, state)) else _gradients
        return run(gy, gafter, u, b, a, h0, state, resets, lengths, reverse, kept)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.reverse, kept = inputs
        ctx.save_for_backward(*tensors, kept)

    @staticmethod
    def backward(ctx, cu, cb, ca, ch, cs):
        gy, gafter, u, b, a, h0, state, resets, lengths, kept = ctx.saved_tensors
        none, ends = torch.zeros_like(h0), (resets, lengths, ctx.reverse)

        def filtered(u, b, state):
            y, after, _ = _Recurrence.apply(u, b, a, none, state, *ends)
            return y, after

        cs = None if state is None else cs
        ca = ca.repeat_interleave(len(b) // len(a), 0)  # here it weighs the past of each channel
        if lengths is not None:  # what is behind a row's end may be anything
            valid = (torch.arange(u.shape[1], device=u.device) < lengths[:, None])[..., None]
            gy, u, cu = (torch.where(valid, x, 0) for x in (gy, u, cu))

        def backward(gy, gafter, u, b, state):
            """All gradients of a filter without feedthrough."""
            _, _, kept = _Recurrence.apply(u, b, a, none, state, *ends)
            return _Gradients.apply(gy, gafter, u, b, a, none, state, *ends, kept)

        lam = _Gradients.apply(gy, gafter, u, b, a, none, state, *ends, kept)[0]
        to_lam = cu - filtered(u, ca, state)[0]
        y, after = filtered(to_lam, b, cs)
        _, db, da, _, _ = backward(gy, gafter, to_lam, b, cs)
        through_gb, through_ga = backward(gy, None, u, cb, state), backward(lam, None, u, -ca, state)
        return (
            y + h0 * cu + ch * u + filtered(u, cb, state)[0],
            None if gafter is None else after,
            through_gb[0] + through_ga[0] + ch * gy,
            db,
            da + through_gb[2] + through_ga[2],
            (gy * cu).sum((0, 1)).to(h0.dtype),
            None if state is None else through_gb[4] + through_ga[4],
            None,
            None,
            None,
            None,
        )


def _one_by_one(operator, info, in_dims, args):
    """Batched resets or lengths cut each element elsewhere, so nothing is shared: one call an element."""
    results = [
        operator(*(x if d is None else x.select(d, k) for x, d in zip(args, in_dims, strict=True)))
        for k in range(info.batch_size)
    ]
    return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])


def _merged(axes, in_dims, args, size):
    """Arguments with a vmapped axis merged into their channels."""
    return (
        None if x is None else into_channels(x, d, size, channel_axis=axis)
        for axis, d, x in zip(axes, in_dims, args, strict=True)
    )


@_recurrence.register_vmap
def _(info, in_dims, *args):
    *arguments, resets, lengths, reverse, keep = args
    if in_dims[5] is not None or in_dims[6] is not None:
        return _one_by_one(_recurrence, info, in_dims, args)
    size = info.batch_size
    y, after, kept = _recurrence(
        *_merged((2, 0, 0, 0, 1), in_dims[:5], arguments, size), resets, lengths, reverse, keep
    )
    # The states that are kept belong to the merged channels, which the backward pass merges again.
    return (y.unflatten(2, (size, -1)), after.unflatten(1, (size, -1)), kept), (2, 1, None)


@_gradients.register_vmap
def _(info, in_dims, *args):
    *arguments, resets, lengths, reverse, kept = args
    if in_dims[7] is not None or in_dims[8] is not None:
        return _one_by_one(_gradients, info, in_dims, args)
    size = info.batch_size
    gu, gb, ga, gh, gstate = _gradients(
        *_merged((2, 1, 2, 0, 0, 0, 1), in_dims[:7], arguments, size), resets, lengths, reverse, kept
    )
    coefficients = (x.unflatten(0, (size, -1)) for x in (gb, ga, gh))
    return (gu.unflatten(2, (size, -1)), *coefficients, gstate.unflatten(1, (size, -1))), (2, 0, 0, 0, 1)
