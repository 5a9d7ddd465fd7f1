"""Filtering in the convention of ``scipy.signal``: its coefficients, initial conditions and axes, differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.functional import pad

from transferfn.core.convert import LARGEST_SOLVE
from transferfn.core.kernel import spread
from transferfn.core.polynomial import monic, multiply
from transferfn.core.system import TransferFunction
from transferfn.kernels.cascade import cascade
from transferfn.kernels.tracing import is_plain
from transferfn.ops.boundaries import check_tensor, values_are_hidden
from transferfn.ops.choice import is_noisy
from transferfn.ops.filter import linear_filter
from transferfn.typing import FilterState

HIGHEST_ORDER = 32  # that conditions are run with as they are; beyond it the FFT may be faster


@overload
def lfilter(b: Tensor, a: Tensor, x: Tensor, axis: int = -1, zi: None = None) -> Tensor: ...
@overload
def lfilter(b: Tensor, a: Tensor, x: Tensor, axis: int, zi: Tensor) -> tuple[Tensor, Tensor]: ...
@overload
def lfilter(b: Tensor, a: Tensor, x: Tensor, axis: int = -1, *, zi: Tensor) -> tuple[Tensor, Tensor]: ...
def lfilter(
    b: Tensor, a: Tensor, x: Tensor, axis: int = -1, zi: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    """Filter along one axis with the arguments, the results and the initial conditions of ``scipy.signal.lfilter``.

    Unlike scipy's it is differentiable in everything, and coefficients may come in batches: leading axes of ``b`` and
    ``a`` broadcast against the axes of ``x`` other than ``axis``, in their order.

    Args:
        b: Numerator, b[0] first, (..., nb).
        a: Denominator, a[0] first, (..., na); a[0] may be any number but zero.
        x: Input, real or complex; the axes other than ``axis`` are batches.
        axis: Axis of ``x`` that is time.
        zi: Initial conditions of the transposed direct form II, as scipy has them, with max(na, nb) - 1 entries along
            ``axis``; None means rest.

    Returns:
        y of the shape and type of ``x`` (complex if ``zi`` is), and if ``zi`` is given the final conditions zf.

    Raises:
        TypeError: if coefficients are not real floating-point tensors, or a signal is none of floating-point numbers.
        ValueError: if a[0] is zero or shapes do not fit.

    Example:
        >>> lfilter(torch.tensor([1.0]), torch.tensor([1.0, -0.5]), torch.tensor([1.0, 0.0, 0.0]))
        tensor([1.0000, 0.5000, 0.2500])
    """
    check_signal("x", x)
    if zi is not None:
        check_signal("zi", zi)
    if x.is_complex() or (zi is not None and zi.is_complex()):
        _check_real(b=b, a=a)
        b, a = (c[..., None, :] if c.dim() else c for c in (b, a))
        return _in_parts(lambda x, axis, zi: lfilter(b, a, x, axis, zi), x, axis, zi)
    b, a = _normalised(b, a)
    u, batch = _lanes(x, axis, b, a)
    start = None if zi is None else _start(zi, a, x, batch, axis)
    if start is not None and _runs_as_cascade(a.shape[-1] - 1, u, b, a, start):
        y, (zf,) = _cascaded(u, batch, [(b, a)], [start])
        return _from_lanes(y, x, axis), zf.movedim(-1, axis)
    y, zf = _through(u, b, a, x, batch, start)
    y = _from_lanes(y, x, axis)
    return y if zi is None or zf is None else (y, zf.movedim(-1, axis))


@overload
def sosfilt(sos: Tensor, x: Tensor, axis: int = -1, zi: None = None) -> Tensor: ...
@overload
def sosfilt(sos: Tensor, x: Tensor, axis: int, zi: Tensor) -> tuple[Tensor, Tensor]: ...
@overload
def sosfilt(sos: Tensor, x: Tensor, axis: int = -1, *, zi: Tensor) -> tuple[Tensor, Tensor]: ...
def sosfilt(sos: Tensor, x: Tensor, axis: int = -1, zi: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
    """Filter by second-order sections one after the other, as ``scipy.signal.sosfilt`` does; differentiable.

    Args:
        sos: Sections, each b0, b1, b2, a0, a1, a2, (..., sections, 6); the leading axes broadcast as in
            :func:`lfilter`.
        x: Input, real or complex; the axes other than ``axis`` are batches.
        axis: Axis of ``x`` that is time.
        zi: Initial conditions, (sections, ..., 2, ...) with the 2 in place of ``axis``; None means rest.

    Returns:
        y of the shape of ``x``, and if ``zi`` is given the final conditions zf.

    Raises:
        TypeError: if sections are not real floating-point tensors, or a signal is none of floating-point numbers.
        ValueError: if ``sos`` is not (..., sections, 6), or ``zi`` does not fit.

    Example:
        >>> sections = torch.tensor([[1.0, 0.0, 0.0, 1.0, -0.5, 0.0], [2.0, 0.0, 0.0, 1.0, 0.0, 0.0]])
        >>> sosfilt(sections, torch.tensor([1.0, 0.0, 0.0]))
        tensor([2.0000, 1.0000, 0.5000])
    """
    _check_sections(sos)
    check_signal("x", x)
    if zi is not None:
        check_signal("zi", zi)
    if x.is_complex() or (zi is not None and zi.is_complex()):
        return _in_parts(lambda x, axis, zi: sosfilt(sos[..., None, :, :], x, axis, zi), x, axis, zi)
    sections = [_normalised(section[..., :3], section[..., 3:]) for section in sos.unbind(-2)]
    if zi is not None and len(zi) != len(sections):
        raise ValueError(f"zi must hold conditions for each of {len(sections)} sections, got shape {tuple(zi.shape)}")
    y, batch = _lanes(x, axis, sos[..., 0, :3], sos[..., 0, 3:])
    starts = [None if zi is None else _start(zi[k], a, x, batch, axis) for k, (_, a) in enumerate(sections)]
    finals: list[Any] = []
    if _runs_as_cascade(2, y, sos, *(start for start in starts if start is not None)):
        y, finals = _cascaded(y, batch, sections, starts)
    else:
        for (b, a), start in zip(sections, starts, strict=True):
            y, zf = _through(y, b, a, x, batch, start)
            finals.append(zf)
    y = _from_lanes(y, x, axis)
    return y if zi is None else (y, torch.stack([zf.movedim(-1, axis) for zf in finals]))


def lfilter_zi(b: Tensor, a: Tensor) -> Tensor:
    """Initial conditions of the steady state for a step of height 1, as ``scipy.signal.lfilter_zi`` gives them.

    Args:
        b: Numerator, b[0] first, (..., nb).
        a: Denominator, a[0] first, (..., na).

    Returns:
        zi, (..., max(na, nb) - 1).

    Raises:
        TypeError: if an argument is not a real floating-point tensor.
        ValueError: if a[0] is zero, or the filter has a pole at z = 1 and so no steady state.

    Example:
        >>> lfilter_zi(torch.tensor([0.5]), torch.tensor([1.0, -0.5]))
        tensor([0.5000])
    """
    b, a = _normalised(b, a)
    total = a.sum(-1, keepdim=True)
    lost = total.detach().abs() <= torch.finfo(a.dtype).eps * a.detach().abs().sum(-1, keepdim=True)
    if not values_are_hidden() and bool(lost.any()):
        raise ValueError("the filter has a pole at z = 1, so its step response never settles and there is no zi")
    gain = b.sum(-1, keepdim=True) / total
    return (b - gain * a)[..., 1:].flip(-1).cumsum(-1).flip(-1)


def sosfilt_zi(sos: Tensor) -> Tensor:
    """Initial conditions of the steady state for a step of height 1, as ``scipy.signal.sosfilt_zi`` gives them.

    Args:
        sos: Sections, each b0, b1, b2, a0, a1, a2, (..., sections, 6).

    Returns:
        zi, (sections, ..., 2), as :func:`sosfilt` takes it for a signal whose last axis is time.

    Raises:
        TypeError: if an argument is not a real floating-point tensor.
        ValueError: if ``sos`` is not (..., sections, 6), or a section has a pole at z = 1 and so no steady state.

    Example:
        >>> sosfilt_zi(torch.tensor([[0.5, 0.0, 0.0, 1.0, -0.5, 0.0]]))
        tensor([[0.5000, 0.0000]])
    """
    _check_sections(sos)
    level, found = torch.ones_like(sos[..., 0, 0]), []
    for section in sos.unbind(-2):
        b, a = section[..., :3], section[..., 3:]
        found.append(level[..., None] * lfilter_zi(b, a))
        level = level * b.sum(-1) / a.sum(-1)
    return torch.stack(found)


def state_to_zi(state: FilterState, system: TransferFunction) -> FilterState:
    """Convert our companion state into scipy's initial conditions.

    Args:
        state: w_(-1), ..., w_(-n), the input filtered by 1/a, newest first, (B, D, n).
        system: D filters.

    Returns:
        zi of the transposed direct form II, (B, D, n).

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> state_to_zi(torch.tensor([[[4.0]]]), decay)
        tensor([[[2.]]])
    """
    # What the state still drives has the spectrum zi(z)/A(z) in y and e(z)/A(z) in w, both with n terms on top.
    n, a = state.shape[-1], spread(system.a, system.channels)
    drives_y, drives_w = _driven(system.b, state), _driven(-a, state)
    return multiply(monic(a), drives_y)[..., :n] + multiply(pad(system.b, (1, 0)), drives_w)[..., :n]


def zi_to_state(zi: FilterState, system: TransferFunction) -> FilterState:
    """Convert scipy's initial conditions into our companion state.

    Args:
        zi: Initial conditions of the transposed direct form II, (B, D, n).
        system: D filters.

    Returns:
        State w_(-1), ..., w_(-n), (B, D, n).

    Raises:
        ArithmeticError: if a filter has a common pole and zero, for then conditions exist that no state produces.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> zi_to_state(torch.tensor([[[2.0]]]), decay)
        tensor([[[4.]]])
    """
    n = zi.shape[-1]
    units = torch.eye(n, dtype=zi.dtype, device=zi.device)[:, None].expand(n, system.channels, n)
    rows = state_to_zi(units, system).movedim(0, 1)  # row j of a channel: what its unit state j gives
    well = torch.linalg.cond(rows.detach()) < 0.1 / torch.finfo(zi.dtype).eps  # false where it is NaN: zeros alone
    if not values_are_hidden() and not bool(well.all()):
        raise ArithmeticError(
            "some filter has a common pole and zero (to rounding), so that not every zi belongs to a state. Cancel the "
            "pair, or stay with lfilter(..., zi=zi), which needs no state."
        )
    return torch.linalg.solve(rows, zi.movedim(0, 1), left=False).movedim(0, 1)


def _driven(c: Tensor, state: Tensor) -> Tensor:
    """f_t = sum_(i>t) c_i w_(t-i), t = 0..n-1."""
    n = state.shape[-1]
    return (pad(c, (0, n - 1)).unfold(-1, n, 1) @ state[..., None])[..., 0]


def _from_conditions(u: Tensor, system: TransferFunction, zi: Tensor) -> tuple[Tensor, Tensor]:
    """Add the response zi(z)/A(z), by superposition: conditions need not be reachable as a companion state."""
    length, n = u.shape[1], system.order
    free = TransferFunction(-system.a, system.a, torch.ones_like(system.h0))  # 1/A(z)
    drive = zi.to(u.dtype).mT[None]
    y, state = linear_filter(u, system)
    response, free_state = linear_filter(pad(drive[:, :length], (0, 0, 0, max(length - n, 0))), free)
    assert state is not None
    assert free_state is not None
    zf = state_to_zi(state, _like(system, state)) + state_to_zi(free_state, _like(free, state))
    zf = zf[0] + pad(zi.to(u.dtype)[:, length:], (0, min(length, n)))  # what has not come out yet moves up
    return y + response, zf


def check_signal(name: str, value: Tensor) -> None:
    """Raise unless a signal is a tensor of real or complex floating-point numbers.

    Args:
        name: What the caller calls it.
        value: What the caller passed.

    Raises:
        TypeError: if it is something else.
    """
    check_tensor(name, value)
    if not (value.is_floating_point() or value.is_complex()):
        raise TypeError(f"{name} must be a floating-point tensor, real or complex, got {value.dtype}")


def _like(system: TransferFunction, x: Tensor) -> TransferFunction:
    return system.to(dtype=x.dtype)


def _check_real(**arguments: Tensor) -> None:
    for name, value in arguments.items():
        check_tensor(name, value)
        if not value.is_floating_point():
            raise TypeError(f"{name} must be a real floating-point tensor, got {value.dtype}")


def _check_sections(sos: Tensor) -> None:
    _check_real(sos=sos)
    if sos.dim() < 2 or sos.shape[-1] != 6:
        raise ValueError(f"sos must be of shape (sections, 6), leading axes aside, got {tuple(sos.shape)}")


def _in_parts(
    function: Callable[[Tensor, int, Tensor | None], Any], x: Tensor, axis: int, zi: Tensor | None
) -> Tensor | tuple[Tensor, Tensor]:
    """Filter real and imaginary parts as one more batch axis, the last."""
    wide = torch.promote_types(x.dtype, torch.complex64)
    axis = (axis if axis < 0 else axis - x.dim()) - 1
    x = torch.view_as_real(x.to(wide).resolve_conj())
    if zi is None:
        return torch.view_as_complex(function(x, axis, None).contiguous())
    y, zf = function(x, axis, torch.view_as_real(zi.to(wide).resolve_conj()))
    return torch.view_as_complex(y.contiguous()), torch.view_as_complex(zf.contiguous())


def _lanes(x: Tensor, axis: int, b: Tensor, a: Tensor) -> tuple[Tensor, torch.Size]:
    """A signal as linear_filter takes it, (1, L, D) with a channel a batch entry; and the shape of the batch."""
    signal = x.movedim(axis, -1)
    batch = signal.shape[:-1]
    if not (_broadcasts(b.shape[:-1], batch) and _broadcasts(a.shape[:-1], batch)):
        raise ValueError(
            f"the leading axes of b and a must broadcast against {tuple(batch)}, those of x without axis {axis}; "
            f"got b {tuple(b.shape)} and a {tuple(a.shape)}"
        )
    return signal.reshape(batch.numel(), signal.shape[-1]).mT[None], batch


def _from_lanes(y: Tensor, x: Tensor, axis: int) -> Tensor:
    """A signal of the shape, the axes and the type of another."""
    return y[0].mT.to(x.dtype).reshape(x.movedim(axis, -1).shape).movedim(-1, axis)


def _start(zi: Tensor, a: Tensor, x: Tensor, batch: torch.Size, axis: int) -> Tensor:
    """Initial conditions (*batch, n); axes of length 1 stand for all, as scipy has it."""
    order = a.shape[-1] - 1
    start = zi.movedim(axis, -1) if zi.dim() == x.dim() else zi
    if start.dim() != x.dim() or start.shape[-1] != order or not _broadcasts(start.shape[:-1], batch):
        raise ValueError(
            f"zi has the shape of x, {tuple(x.shape)}, with {order} entries (the filter's order) along axis {axis}, "
            f"and 1 in place of any other length; got {tuple(zi.shape)}"
        )
    return start.expand(*batch, order)


def _runs_as_cascade(order: int, u: Tensor, *others: Tensor) -> bool:
    """Whether the native loop does: eager tensors on the CPU that need no derivatives, and of a low order."""
    is_native = u.device.type == "cpu" and u.dtype in (torch.float32, torch.float64) and u.numel() > 0
    return is_native and 0 < order <= HIGHEST_ORDER and is_plain(u, *others)


def _cascaded(
    u: Tensor, batch: torch.Size, sections: list[tuple[Tensor, Tensor]], starts: list[Tensor | None]
) -> tuple[Tensor, list[Tensor]]:
    """Filter (1, L, D) by sections (..., n + 1) from conditions (*batch, n); the final conditions, too."""

    def of_all(parts: list[Tensor]) -> Tensor:
        return torch.stack([c.expand(*batch, c.shape[-1]).reshape(batch.numel(), -1) for c in parts])

    zi = [start for start in starts if start is not None]
    y, zf = cascade(
        u[0].mT, of_all([b for b, _ in sections]), of_all([a[..., 1:] for _, a in sections]), of_all(zi) if zi else None
    )
    return y.mT[None], [final.to(u.dtype).reshape(*batch, -1) for final in zf]


def _through(
    u: Tensor, b: Tensor, a: Tensor, x: Tensor, batch: torch.Size, zi: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Filter (1, L, D) from conditions (*batch, n)."""
    order = a.shape[-1] - 1
    system = _channels(b, a, batch)
    if _rounds_too_much(u, a):
        u = u.to(torch.float64)
    if zi is None or order == 0:
        return linear_filter(u, system, return_state=False)[0], zi
    y, zf = _from_conditions(u, system, zi.reshape(system.channels, order))
    return y, zf.reshape(zi.shape).to(x.dtype)


def _rounds_too_much(u: Tensor, a: Tensor) -> bool:
    """Whether to run the recurrence in float64: cheaper than the FFT that linear_filter takes in such a case."""
    order = a.shape[-1] - 1
    may_look = u.device.type == "cpu" and not values_are_hidden()
    return may_look and 0 < order <= LARGEST_SOLVE and is_noisy(a[..., 1:].reshape(-1, order).detach(), u.dtype)


def _broadcasts(shape: torch.Size, against: torch.Size) -> bool:
    pairs = zip(reversed(shape), reversed(against), strict=False)
    return len(shape) <= len(against) and all(size in (1, other) for size, other in pairs)


def _normalised(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Divide by a[0], and bring both to one type and number of coefficients."""
    _check_real(b=b, a=a)
    if 0 in (b.dim(), a.dim()) or 0 in (b.shape[-1], a.shape[-1]):
        raise ValueError(f"b and a need a coefficient at least, got shapes {tuple(b.shape)} and {tuple(a.shape)}")
    a = a.to(torch.promote_types(b.dtype, a.dtype))
    lead = a[..., :1]
    if not values_are_hidden() and bool((lead.detach() == 0).any()):
        raise ValueError("a[0] must not be zero: the filter would not be causal")
    size = max(a.shape[-1], b.shape[-1])
    return pad(b / lead, (0, size - b.shape[-1])), pad(a / lead, (0, size - a.shape[-1]))


def _channels(b: Tensor, a: Tensor, batch: torch.Size) -> TransferFunction:
    """One channel a batch entry."""
    proper = (b - b[..., :1] * a)[..., 1:]
    b0 = b[..., 0].expand(batch).reshape(-1)
    order = a.shape[-1] - 1
    channels = max(b0.shape[0], 1)
    return TransferFunction(
        proper.expand(*batch, order).reshape(channels, order),
        a[..., 1:].expand(*batch, order).reshape(channels, order),
        b0.reshape(channels),
    )
