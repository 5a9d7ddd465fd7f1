"""Reflection coefficients: the lattice form of a denominator, and free parameters of it, as a differentiable operator.

The recursions are loops over the order. Their plain forms are differentiable in every way; :func:`lattice_denominator`
runs them, and their adjoint, as one operator each, which is faster and leaves torch.compile nothing to unroll.
"""

from __future__ import annotations

import math
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transferfn.kernels import lattice as kernels
from transferfn.kernels.tracing import apply, is_eager, is_plain

Rows = Float[Tensor, "*rows n"]
"""Denominators a_1..a_n, or the n numbers each stands for, along the last axis."""


def step_up(k: Rows) -> Rows:
    """Turn reflection coefficients into a denominator, which is stable if and only if all of them are within +-1.

    Args:
        k: Reflection coefficients k_1..k_n, (*rows, n).

    Returns:
        Denominator a_1..a_n, (*rows, n), with a_n = k_n.

    Source:
        Levinson's recursion; e.g. Oppenheim and Schafer, Discrete-Time Signal Processing, section 11.4.

    Example:
        >>> step_up(torch.tensor([[-0.5, 0.25]]))
        tensor([[-0.6250,  0.2500]])
    """
    a = torch.ones_like(k[..., :1])
    for k_m in k.split(1, -1):
        a = pad(a, (0, 1))
        a = torch.addcmul(a, k_m, a.flip(-1))
    return a[..., 1:]


def step_down(a: Rows) -> Rows:
    """Turn a denominator into reflection coefficients, the inverse of :func:`step_up`.

    The denominator is stable if and only if all coefficients are within +-1. If |k_m| is 1, those below are infinite
    or NaN; if it is near 1, they are as uncertain as rounding of a, divided by 1 - k_m^2, makes them.

    Args:
        a: Denominator a_1..a_n, (*rows, n).

    Returns:
        Reflection coefficients k_1..k_n, (*rows, n).

    Source:
        Levinson's recursion backwards, the test of Schur, Cohn and Jury.

    Example:
        >>> step_down(torch.tensor([[-0.625, 0.25]]))
        tensor([[-0.5000,  0.2500]])
    """
    highest_first = []
    for _ in range(a.shape[-1]):
        head, k = a[..., :-1], a[..., -1:]
        highest_first.append(k)
        a = (head - k * head.flip(-1)) / (1 - k * k)
    return torch.cat(highest_first[::-1], -1)


def reflection_coefficients(raw: Rows) -> Rows:
    """Map free parameters onto -1..1: k_m = tanh(g_m raw_m), with g_m the product of 1 - k_j^2 over j > m.

    Args:
        raw: Free parameters, (*rows, n).

    Returns:
        Reflection coefficients k_1..k_n, (*rows, n), kept off +-1, which tanh rounds to beyond 19 in float64 and 9
        in float32.

    Example:
        >>> reflection_coefficients(torch.tensor([[1.0, 0.0, 1.0]]))
        tensor([[0.3969, 0.0000, 0.7616]])
    """
    largest = _largest(raw)
    scale = torch.ones_like(raw[..., :1])
    highest_first = []
    for raw_m in reversed(raw.split(1, -1)):
        k = (scale * raw_m).tanh().clamp(-largest, largest)
        highest_first.append(k)
        scale = scale * (1 - k * k)
    return torch.cat(highest_first[::-1], -1)


def lattice_denominator(raw: Rows) -> Rows:
    """The denominator of free parameters: :func:`step_up` of :func:`reflection_coefficients`.

    It has backward derivatives of every order and raises in forward mode, which the two functions themselves have.

    Args:
        raw: Free parameters, (*rows, n).

    Returns:
        Denominator a_1..a_n, (*rows, n).
    """
    return _run(raw) if is_plain(raw) else apply(_Lattice, raw)


class _Lattice(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(raw):
        return (_run if is_eager(raw) else _lattice)(raw)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, ga):
        (raw,) = ctx.saved_tensors
        return _run_back(raw, ga) if is_plain(raw, ga) else _LatticeAdjoint.apply(raw, ga)


class _LatticeAdjoint(torch.autograd.Function):
    """The gradient; its own derivatives are those of the plain loops."""

    generate_vmap_rule = True

    @staticmethod
    def forward(raw, ga):
        return (_run_back if is_eager(raw, ga) else _lattice_adjoint)(raw, ga)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, c):
        return torch.func.vjp(_plain_adjoint, *ctx.saved_tensors)[1](c)


def _plain(raw: Tensor) -> Tensor:
    return step_up(reflection_coefficients(raw))


def _plain_adjoint(raw: Tensor, ga: Tensor) -> Tensor:
    return torch.func.vjp(_plain, raw)[1](ga)[0]


def _largest(x: Tensor) -> float:
    return 1 - torch.finfo(x.dtype).eps


# Inside the operators the order comes first, so that each stage is a contiguous block: (n, rows).


def _run(raw: Tensor) -> Tensor:
    if raw.device.type == "cpu":
        return _order_last(kernels.denominators(_order_first(raw), largest=_largest(raw)), raw)
    return _lattice_by_torch(raw)


@torch.library.custom_op("transferfn::lattice", mutates_args=())
@no_type_check
def _lattice(raw: Tensor) -> Tensor:
    return _run(raw)


def _lattice_by_torch(raw: Tensor) -> Tensor:
    k, _ = _squash(_order_first(raw))
    a = _one(k)
    for m in range(1, len(a)):
        _raise(a, k, m)
    return _order_last(a[1:], raw)


def _run_back(raw: Tensor, ga: Tensor) -> Tensor:
    if raw.device.type == "cpu":
        return _order_last(kernels.gradients(_order_first(raw), _order_first(ga), largest=_largest(raw)), raw)
    return _lattice_adjoint_by_torch(raw, ga)


@torch.library.custom_op("transferfn::lattice_adjoint", mutates_args=())
@no_type_check
def _lattice_adjoint(raw: Tensor, ga: Tensor) -> Tensor:
    return _run_back(raw, ga)


def _lattice_adjoint_by_torch(raw: Tensor, ga: Tensor) -> Tensor:
    x = _order_first(raw)
    k, scale = _squash(x)
    n = len(k)
    # The stages are needed in reverse. Stepping down again would divide by 1 - k^2; keeping all takes n^2 / 2 numbers a
    # row. So every sqrt(n)-th is kept, and those between are made again from there.
    stride = math.isqrt(n) + 1
    a, kept = _one(k), []
    for m in range(1, n + 1):
        if (m - 1) % stride == 0:
            kept.append(a[:m].clone())
        _raise(a, k, m)
    gk = torch.zeros_like(k)
    g = torch.cat((torch.zeros_like(k[:1]), _order_first(ga)))
    for start in reversed(range(0, n, stride)):
        a[: start + 1] = kept.pop()
        a[start + 1 :] = 0
        stages = []
        for m in range(start + 1, min(start + stride, n) + 1):
            stages.append(a[:m].flip(0))
            _raise(a, k, m)
        for m in reversed(range(start + 1, min(start + stride, n) + 1)):
            head = g[: m + 1]
            gk[m - 1] = (head[1:] * stages.pop()).sum(0)
            head.addcmul_(head.flip(0), k[m - 1])
    slope, saturated = 1 - k * k, k.abs() >= _largest(k)
    gx = torch.zeros_like(k)
    g_scale = torch.zeros_like(k[0])
    for m in range(n):
        g_inner = torch.where(saturated[m], 0, slope[m] * (gk[m] - 2 * g_scale * k[m] * scale[m]))
        gx[m] = g_inner * scale[m]
        g_scale = g_scale * slope[m] + g_inner * x[m]
    return _order_last(gx, raw)


@_lattice.register_fake
def _(raw):
    return torch.empty_like(raw, memory_format=torch.contiguous_format)


@_lattice_adjoint.register_fake
def _(raw, ga):
    return torch.empty_like(raw, memory_format=torch.contiguous_format)


@_lattice.register_vmap
def _(info, in_dims, raw):
    return _lattice(raw.movedim(in_dims[0], 0)), 0


@_lattice_adjoint.register_vmap
def _(info, in_dims, raw, ga):
    raw, ga = (
        x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
        for x, d in zip((raw, ga), in_dims, strict=True)
    )
    return _lattice_adjoint(raw, ga), 0


def _order_first(x: Tensor) -> Tensor:
    return x.reshape(x.shape[:-1].numel(), x.shape[-1]).T.contiguous()


def _order_last(x: Tensor, like: Tensor) -> Tensor:
    return x.T.contiguous().reshape(like.shape)


def _one(k: Tensor) -> Tensor:
    a = k.new_zeros(len(k) + 1, k.shape[1])
    a[0] = 1
    return a


def _raise(a: Tensor, k: Tensor, m: int) -> None:
    """One stage of the step-up, in place: from order m - 1 to m."""
    head = a[: m + 1]
    head.addcmul_(head.flip(0), k[m - 1])


def _squash(raw: Tensor) -> tuple[Tensor, Tensor]:
    k, scale = torch.zeros_like(raw), torch.ones_like(raw)
    largest = _largest(raw)
    for m in reversed(range(len(raw))):
        torch.mul(raw[m], scale[m], out=k[m]).tanh_().clamp_(-largest, largest)
        if m:
            torch.addcmul(scale[m], scale[m] * k[m], k[m], value=-1, out=scale[m - 1])
    return k, scale
