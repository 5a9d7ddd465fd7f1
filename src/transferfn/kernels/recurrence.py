"""The companion recurrence as a differentiable operator on CPU tensors.

    w_t = u_t - (a_1 w_(t-1) + ... + a_n w_(t-n)),        y_t = h0 u_t + b_1 w_(t-1) + ... + b_m w_(t-m)

Three raw operators (the recurrence, its adjoint, the products of two signals at each lag) are closed under
differentiation: the backward pass of each is made of the other two, so that derivatives of any order are right. A
fourth does the common case, all first derivatives without resets, in one run over the signals.
"""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from transferfn.kernels import threads
from transferfn.kernels.arrays import flat, into_channels, lanes, numpy

Signal = Float[Tensor, "B L D"]
Extended = Float[Tensor, "B T D"]  # a signal with the samples before it, T = past + L
Coefficients = Float[Tensor, "D _"]
Cuts = Bool[Tensor, "B L"] | None


def recurrence(
    u: Signal, b: Coefficients, a: Coefficients, h0: Float[Tensor, " D"], past: Float[Tensor, "B N D"], resets: Cuts
) -> tuple[Float[Tensor, "B _ D"], Extended]:
    """Run the companion recurrence over a signal.

    Args:
        u: Input, (B, L, D), float32 or float64.
        b: Numerator b_1..b_m, (D, m); m = 0 skips y.
        a: Denominator a_1..a_n, (D, n).
        h0: Feedthrough, (D).
        past: The last N >= max(m, n) samples of w before the signal, oldest first, (B, N, D).
        resets: True where earlier samples are forgotten, (B, L), or None.

    Returns:
        y, (B, L, D), which is (B, 0, D) if m = 0, and w with its past in front, (B, N + L, D).
    """
    return _Recurrence.apply(u, b, a, h0, past, resets)


@torch.library.custom_op("transferfn::recurrence", mutates_args=())
@no_type_check
def _recurrence(
    u: Tensor, b: Tensor, a: Tensor, h0: Tensor, past: Tensor, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    from transferfn.kernels import _scan as loops

    y, w = _outputs(u, b, past)
    w[:, : past.shape[1]] = past
    arrays = (*flat(u), _lag_major(b), _lag_major(a), numpy(h0)[None], _cuts(resets))
    _over_tiles(loops.scan, (*arrays, past.shape[1], *flat(y), *flat(w)), u, b.shape[1] + a.shape[1])
    return y, w


@_recurrence.register_fake
def _(u, b, a, h0, past, resets):
    return _outputs(u, b, past)


def _outputs(u: Tensor, b: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, channels = u.shape
    y = torch.empty_like(u) if b.shape[1] else u.new_empty(batch, 0, channels)
    return y, u.new_empty(batch, past.shape[1] + length, channels)


@torch.library.custom_op("transferfn::recurrence_adjoint", mutates_args=())
@no_type_check
def _adjoint(gy: Tensor, gw: Tensor, b: Tensor, a: Tensor, resets: Tensor | None) -> Tensor:
    from transferfn.kernels import _scan as loops

    lam = gw.new_empty(gw.shape)
    past = gw.shape[1] - gy.shape[1]
    arrays = (*flat(gy), *flat(gw), _lag_major(b), _lag_major(a), _cuts(resets), past, *flat(lam))
    _over_tiles(loops.adjoint, arrays, gy, b.shape[1] + a.shape[1])
    return lam


@_adjoint.register_fake
def _(gy, gw, b, a, resets):
    return gw.new_empty(gw.shape)


@torch.library.custom_op("transferfn::lag_products", mutates_args=())
@no_type_check
def _lag_products(x: Tensor, w: Tensor, resets: Tensor | None, lags: int) -> Tensor:
    from transferfn.kernels import _scan as loops

    products = x.new_zeros(_row_groups(x), lags, x.shape[2])
    past = w.shape[1] - x.shape[1]
    _over_tiles(loops.lag_products, (*flat(x), *flat(w), _cuts(resets), past, products.numpy()), x, lags)
    return _summed(products)


@_lag_products.register_fake
def _(x, w, resets, lags):
    return x.new_empty(x.shape[2], lags)


@torch.library.custom_op("transferfn::recurrence_gradients", mutates_args=())
@no_type_check
def _gradients(
    gy: Tensor, gw: Tensor | None, u: Tensor, w: Tensor, b: Tensor, a: Tensor, h0: Tensor, through_past: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    from transferfn.kernels import _scan as loops

    past = w.shape[1] - u.shape[1]
    gu, gpast = torch.empty_like(u), u.new_zeros(u.shape[0], past if through_past else 0, u.shape[2])
    groups = _row_groups(u)
    gb, ga, gh = (u.new_zeros(groups, lags, u.shape[2]) for lags in (b.shape[1], a.shape[1], 1))
    signals = (*flat(gy), *flat(u.new_empty(0, 0, 0) if gw is None else gw), *flat(u), *flat(w))
    arrays = (_lag_major(b), _lag_major(a), numpy(h0)[None], past)
    outputs = (*flat(gu), *flat(gpast), gb.numpy(), ga.numpy(), gh.numpy())
    _over_tiles(loops.gradients, (*signals, *arrays, *outputs), u, 2 * (b.shape[1] + a.shape[1]))
    return gu, _summed(gb), _summed(ga), _summed(gh).flatten(), gpast


@_gradients.register_fake
def _(gy, gw, u, w, b, a, h0, through_past):
    past = w.shape[1] - u.shape[1] if through_past else 0
    gpast = u.new_empty(u.shape[0], past, u.shape[2])
    return torch.empty_like(u), b.new_empty(b.shape), a.new_empty(a.shape), torch.empty_like(h0), gpast


class _Recurrence(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u, b, a, h0, past, resets):
        return _recurrence(u, b, a, h0, past, resets)

    @staticmethod
    def setup_context(ctx, inputs, output):
        u, b, a, h0, _, resets = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, b, a, h0, resets, output[1])

    @staticmethod
    def backward(ctx, gy, gw):
        u, b, a, h0, resets, w = ctx.saved_tensors
        if gy is None or b.shape[1] == 0:
            gy = torch.zeros_like(u)
        need_u, need_b, need_a, need_h0, need_past, _ = ctx.needs_input_grad
        if resets is None and b.shape[1]:
            gu, gb, ga, gh0, gpast = _Gradients.apply(gy, gw, u, w, b, a, h0, need_past)
            return gu, gb, ga, gh0, gpast if need_past else None, None
        lam = _Adjoint.apply(gy, torch.zeros_like(w) if gw is None else gw, b, a, resets)
        start = w.shape[1] - u.shape[1]
        return (
            lam[:, start:] + h0 * gy if need_u else None,
            _LagProducts.apply(gy, w, resets, b.shape[1]) if need_b else None,
            -_LagProducts.apply(lam[:, start:], w, resets, a.shape[1]) if need_a else None,
            (gy * u).sum((0, 1)) if need_h0 else None,
            lam[:, :start] if need_past else None,
            None,
        )


class _Gradients(torch.autograd.Function):
    """All gradients of the recurrence without resets: with lam = A(gy, gw), the adjoint, these.

    gu = lam + h0 gy,   gb = P(gy, w),   ga = -P(lam, w),   gh0 = <gy, u>,   gpast = lam before the signal.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(gy, gw, u, w, b, a, h0, through_past):
        return _gradients(gy, gw, u, w, b, a, h0, through_past)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.through_past = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, cu, cb, ca, ch, cp):
        gy, gw, u, w, b, a, h0 = ctx.saved_tensors
        start = w.shape[1] - u.shape[1]
        lam = _Adjoint.apply(gy, torch.zeros_like(w) if gw is None else gw, b, a, None)[:, start:]
        to_lam = cu - _weighted_past(w, ca, start)
        to_past = cp if ctx.through_past else torch.zeros_like(w[:, :start])
        y, x = _Recurrence.apply(to_lam, b, a, torch.zeros_like(h0), to_past, None)
        no_lags = b[:, :0]
        return (
            y + h0 * cu + ch * u + _weighted_past(w, cb, start),
            None if gw is None else x,
            ch * gy,
            _Adjoint.apply(gy, torch.zeros_like(w), cb, no_lags, None)
            - _Adjoint.apply(lam, torch.zeros_like(w), ca, no_lags, None),
            _LagProducts.apply(gy, x, None, b.shape[1]),
            -_LagProducts.apply(lam, x, None, a.shape[1]),
            (gy * cu).sum((0, 1)),
            None,
        )


def _weighted_past(w: Tensor, c: Tensor, start: int) -> Tensor:
    """sum_i c_i w_(t-i) at each sample of the signal."""
    return _Recurrence.apply(w[:, start:], c, c[:, :0], torch.zeros_like(c[:, 0]), w[:, :start], None)[0]


class _Adjoint(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gy, gw, b, a, resets):
        return _adjoint(gy, gw, b, a, resets)

    @staticmethod
    def setup_context(ctx, inputs, output):
        gy, _, b, a, resets = inputs
        ctx.save_for_backward(gy, b, a, resets, output)

    @staticmethod
    def backward(ctx, c):
        gy, b, a, resets, lam = ctx.saved_tensors
        start = lam.shape[1] - gy.shape[1]
        y, w = _Recurrence.apply(c[:, start:], b, a, gy.new_zeros(gy.shape[2]), c[:, :start], resets)
        _, _, need_b, need_a, _ = ctx.needs_input_grad
        return (
            y if b.shape[1] else torch.zeros_like(gy),
            w,
            _LagProducts.apply(gy, w, resets, b.shape[1]) if need_b else None,
            -_LagProducts.apply(lam[:, start:], w, resets, a.shape[1]) if need_a else None,
            None,
        )


class _LagProducts(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, w, resets, lags):
        return _lag_products(x, w, resets, lags)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, w, resets, _ = inputs
        ctx.save_for_backward(x, w, resets)

    @staticmethod
    def backward(ctx, g):
        x, w, resets = ctx.saved_tensors
        start = w.shape[1] - x.shape[1]
        if g.shape[1] == 0:
            return torch.zeros_like(x), torch.zeros_like(w), None, None
        none = g[:, :0]
        gx, _ = _Recurrence.apply(w[:, start:], g, none, g.new_zeros(g.shape[0]), w[:, :start], resets)
        return gx, _Adjoint.apply(x, torch.zeros_like(w), g, none, resets), None, None


def _one_by_one(operator, info, in_dims, args):
    """Batched resets cut each element elsewhere, so nothing is shared: one call an element."""
    results = [
        operator(*(x if d is None else x.select(d, k) for x, d in zip(args, in_dims, strict=True)))
        for k in range(info.batch_size)
    ]
    if isinstance(results[0], tuple):
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])
    return torch.stack(results), 0


@_recurrence.register_vmap
def _(info, in_dims, u, b, a, h0, past, resets):
    if in_dims[5] is not None:
        return _one_by_one(_recurrence, info, in_dims, (u, b, a, h0, past, resets))
    size = info.batch_size
    u, past = (into_channels(x, d, size, channel_axis=2) for x, d in ((u, in_dims[0]), (past, in_dims[4])))
    b, a, h0 = (into_channels(x, d, size, channel_axis=0) for x, d in zip((b, a, h0), in_dims[1:4], strict=True))
    y, w = _recurrence(u, b, a, h0, past, resets)
    return (y.unflatten(2, (size, -1)), w.unflatten(2, (size, -1))), (2, 2)


@_adjoint.register_vmap
def _(info, in_dims, gy, gw, b, a, resets):
    if in_dims[4] is not None:
        return _one_by_one(_adjoint, info, in_dims, (gy, gw, b, a, resets))
    size = info.batch_size
    gy, gw = (into_channels(x, d, size, channel_axis=2) for x, d in ((gy, in_dims[0]), (gw, in_dims[1])))
    b, a = (into_channels(x, d, size, channel_axis=0) for x, d in ((b, in_dims[2]), (a, in_dims[3])))
    return _adjoint(gy, gw, b, a, resets).unflatten(2, (size, -1)), 2


@_lag_products.register_vmap
def _(info, in_dims, x, w, resets, lags):
    if in_dims[2] is not None:
        return _one_by_one(_lag_products, info, in_dims, (x, w, resets, lags))
    size = info.batch_size
    x, w = (into_channels(v, d, size, channel_axis=2) for v, d in ((x, in_dims[0]), (w, in_dims[1])))
    return _lag_products(x, w, resets, lags).unflatten(0, (size, -1)), 0


@_gradients.register_vmap
def _(info, in_dims, gy, gw, u, w, b, a, h0, through_past):
    size = info.batch_size
    if gw is not None:
        gw = into_channels(gw, in_dims[1], size, channel_axis=2)
    gy, u, w = (
        into_channels(x, d, size, channel_axis=2) for x, d in ((gy, in_dims[0]), (u, in_dims[2]), (w, in_dims[3]))
    )
    b, a, h0 = (into_channels(x, d, size, channel_axis=0) for x, d in zip((b, a, h0), in_dims[4:7], strict=True))
    gu, gb, ga, gh0, gpast = _gradients(gy, gw, u, w, b, a, h0, through_past)
    coefficients = (x.unflatten(0, (size, -1)) for x in (gb, ga, gh0))
    return (gu.unflatten(2, (size, -1)), *coefficients, gpast.unflatten(2, (size, -1))), (2, 0, 0, 0, 2)


def _lag_major(c: Tensor):
    return c.detach().mT.contiguous().numpy()


def _cuts(resets: Tensor | None):
    return numpy(torch.empty(0, 0, dtype=torch.bool) if resets is None else resets)


def _row_groups(u: Tensor) -> int:
    """How many groups of rows lie side by side in the lanes of a register."""
    batch, _, channels = u.shape
    return -(-batch // max(lanes(u) // max(channels, 1), 1))


def _summed(products: Tensor) -> Tensor:
    """From (groups, lags, D) to the coefficients' (D, lags)."""
    return products.sum(0).mT.contiguous()


def _over_tiles(loop, arrays, u: Tensor, lags: int) -> None:
    batch, length, channels = u.shape
    if not batch or not channels:
        return
    width = lanes(u)
    sizes = (batch, length, channels, width)
    jobs = _row_groups(u) * -(-channels // width)
    threads.split(lambda i, j: loop(*arrays, sizes, i, j), jobs, cost=batch * length * channels * (lags + 1))
