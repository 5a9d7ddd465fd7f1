"""The last samples of the impulse response of 1/A(z), and the numerator that they turn into the true one.

The derivative of 1/A^p with respect to a_i is -p z^-i / A^(p+1): the same operator with another power.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transferfn.kernels import threads
from transferfn.kernels.arrays import in_memory, lanes, scratch
from transferfn.kernels.tracing import apply, is_eager, is_plain

Coefficients = Float[Tensor, "_ n"]


def last_responses(a: Coefficients, length: int, count: int) -> Float[Tensor, "G _"]:
    """Samples g_(length-count), ..., g_(length-1) of the impulse response g of 1/A(z), from its recurrence.

    Args:
        a: Denominators a_1..a_n, (G, n), float32 or float64, on the CPU.
        length: Number of samples of the response.
        count: How many of them, from the end; those before the first are zero.

    Returns:
        The samples, (G, count).

    Example:
        >>> last_responses(torch.tensor([[-0.5]]), 3, 4)
        tensor([[0.0000, 1.0000, 0.5000, 0.2500]])
    """
    return apply(_Tail, a, length, count, 1)


def untruncated(
    b_tilde: Coefficients, a: Coefficients, h0_tilde: Float[Tensor, " D"], horizon: int
) -> tuple[Coefficients, Float[Tensor, " D"], Float[Tensor, " G"]]:
    """Solve b (I - A^P) = b~ for the true numerator, n equations a denominator; h0 = h0~ + h_P.

    Args:
        b_tilde: Truncated numerators, (D, n), n at least 1, float32 or float64, on the CPU.
        a: Denominators, (G, n), G a divisor of D.
        h0_tilde: Truncated feedthroughs, (D).
        horizon: Period P in samples.

    Returns:
        b, (D, n), and h0, (D), in float64; and how much the response of 1/A(z) grows until P, (G), without derivatives.
    """
    if is_plain(b_tilde, a, h0_tilde):
        return _solve(b_tilde, a, h0_tilde, horizon)
    return apply(_Untruncated, b_tilde, a, h0_tilde, horizon)


def untruncated_by_torch(b_tilde: Tensor, a: Tensor, h0_tilde: Tensor, recursions: Tensor) -> tuple[Tensor, Tensor]:
    """Do what :func:`untruncated` does in PyTorch's operations, on any device.

    Args:
        b_tilde: Truncated numerators, (*bank, D, n).
        a: Denominators, (*bank, G, n).
        h0_tilde: Truncated feedthroughs, (*bank, D).
        recursions: g_(P-1), ..., g_(P-2n+1) of the response of 1/A(z), (*bank, G, 2n - 1).
    """
    n, channels, groups = b_tilde.shape[-1], b_tilde.shape[-2], a.shape[-2]
    across = pad(a, (0, n - 1)).unfold(-1, n, 1)
    minus_power = recursions.unfold(-1, n, 1) @ across
    # One rounding error is added to the identity: a pole on a P-th root of unity, or growth beside which I is rounded
    # away, must give a finite numerator and not a singular matrix.
    one = 1 + torch.finfo(a.dtype).eps * minus_power.detach().abs().amax((-2, -1)).clamp_min(1)
    one_minus_power = one[..., None, None] * torch.eye(n, dtype=a.dtype, device=a.device) + minus_power
    rows = b_tilde.unflatten(-2, (groups, channels // groups))
    b = torch.linalg.solve(one_minus_power, rows, left=False)
    return b.flatten(-3, -2), h0_tilde + (b * recursions[..., None, :n]).sum(-1).flatten(-2)


def _padded(order: int) -> int:
    return max(-(-order // 4) * 4, 4)


def _window(lags: int) -> int:
    from transferfn.kernels._pieces import CHUNK

    return lags + CHUNK + 4


@cache
def _address(name: str) -> int:
    from transferfn.kernels import _response as loops

    made: dict[str, Callable] = {
        "tail": loops.tail_entry,
        "untruncate": loops.untruncate_entry,
        "gradients": loops.untruncate_gradients_entry,
    }
    return made[name]().address


@torch.library.custom_op("transferfn::tail", mutates_args=())
@no_type_check
def _tail(a: Tensor, length: int, count: int, power: int) -> Tensor:
    groups, order = a.shape
    wide = in_memory(a.to(torch.float64).contiguous())
    samples = wide.new_zeros(groups, count)
    if groups and count:
        width, lags = lanes(wide), _padded(order)
        jobs = -(-groups // width)
        count_threads = threads.team(jobs, cost=groups * length * (order + 1) * power)
        work, size = scratch(width * (count + lags + (power + 1) * _window(lags)), count_threads, torch.float64)
        sizes = groups, order, lags, length, count, power, width
        values = wide.data_ptr(), samples.data_ptr(), work.data_ptr(), size, *sizes
        threads.launch(_address("tail"), jobs, count_threads, values)
    return samples.to(a.dtype)


@_tail.register_fake
def _(a, length, count, power):
    return a.new_empty(a.shape[0], count)


@_tail.register_vmap
def _(info, in_dims, a, length, count, power):
    a = a.movedim(in_dims[0], 0)
    return _tail(a.flatten(0, 1), length, count, power).unflatten(0, a.shape[:2]), 0


class _Tail(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a, length, count, power):
        return _tail(a, length, count, power)

    @staticmethod
    def setup_context(ctx, inputs, output):
        a, *ctx.scalars = inputs
        ctx.save_for_backward(a)

    @staticmethod
    def backward(ctx, c):
        (a,), (length, count, power) = ctx.saved_tensors, ctx.scalars
        order = a.shape[1]
        # In the delayed samples, the one i before that of c_j is at order + j - i.
        delayed = _Tail.apply(a, length, count + order, power + 1)
        each_delay = delayed[:, : count + order - 1].unfold(1, count, 1).flip(1)
        return -power * (each_delay @ c[..., None])[..., 0], None, None, None


def _solve(b_tilde: Tensor, a: Tensor, h0_tilde: Tensor, horizon: int) -> tuple[Tensor, Tensor, Tensor]:
    given = [in_memory(x.to(torch.float64).contiguous()) for x in (b_tilde, a, h0_tilde)]
    found = torch.empty_like(given[0]), torch.empty_like(given[2]), given[1].new_empty(a.shape[0])
    _launch("untruncate", (*given, *found), a, b_tilde.shape[0], horizon)
    return found


def _solve_back(gb: Tensor, gh: Tensor, b: Tensor, a: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    given = [in_memory(x.to(torch.float64).contiguous()) for x in (gb, gh, b, a)]
    found = torch.empty_like(given[0]), torch.empty_like(given[3])
    _launch("gradients", (*given, *found), a, b.shape[0], horizon)
    return found


def _launch(name: str, tensors: tuple[Tensor, ...], a: Tensor, channels: int, horizon: int) -> None:
    groups, order = a.shape
    if not groups:
        return
    width, lags = lanes(tensors[0]), _padded(order)
    jobs = -(-groups // width)
    # Responses to the first and, in the backward pass, the second power; n^3 for the matrices.
    threads_wanted = threads.team(jobs, cost=groups * (4 * horizon * lags // width + order**3))
    square = order * (order + width) + width
    needed = 3 * square + 2 * (order + width) + 8 * order + width * (5 * order + lags + 3 * _window(lags))
    work, size = scratch(needed, threads_wanted, torch.float64)
    values = *(x.data_ptr() for x in tensors), work.data_ptr(), size, groups, channels, order, lags, horizon, width
    threads.launch(_address(name), jobs, threads_wanted, values)


@torch.library.custom_op("transferfn::untruncate", mutates_args=())
@no_type_check
def _untruncate(b_tilde: Tensor, a: Tensor, h0_tilde: Tensor, horizon: int) -> tuple[Tensor, Tensor, Tensor]:
    return _solve(b_tilde, a, h0_tilde, horizon)


@_untruncate.register_fake
def _(b_tilde, a, h0_tilde, horizon):
    double = torch.float64
    return (
        b_tilde.new_empty(b_tilde.shape, dtype=double),
        h0_tilde.new_empty(h0_tilde.shape, dtype=double),
        a.new_empty(a.shape[0], dtype=double),
    )


@torch.library.custom_op("transferfn::untruncate_gradients", mutates_args=())
@no_type_check
def _gradients(gb: Tensor, gh: Tensor, b: Tensor, a: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    return _solve_back(gb, gh, b, a, horizon)


@_gradients.register_fake
def _(gb, gh, b, a, horizon):
    return b.new_empty(b.shape, dtype=torch.float64), a.new_empty(a.shape, dtype=torch.float64)


class _Untruncated(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(b_tilde, a, h0_tilde, horizon):
        return (_solve if is_eager(b_tilde, a, h0_tilde) else _untruncate)(b_tilde, a, h0_tilde, horizon)

    @staticmethod
    def setup_context(ctx, inputs, output):
        b_tilde, a, h0_tilde, ctx.horizon = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.dtypes = b_tilde.dtype, a.dtype, h0_tilde.dtype
        ctx.save_for_backward(a, output[0])

    @staticmethod
    def backward(ctx, gb, gh, _):
        a, b = ctx.saved_tensors
        run = _solve_back if is_plain(gb, gh, b, a) else _Gradients.apply
        gb_tilde, ga = run(gb, gh, b, a, ctx.horizon)
        return gb_tilde.to(ctx.dtypes[0]), ga.to(ctx.dtypes[1]), gh.to(ctx.dtypes[2]), None


class _Gradients(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gb, gh, b, a, horizon):
        return (_solve_back if is_eager(gb, gh, b, a) else _gradients)(gb, gh, b, a, horizon)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.horizon = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, *cotangents):
        # Higher derivatives are rare: PyTorch's operations do. b is given, and b~ = b M with the M of a.
        def gradients(gb, gh, b, a):
            a = a.to(torch.float64)

            def solve(b_tilde, a):
                recursions = last_responses(a, ctx.horizon, 2 * a.shape[-1] - 1).flip(-1)
                return untruncated_by_torch(b_tilde, a, torch.zeros_like(gh), recursions)

            n, groups = a.shape[-1], a.shape[-2]
            recursions = last_responses(a, ctx.horizon, 2 * n - 1).flip(-1)
            m = torch.eye(n, dtype=a.dtype) + recursions.unfold(-1, n, 1) @ pad(a, (0, n - 1)).unfold(-1, n, 1)
            b_tilde = (b.unflatten(0, (groups, -1)) @ m).flatten(0, 1)
            return torch.func.vjp(solve, b_tilde, a)[1]((gb, gh))

        return *torch.func.vjp(gradients, *ctx.saved_tensors)[1](cotangents), None


@_untruncate.register_vmap
def _(info, in_dims, b_tilde, a, h0_tilde, horizon):
    tensors = _stacked(in_dims[:3], (b_tilde, a, h0_tilde), info.batch_size)
    found = _untruncate(*(x.flatten(0, 1) for x in tensors), horizon)
    return tuple(x.unflatten(0, (info.batch_size, -1)) for x in found), (0, 0, 0)


@_gradients.register_vmap
def _(info, in_dims, gb, gh, b, a, horizon):
    tensors = _stacked(in_dims[:4], (gb, gh, b, a), info.batch_size)
    found = _gradients(*(x.flatten(0, 1) for x in tensors), horizon)
    return tuple(x.unflatten(0, (info.batch_size, -1)) for x in found), (0, 0)


def _stacked(in_dims: tuple[int | None, ...], tensors: tuple[Tensor, ...], size: int) -> list[Tensor]:
    return [x.expand(size, *x.shape) if d is None else x.movedim(d, 0) for d, x in zip(in_dims, tensors, strict=True)]
