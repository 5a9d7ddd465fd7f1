"""Filtering block by block as a differentiable operator on CPU tensors.

A filter (b_0 + b_1 z^-1 + ...)/A(z) is given by its coefficients and by the first N samples g and h of the responses
of 1/A and of itself. Blocks of N samples are convolved with these, and the last n samples of u/A are handed over from
one to the next. Derivatives treat coefficients and responses as independent of each other: whoever computed the
responses carries on.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transferfn.kernels.arrays import elements, flat, into_channels, lanes, numpy, plan, share
from transferfn.kernels.convolution import convolution, fast_points, parts_of
from transferfn.kernels.tracing import apply, is_eager, is_plain

Signal = Float[Tensor, "B L D"]
State = Float[Tensor, "B D n"]


def block_filter(
    u: Signal,
    h: Float[Tensor, "D N"],
    g: Float[Tensor, "D N"],
    b: Float[Tensor, "D n"],
    a: Float[Tensor, "D n"],
    state: State,
) -> tuple[Signal, State]:
    """Filter each channel of a signal, N samples at a time.

    Args:
        u: Input, (B, L, D), float32 or float64, of any layout.
        h: The first N samples of the filter's response, (D, N), float64; N is a product of 2, 3, 5 and 7.
        g: The first N samples of the response of 1/A, (D, N), float64.
        b: Numerator b_1..b_n over A, (D, n), float64, n from 1 to N; b_0 is the first sample of ``h``.
        a: Denominator a_1..a_n, (D, n), float64.
        state: w_(-1), ..., w_(-n), the samples of u/A before the signal, newest first, (B, D, n), in the type of ``u``.

    Returns:
        Output, in the type and layout of ``u``, and the state after the last sample.
    """
    if is_plain(u, h, g, b, a, state):
        return _run(u, h, g, b, a, state, keep=False)[:2]
    y, after, _ = apply(_Blocks, u, h, g, b, a, state)
    return y, after


def block_filter_by_convolution(
    u: Signal, h: Tensor, g: Tensor, b: Tensor, a: Tensor, state: State
) -> tuple[Signal, State]:
    """The same from convolutions, which are differentiable any number of times.

    Args:
        u: As for :func:`block_filter`.
        h: As there.
        g: As there.
        b: As there.
        a: As there.
        state: As there.
    """
    order, size = a.shape[1], h.shape[1]
    past, found = state.flip(2).mT, []
    for block in u.split(size, 1):
        count = min(order, block.shape[1])
        before = pad(past, (0, 0, 0, count))
        c, d = (convolution(before, pad(k, (1, 0)))[:, order:] for k in (-a, b))
        driven = block + pad(c, (0, 0, 0, block.shape[1] - count))
        found.append(convolution(driven, h) + pad(d, (0, 0, 0, block.shape[1] - count)))
        past = torch.cat((past, convolution(driven, g)), 1)[:, -order:]
    return torch.cat(found, 1), past.mT.flip(2)


def _run(
    u: Tensor, h: Tensor, g: Tensor, b: Tensor, a: Tensor, state: Tensor, *, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from transferfn.kernels import _blocks as loops

    y, after, kept = _outputs(u, h, a, keep=keep)
    if u.numel():
        arrays = (
            *flat(u), *map(numpy, (h, g, b, a, h[:, :0])), numpy(state).reshape(-1), *flat(y),
            after.view(-1).numpy(), kept.numpy(),
        )  # fmt: skip
        _over_tiles(loops.filter_blocks, arrays, u, h, a, transforms=4)
    else:
        after.copy_(state)
    return y, after, kept


def _run_back(
    gy: Tensor, gafter: Tensor, u: Tensor, h: Tensor, g: Tensor, b: Tensor, a: Tensor, state: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    from transferfn.kernels import _blocks as loops

    parts = parts_of(u)
    gu, gstate = torch.empty_like(u), torch.empty_like(state, memory_format=torch.contiguous_format)
    of_kernels = [x.new_zeros(parts, *x.shape) for x in (h, g, b, a)]
    if u.numel():
        arrays = (
            *flat(gy), numpy(gafter).reshape(-1), *flat(u), *map(numpy, (h, g, b, a, h[:, :0], kept)), *flat(gu),
            *(x.numpy() for x in of_kernels), gstate.view(-1).numpy(),
        )  # fmt: skip
        _over_tiles(loops.backward, arrays, u, h, a, transforms=7)
    else:
        gstate.copy_(gafter)
    gh, gg, gb, ga = (x.sum(0) if parts > 1 else x[0].clone() for x in of_kernels)
    return gu, gh, gg, gb, ga, gstate


def _outputs(u: Tensor, h: Tensor, a: Tensor, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, channels = u.shape
    width = lanes(u)
    tiles = -(-channels // width) * -(-batch // max(width // max(channels, 1), 1))
    states = tiles * -(-length // h.shape[1]) if keep else 0
    return (
        torch.empty_like(u),
        u.new_empty(batch, channels, a.shape[1]),
        u.new_empty(states * a.shape[1] * width),
    )


def _over_tiles(loop: Any, arrays: tuple[Any, ...], u: Tensor, h: Tensor, a: Tensor, *, transforms: int) -> None:
    from transferfn.kernels._convolve import BLOCK

    batch, length, channels = u.shape
    order, size, width, parts = a.shape[1], h.shape[1], lanes(u), parts_of(u)
    sizes = (batch, length, channels, order, size, parts)
    plans = plan(size, u.dtype), plan(fast_points(order), u.dtype)
    room = transforms * sum(elements(each, width) for each in plans) + (3 * order + BLOCK) * width

    def work(first: int, last: int, memory: Any) -> None:
        loop(*arrays, sizes, *plans, memory, first, last)

    flops = 15 * batch * channels * length * size.bit_length()
    share(work, -(-channels // width) * parts, cost=flops, size=room, dtype=u.dtype)


@torch.library.custom_op("transferfn::blocks", mutates_args=())
@no_type_check
def _blocks(u: Tensor, h: Tensor, g: Tensor, b: Tensor, a: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _run(u, h, g, b, a, state, keep=True)


@_blocks.register_fake
def _(u, h, g, b, a, state):
    return _outputs(u, h, a, keep=True)


@torch.library.custom_op("transferfn::blocks_backward", mutates_args=())
@no_type_check
def _backward(
    gy: Tensor, gafter: Tensor, u: Tensor, h: Tensor, g: Tensor, b: Tensor, a: Tensor, state: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _run_back(gy, gafter, u, h, g, b, a, state, kept)


@_backward.register_fake
def _(gy, gafter, u, h, g, b, a, state, kept):
    return (torch.empty_like(u), *(x.new_empty(x.shape) for x in (h, g, b, a, state)))


class _Blocks(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(u, h, g, b, a, state):
        if is_eager(u, h, g, b, a, state):
            return _run(u, h, g, b, a, state, keep=True)
        return _blocks(u, h, g, b, a, state)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*inputs, output[2])

    @staticmethod
    def backward(ctx, gy, gafter, _):
        return apply(_Backward, gy, gafter, *ctx.saved_tensors)


class _Backward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gy, gafter, u, h, g, b, a, state, kept):
        run = _run_back if is_eager(gy, gafter, u, h, g, b, a, state) else _backward
        return run(gy, gafter, u, h, g, b, a, state, kept)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *cotangents):
        # Higher derivatives are rare: convolutions do.
        def gradients(gy, gafter, *given):
            return torch.func.vjp(block_filter_by_convolution, *given)[1]((gy, gafter))

        *given, _ = ctx.saved_tensors
        return *torch.func.vjp(gradients, *given)[1](cotangents), None


@_blocks.register_vmap
def _(info, in_dims, u, h, g, b, a, state):
    size = info.batch_size
    u, state = (
        into_channels(u, in_dims[0], size, channel_axis=2),
        into_channels(state, in_dims[5], size, channel_axis=1),
    )
    h, g, b, a = (into_channels(x, d, size, channel_axis=0) for x, d in zip((h, g, b, a), in_dims[1:5], strict=True))
    y, after, kept = _blocks(u, h, g, b, a, state)
    # The states that are kept belong to the merged channels, which the backward pass merges again.
    return (y.unflatten(2, (size, -1)), after.unflatten(1, (size, -1)), kept), (2, 1, None)


@_backward.register_vmap
def _(info, in_dims, gy, gafter, u, h, g, b, a, state, kept):
    size = info.batch_size
    given = zip((2, 1, 2, 0, 0, 0, 0, 1), (gy, gafter, u, h, g, b, a, state), in_dims[:8], strict=True)
    merged = [into_channels(x, d, size, channel_axis=axis) for axis, x, d in given]
    if all(d is None for d in in_dims[2:8]):  # only gradients are many: the forward pass kept states of single channels
        kept = _blocks(*merged[2:])[2]
    gu, *others = _backward(*merged, kept)
    gstate = others.pop().unflatten(1, (size, -1))
    return (gu.unflatten(2, (size, -1)), *(x.unflatten(0, (size, -1)) for x in others), gstate), (2, 0, 0, 0, 0, 1)
