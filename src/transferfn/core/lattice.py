"""Reflection coefficients and taps: the lattice form of a filter, and its free parameters as a differentiable operator.

The recursions are loops over the order. Their plain forms are differentiable in every way; :func:`lattice_filter` runs
them, and their adjoint, as one operator each, which is faster and leaves torch.compile nothing to unroll.
"""

from __future__ import annotations

import math
from functools import partial
from typing import no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transferfn.kernels import lattice as kernels
from transferfn.kernels.tracing import apply, is_eager, is_plain

Rows = Float[Tensor, "*rows n"]
"""Denominators a_1..a_n, or the n numbers each stands for, along the last axis."""

Taps = Float[Tensor, "*rows each n"]
"""Numerators b_1..b_n, or the taps they stand for, of each filter over a denominator."""


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


def reflection_of_poles(poles: Tensor) -> Rows:
    """Reflection coefficients of the denominator with given poles, however close these are.

    The denominator is multiplied out and stepped down in integers, of as many digits as that takes, and only its
    reflection coefficients are rounded: a tenth of a millisecond for each of order 8, a tenth of a second of order 64.

    Args:
        poles: Inside the unit circle, in pairs of conjugates of which those above the real axis count, complex,
            (rows, n).

    Returns:
        Reflection coefficients k_1..k_n, float64, (rows, n), on the device of the poles.

    Example:
        >>> reflection_of_poles(torch.tensor([[0.5 + 0.5j, 0.5 - 0.5j]]))
        tensor([[-0.6667,  0.5000]], dtype=torch.float64)
    """
    rows = [_reflection_of_poles(row) for row in poles.tolist()]
    return torch.tensor(rows, dtype=torch.float64, device=poles.device).view(poles.shape)


def _reflection_of_poles(poles: list[complex]) -> list[float]:
    bits = 64 * (len(poles) + 2)  # each step down divides by 1 - k^2, which poles near the circle make small
    one = 1 << bits
    a = [one]
    for z in poles:
        x, y = (int(math.ldexp(part, 64)) << bits - 64 for part in (z.real, z.imag))
        if y < 0:
            continue
        factor = [one, -2 * x, x * x + y * y >> bits] if y else [one, -x]
        product = [0] * (len(a) + len(factor) - 1)
        for i, one_a in enumerate(a):
            for j, one_b in enumerate(factor):
                product[i + j] += one_a * one_b >> bits
        a = product
    found = []
    for _ in poles:
        *head, k = a
        found.append(k / one)
        rest = one - (k * k >> bits)
        a = [(x - (k * y >> bits) << bits) // rest for x, y in zip(head[1:], head[:0:-1], strict=True)]
        a = [one, *a]
    return found[::-1]


def reflection_coefficients(raw: Rows, *, scaled: bool = True) -> Rows:
    """Map free parameters onto -1..1: k_m = tanh(g_m raw_m), with g_m the product of 1 - k_j^2 over j > m, or 1.

    Args:
        raw: Free parameters, (*rows, n).
        scaled: Whether there is a scale, as coefficients b want it, or none, as taps do
            (:mod:`transferfn.core.constrain` says why).

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
        k = (scale * raw_m if scaled else raw_m).tanh().clamp(-largest, largest)
        highest_first.append(k)
        scale = scale * (1 - k * k)
    return torch.cat(highest_first[::-1], -1)


def lattice_denominator(raw: Rows, *, scaled: bool = True) -> Rows:
    """The denominator of free parameters: :func:`step_up` of :func:`reflection_coefficients`.

    It has backward derivatives of every order and raises in forward mode, which the two functions themselves have.

    Args:
        raw: Free parameters, (*rows, n).
        scaled: As for :func:`reflection_coefficients`.

    Returns:
        Denominator a_1..a_n, (*rows, n).
    """
    return _filter(raw, raw.new_empty(*raw.shape[:-1], 0, raw.shape[-1]), scaled)[0]


def lattice_filter(raw: Rows, taps: Taps) -> tuple[Rows, Taps]:
    """The filter of free parameters and taps of the normalised lattice: its denominator, and a numerator each.

    The states of a normalised lattice answer an impulse with orthonormal responses: those of A_m reversed, over A_n,
    times the root of the product of 1 - k_j^2 over j > m, for m = 0..n - 1, all one sample late. So the energy of a
    response is that of its taps, wherever the poles are, and a step along the taps is as long in the response. The
    reflection coefficients are k_m = tanh(raw_m), without a scale.

    It has derivatives as :func:`lattice_denominator` has them.

    Args:
        raw: Free parameters, (*rows, n).
        taps: Weights of the n states, for any number of filters over each denominator, (*rows, each, n).

    Returns:
        Denominator a_1..a_n, (*rows, n), and numerators b_1..b_n, (*rows, each, n).

    Raises:
        ValueError: if the two are of other shapes or of two types.

    Source:
        Gray and Markel 1975, "A normalized digital filter structure"; the polynomials are those of Szego.

    Example:
        >>> a, b = lattice_filter(torch.tensor([[-0.6931472]]), torch.tensor([[[0.625]]]))
        >>> a, b  # k = -0.6, and the state counts 0.8 of its input
        (tensor([[-0.6000]]), tensor([[[0.5000]]]))
    """
    if raw.shape[:-1] != taps.shape[:-2] or raw.shape[-1:] != taps.shape[-1:] or raw.dtype != taps.dtype:
        raise ValueError(
            f"expected taps (*rows, each, n) beside parameters (*rows, n), of one type, got {tuple(taps.shape)} "
            f"{taps.dtype} beside {tuple(raw.shape)} {raw.dtype}"
        )
    return _filter(raw, taps, False)


def _filter(raw: Tensor, taps: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    return _run(raw, taps, scaled) if is_plain(raw, taps) else apply(_Lattice, raw, taps, scaled)


class _Lattice(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(raw, taps, scaled):
        return (_run if is_eager(raw, taps) else _lattice)(raw, taps, scaled)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.scaled = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, ga, gb):
        raw, taps = ctx.saved_tensors
        if is_plain(raw, taps, ga, gb):
            return *_run_back(raw, taps, ga, gb, ctx.scaled), None
        return *_LatticeAdjoint.apply(raw, taps, ga, gb, ctx.scaled), None


class _LatticeAdjoint(torch.autograd.Function):
    """The gradient; its own derivatives are those of the plain loops."""

    generate_vmap_rule = True

    @staticmethod
    def forward(raw, taps, ga, gb, scaled):
        return (_run_back if is_eager(raw, taps, ga, gb) else _lattice_adjoint)(raw, taps, ga, gb, scaled)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.scaled = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, c, d):
        return *torch.func.vjp(partial(_plain_adjoint, scaled=ctx.scaled), *ctx.saved_tensors)[1]((c, d)), None


def _plain(raw: Tensor, taps: Tensor, *, scaled: bool) -> tuple[Tensor, Tensor]:
    k = reflection_coefficients(raw, scaled=scaled)
    weights = taps * _deviations(k)[..., None, :]
    a, b = torch.ones_like(k[..., :1]), torch.zeros_like(weights)
    for m, k_m in enumerate(k.split(1, -1)):
        b = b + pad(weights[..., m : m + 1] * a.flip(-1)[..., None, :], (0, k.shape[-1] - 1 - m))
        a = pad(a, (0, 1))
        a = torch.addcmul(a, k_m, a.flip(-1))
    return a[..., 1:], b


def _plain_adjoint(raw: Tensor, taps: Tensor, ga: Tensor, gb: Tensor, *, scaled: bool) -> tuple[Tensor, Tensor]:
    return torch.func.vjp(partial(_plain, scaled=scaled), raw, taps)[1]((ga, gb))


def _deviations(k: Tensor) -> Tensor:
    """The root of the product of 1 - k_j^2 over j >= m, counted from 0."""
    return ((1 - k) * (1 + k)).flip(-1).cumprod(-1).flip(-1).sqrt()


def _largest(x: Tensor) -> float:
    return 1 - torch.finfo(x.dtype).eps


# Inside the operators the order comes first, so that each stage is a contiguous block: (n, rows) and (n, rows, each).


def _run(raw: Tensor, taps: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    x, t = _order_first(raw), _taps_order_first(raw, taps)
    if raw.device.type == "cpu":
        a, b = kernels.filters(x, t, scaled=scaled, largest=_largest(raw))
    else:
        a, b = _by_torch(x, t, scaled)
    return _order_last(a, raw), _order_last(b.flatten(1), taps)


@torch.library.custom_op("transferfn::lattice", mutates_args=())
@no_type_check
def _lattice(raw: Tensor, taps: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    return _run(raw, taps, scaled)


def _by_torch(x: Tensor, t: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    k, scale = _squash(x, scaled)
    weights = t * (scale * (1 - k) * (1 + k)).sqrt()[..., None]
    a, b = _one(k), torch.zeros_like(t)
    for m in range(len(k)):
        b[: m + 1].addcmul_(a[: m + 1].flip(0)[..., None], weights[m])
        _raise(a, k, m + 1)
    return a[1:], b


def _run_back(raw: Tensor, taps: Tensor, ga: Tensor, gb: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    x, t = _order_first(raw), _taps_order_first(raw, taps)
    gradients = _order_first(ga), _taps_order_first(raw, gb)
    if raw.device.type == "cpu":
        gx, gt = kernels.gradients(x, t, *gradients, scaled=scaled, largest=_largest(raw))
    else:
        gx, gt = _adjoint_by_torch(x, t, *gradients, scaled)
    return _order_last(gx, raw), _order_last(gt.flatten(1), taps)


@torch.library.custom_op("transferfn::lattice_adjoint", mutates_args=())
@no_type_check
def _lattice_adjoint(raw: Tensor, taps: Tensor, ga: Tensor, gb: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    return _run_back(raw, taps, ga, gb, scaled)


def _adjoint_by_torch(x: Tensor, t: Tensor, ga: Tensor, gb: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    k, scale = _squash(x, scaled)
    n = len(k)
    deviation = (scale * (1 - k) * (1 + k)).sqrt()[..., None]
    weights = t * deviation
    # The stages are needed in reverse. Stepping down again would divide by 1 - k^2; keeping all takes n^2 / 2 numbers a
    # row. So every sqrt(n)-th is kept, and those between are made again from there.
    stride = math.isqrt(n) + 1
    a, kept = _one(k), []
    for m in range(1, n + 1):
        if (m - 1) % stride == 0:
            kept.append(a[:m].clone())
        _raise(a, k, m)
    gk, gt = torch.zeros_like(k), torch.zeros_like(t)
    g = torch.cat((torch.zeros_like(k[:1]), ga))
    for start in reversed(range(0, n, stride)):
        a[: start + 1] = kept.pop()
        a[start + 1 :] = 0
        stages = []
        for m in range(start + 1, min(start + stride, n) + 1):
            stages.append(a[:m].flip(0))
            _raise(a, k, m)
        for m in reversed(range(start + 1, min(start + stride, n) + 1)):
            head, stage = g[: m + 1], stages.pop()
            gk[m - 1] = (head[1:] * stage).sum(0)
            head.addcmul_(head.flip(0), k[m - 1])
            gt[m - 1] = (gb[:m] * stage[..., None]).sum(0)
            head[:m] += (gb[:m] * weights[m - 1]).sum(-1).flip(0)
    gt *= deviation
    slope, saturated = 1 - k * k, k.abs() >= _largest(k)
    at_taps = (gt * t).sum(-1).cumsum(0)
    gx = torch.zeros_like(k)
    g_scale = torch.zeros_like(k[0])
    for m in range(n):
        inner = slope[m] * (gk[m] - 2 * g_scale * k[m] * scale[m]) - k[m] * at_taps[m]
        inner = torch.where(saturated[m], 0, inner)
        gx[m] = inner * scale[m] if scaled else inner
        if scaled:
            g_scale = g_scale * slope[m] + inner * x[m]
    return gx, gt


@_lattice.register_fake
def _(raw, taps, scaled):
    return _like(raw), _like(taps)


@_lattice_adjoint.register_fake
def _(raw, taps, ga, gb, scaled):
    return _like(raw), _like(taps)


@_lattice.register_vmap
def _(info, in_dims, raw, taps, scaled):
    return _lattice(*_batched(info, in_dims[:-1], raw, taps), scaled), (0, 0)


@_lattice_adjoint.register_vmap
def _(info, in_dims, raw, taps, ga, gb, scaled):
    return _lattice_adjoint(*_batched(info, in_dims[:-1], raw, taps, ga, gb), scaled), (0, 0)


def _batched(info, in_dims, *tensors: Tensor) -> list[Tensor]:
    return [
        x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
        for x, d in zip(tensors, in_dims, strict=True)
    ]


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _order_first(x: Tensor) -> Tensor:
    return x.reshape(x.shape[:-1].numel(), x.shape[-1]).T.contiguous()


def _taps_order_first(raw: Tensor, taps: Tensor) -> Tensor:
    return taps.reshape(raw.shape[:-1].numel(), *taps.shape[-2:]).permute(2, 0, 1).contiguous()


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


def _squash(raw: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
    k, scale = torch.zeros_like(raw), torch.ones_like(raw)
    largest = _largest(raw)
    for m in reversed(range(len(raw))):
        torch.mul(raw[m], scale[m] if scaled else 1, out=k[m]).tanh_().clamp_(-largest, largest)
        if m:
            torch.addcmul(scale[m], scale[m] * k[m], k[m], value=-1, out=scale[m - 1])
    return k, scale
