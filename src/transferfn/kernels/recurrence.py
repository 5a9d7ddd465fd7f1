"""The companion recurrence as a differentiable operator on CPU tensors.

    w_t = u_t - (a_1 w_(t-1) + ... + a_n w_(t-n)),        y_t = h0 u_t + b_1 w_(t-1) + ... + b_m w_(t-m)

Three raw operators (the recurrence, its adjoint, the products of two signals at each lag) are closed under
differentiation: the backward pass of each is made of the other two, so that derivatives of any order are right.
"""

from __future__ import annotations

from typing import no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from transferfn.kernels import threads

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
    from transferfn.kernels import _loops as loops

    batch, length, channels = u.shape
    y = torch.empty(batch, length if b.shape[1] else 0, channels, dtype=u.dtype)
    w = torch.empty(batch, past.shape[1] + length, channels, dtype=u.dtype)
    w[:, : past.shape[1]] = past
    arrays = (_time_major(u), _lag_major(b), _lag_major(a), _numpy(h0), _cuts(resets))
    outputs = (past.shape[1], y.numpy(), w.numpy())
    _over_tiles(lambda i, j: loops.scan(*arrays, *outputs, i, j), u, b.shape[1] + a.shape[1])
    return y, w


@_recurrence.register_fake
def _(u, b, a, h0, past, resets):
    batch, length, channels = u.shape
    y = u.new_empty(batch, length if b.shape[1] else 0, channels)
    return y, u.new_empty(batch, past.shape[1] + length, channels)


@torch.library.custom_op("transferfn::recurrence_adjoint", mutates_args=())
@no_type_check
def _adjoint(gy: Tensor, gw: Tensor, b: Tensor, a: Tensor, resets: Tensor | None) -> Tensor:
    from transferfn.kernels import _loops as loops

    lam = torch.empty_like(gw, memory_format=torch.contiguous_format)
    past = gw.shape[1] - gy.shape[1]
    arrays = (_time_major(gy), _time_major(gw), _lag_major(b), _lag_major(a), _cuts(resets), past, lam.numpy())
    _over_tiles(lambda i, j: loops.adjoint(*arrays, i, j), gy, b.shape[1] + a.shape[1])
    return lam


@_adjoint.register_fake
def _(gy, gw, b, a, resets):
    return gw.new_empty(gw.shape)


@torch.library.custom_op("transferfn::lag_products", mutates_args=())
@no_type_check
def _lag_products(x: Tensor, w: Tensor, resets: Tensor | None, lags: int) -> Tensor:
    from transferfn.kernels import _loops as loops

    products = torch.empty(x.shape[0], lags, x.shape[2], dtype=x.dtype)
    past = w.shape[1] - x.shape[1]
    arrays = (_time_major(x), _time_major(w), _cuts(resets), past, products.numpy())
    _over_tiles(lambda i, j: loops.lag_products(*arrays, i, j), x, lags)
    return products.sum(0).mT.contiguous()


@_lag_products.register_fake
def _(x, w, resets, lags):
    return x.new_empty(x.shape[2], lags)


class _Recurrence(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u, b, a, h0, past, resets):
        return _recurrence(u, b, a, h0, past, resets)

    @staticmethod
    def setup_context(ctx, inputs, output):
        u, b, a, h0, _, resets = inputs
        ctx.save_for_backward(u, b, a, h0, resets, output[1])

    @staticmethod
    def backward(ctx, gy, gw):
        u, b, a, h0, resets, w = ctx.saved_tensors
        if b.shape[1] == 0:
            gy = torch.zeros_like(u)
        lam = _Adjoint.apply(gy, gw, b, a, resets)
        start = w.shape[1] - u.shape[1]
        need_u, need_b, need_a, need_h0, need_past, _ = ctx.needs_input_grad
        return (
            lam[:, start:] + h0 * gy if need_u else None,
            _LagProducts.apply(gy, w, resets, b.shape[1]) if need_b else None,
            -_LagProducts.apply(lam[:, start:], w, resets, a.shape[1]) if need_a else None,
            (gy * u).sum((0, 1)) if need_h0 else None,
            lam[:, :start] if need_past else None,
            None,
        )


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


def _fold_into_channels(x: Tensor, axis: int | None, size: int, *, channel_axis: int) -> Tensor:
    """Move a vmapped axis next to the channels and merge the two, (..., size * D, ...)."""
    x = x.expand(size, *x.shape) if axis is None else x.movedim(axis, 0)
    return x.movedim(0, channel_axis).flatten(channel_axis, channel_axis + 1)


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
    u, past = (_fold_into_channels(x, d, size, channel_axis=2) for x, d in ((u, in_dims[0]), (past, in_dims[4])))
    b, a, h0 = (_fold_into_channels(x, d, size, channel_axis=0) for x, d in zip((b, a, h0), in_dims[1:4], strict=True))
    y, w = _recurrence(u, b, a, h0, past, resets)
    return (y.unflatten(2, (size, -1)), w.unflatten(2, (size, -1))), (2, 2)


@_adjoint.register_vmap
def _(info, in_dims, gy, gw, b, a, resets):
    if in_dims[4] is not None:
        return _one_by_one(_adjoint, info, in_dims, (gy, gw, b, a, resets))
    size = info.batch_size
    gy, gw = (_fold_into_channels(x, d, size, channel_axis=2) for x, d in ((gy, in_dims[0]), (gw, in_dims[1])))
    b, a = (_fold_into_channels(x, d, size, channel_axis=0) for x, d in ((b, in_dims[2]), (a, in_dims[3])))
    return _adjoint(gy, gw, b, a, resets).unflatten(2, (size, -1)), 2


@_lag_products.register_vmap
def _(info, in_dims, x, w, resets, lags):
    if in_dims[2] is not None:
        return _one_by_one(_lag_products, info, in_dims, (x, w, resets, lags))
    size = info.batch_size
    x, w = (_fold_into_channels(v, d, size, channel_axis=2) for v, d in ((x, in_dims[0]), (w, in_dims[1])))
    return _lag_products(x, w, resets, lags).unflatten(0, (size, -1)), 0


def _numpy(x: Tensor):
    return x.detach().contiguous().numpy()


_time_major = _numpy


def _lag_major(c: Tensor):
    return c.detach().mT.contiguous().numpy()


def _cuts(resets: Tensor | None):
    return _numpy(torch.empty(0, 0, dtype=torch.bool) if resets is None else resets)


def _over_tiles(work, u: Tensor, lags: int) -> None:
    from transferfn.kernels._loops import TILE

    batch, length, channels = u.shape
    if batch and channels:
        threads.split(work, batch * -(-channels // TILE), cost=batch * length * channels * (lags + 1))
