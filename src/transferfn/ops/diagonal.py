"""The diagonal recurrence x_t = a_t x_(t-1) + v_t over complex states, in parallel along time, with its derivatives.

CPUs have a native loop for multipliers that are the same at all times; everything else is done in PyTorch's operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import pad

from transferfn.kernels import diagonal as native
from transferfn.kernels.tracing import apply, is_eager
from transferfn.ops.boundaries import check_boundaries, check_tensor, valid_samples
from transferfn.typing import Lengths, Resets

CHUNK = 16  # samples a piece: as many steps at each level, of which there are log_16 L


def diagonal_scan(
    v: Tensor,
    a: Tensor,
    state: Tensor | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""All states of P independent first-order recurrences, x_t = a_t x_(t-1) + v_t, or x_t = a_t x_(t+1) + v_t.

    In PyTorch's operations sequences are cut into chunks that advance side by side; the states at their ends are a
    recurrence of the same kind, 16 times shorter. Work and memory are O(B L P), forward and backward, and nothing is
    ever divided by powers of a.

    Args:
        v: Inputs of the recurrence, complex, (B, L, P).
        a: Multipliers, complex: (P), the same at all times, or (B, L, P), one a sample. Those of (P) may be of a wider
            type than ``v``: their powers are then computed in it.
        state: State before the first sample, complex, (B, P); None means rest.
        lengths: Number of valid samples of each row, (B,); None means all. What lies past them changes nothing.
        resets: True where a new sequence starts, (B, L): the state is cleared before that sample, and in reverse the
            state of that sample does not reach the one before it.
        reverse: Run from the last valid sample to the first, from rest.

    Returns:
        States x, (B, L, P), zero past ``lengths``; and the last one computed, (B, P): that of each row's last valid
        sample, in reverse that of the first; what was given as ``state`` where there are no samples.

    Raises:
        TypeError: if the inputs or multipliers are not complex tensors.
        ValueError: if shapes do not fit together, or a state is given in reverse.

    Example:
        >>> x, state = diagonal_scan(torch.ones(1, 3, 1) + 0j, torch.tensor([0.5j]))
        >>> x.flatten()
        tensor([1.0000+0.0000j, 1.0000+0.5000j, 0.7500+0.5000j])
    """
    _check(v, a, state, reverse)
    check_boundaries(v, lengths, resets)
    batch, length, width = v.shape
    if state is None and (not length or lengths is not None):
        before = v.new_zeros(batch, width)
    else:
        before = state if state is None else state.to(v.dtype)
    if not length:
        assert before is not None
        return v, before
    if a.dim() == 3:
        a = a.to(v.dtype)
    cut = resets
    if lengths is not None:
        valid = valid_samples(lengths, length)
        v = torch.where(valid[..., None], v, 0)
        a = torch.where(valid[..., None], a, 0) if a.dim() == 3 else a
        cut = ~valid if cut is None else cut | ~valid  # what has grown in a state must not grow on in padding
    if reverse and cut is not None:
        cut = _ahead(cut)
    x = apply(_Scan, v, a, None if reverse else before, cut, reverse)
    if reverse:
        return x, x[:, 0].clone()
    if lengths is None:
        return x, x[:, -1].clone()  # a view would keep all states alive
    assert before is not None
    ends = lengths.to(v.device).long()[:, None, None].expand(-1, 1, width)
    last = torch.take_along_dim(x, (ends - 1).clamp_min(0), 1)[:, 0]
    return x, torch.where(lengths[:, None] > 0, last, before)


class _Scan(Function):
    """The recurrence and its adjoint, which is the same recurrence run the other way.

    ``cut`` is true where a state does not continue the one before it, in the order of the recurrence.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(v: Tensor, a: Tensor, state: Tensor | None, cut: Tensor | None, reverse: bool) -> Tensor:
        if has_native_loop(v, a):
            return native.scan(v, a, state, cut, reverse)
        if torch.compiler.is_compiling() and a.dim() == 1 and v.device.type == "cpu":
            return native.scan_operator(v, a, state, cut, reverse)
        return _scan(v, a, state, cut, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, a, state, cut, ctx.reverse = inputs
        ctx.save_for_backward(a, state, cut, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        a, state, cut, x = ctx.saved_tensors
        if has_native_loop(gradients[0], a) and not torch.is_grad_enabled():
            of_v, of_a, of_state = native.scan_adjoint(gradients[0], a, x, state, cut, ctx.reverse)
            return of_v, of_a.to(a.dtype), of_state, None, None
        shift = _behind if ctx.reverse else _ahead
        of_v = apply(
            _Scan,
            gradients[0],
            (shift(a) if a.dim() == 3 else a).conj(),
            None,
            None if cut is None else shift(cut),
            not ctx.reverse,
        )
        of_a = of_state = None
        if ctx.needs_input_grad[1]:
            before = _ahead(x) if ctx.reverse else _behind(x, state)
            terms = of_v * before.conj()
            if cut is not None:
                terms = torch.where(cut[..., None], 0, terms)
            of_a = (terms if a.dim() == 3 else terms.sum((0, 1))).to(a.dtype)
        if state is not None and ctx.needs_input_grad[2]:
            first = a[:, 0] if a.dim() == 3 else a.to(x.dtype)
            of_state = of_v[:, 0] * first.conj()
            if cut is not None:
                of_state = torch.where(cut[:, :1], 0, of_state)
        return of_v, of_a, of_state, None, None


def has_native_loop(v: Tensor, a: Tensor) -> bool:
    """Whether a native loop runs the recurrence.

    Args:
        v: Inputs, (B, L, P).
        a: Multipliers, (P) or (B, L, P).
    """
    return a.dim() == 1 and v.device.type == "cpu" and is_eager(v, a)


def _scan(v: Tensor, a: Tensor, state: Tensor | None, cut: Tensor | None, reverse: bool) -> Tensor:
    """All states, by chunks whose last states are a shorter recurrence of the same kind."""
    length = v.shape[1]
    if length <= 2 * CHUNK:
        return torch.stack(_steps(v, a, state, cut, 1, reverse), 1)
    chunks = -(-length // CHUNK)
    missing = chunks * CHUNK - length

    def pieces(x: Tensor) -> Tensor:
        x = pad(x, (0, 0) * (x.dim() - 2) + (0, missing)) if missing else x
        return x.unflatten(1, (chunks, CHUNK))

    v, cut = pieces(v), None if cut is None else pieces(cut)
    if a.dim() == 3:
        a = pieces(a)
        power = torch.stack(_products(a.unbind(2), reverse), 2)
        whole = power[:, :, 0 if reverse else -1]
        local = torch.stack(_steps(v, a, None, cut, 2, reverse), 2)
    else:
        powers = _products((a,) * CHUNK, reverse)  # in the type of a
        power = torch.stack(powers).to(v.dtype)
        whole = powers[0 if reverse else -1]
        local = torch.stack(_steps(v, a, None, cut, 2, reverse), 2)
    ends = _scan(
        local[:, :, 0 if reverse else -1], whole, state, None if cut is None else cut.any(2), reverse
    )  # the true state at the end of each chunk
    before = (_ahead(ends) if reverse else _behind(ends, state))[:, :, None]
    if cut is None:
        x = torch.addcmul(local, power, before)
    else:
        order = cut.flip(2) if reverse else cut
        since = order.cumsum(2) > 0
        x = torch.where((since.flip(2) if reverse else since)[..., None], local, torch.addcmul(local, power, before))
    x = x.flatten(1, 2)
    return x[:, :length] if missing else x


def _steps(v: Tensor, a: Tensor, state: Tensor | None, cut: Tensor | None, axis: int, reverse: bool) -> list[Tensor]:
    """The recurrence sample by sample along an axis; the states in the order of time."""
    samples = v.unbind(axis)
    multipliers = (a.to(v.dtype),) * len(samples) if a.dim() == 1 else a.unbind(axis)
    breaks = (None,) * len(samples) if cut is None else cut.unbind(axis)
    states, x = [], state
    times = range(len(samples))
    for t in reversed(times) if reverse else times:
        if x is None:
            x = samples[t]
        else:
            broken = breaks[t]
            if broken is not None:
                x = torch.where(broken[..., None], 0, x)
            x = torch.addcmul(samples[t], multipliers[t], x)
        states.append(x)
    return states[::-1] if reverse else states


def _products(a: tuple[Tensor, ...], reverse: bool) -> list[Tensor]:
    """Products of the multipliers up to each sample, in the order of time."""
    products: list[Tensor] = []
    for factor in reversed(a) if reverse else a:
        products.append(products[-1] * factor if products else factor)
    return products[::-1] if reverse else products


def _ahead(x: Tensor) -> Tensor:
    """What the next sample has, (B, L, ...); at the last there is nothing, which cuts."""
    return pad(x[:, 1:], (0, 0) * (x.dim() - 2) + (0, 1), value=x.dtype == torch.bool)


def _behind(x: Tensor, first: Tensor | None = None) -> Tensor:
    """What the previous sample has, (B, L, ...); at the first something given, or nothing, which cuts."""
    if first is None:
        return pad(x[:, :-1], (0, 0) * (x.dim() - 2) + (1, 0), value=x.dtype == torch.bool)
    return torch.cat((first[:, None], x[:, :-1]), 1)


def _check(v: Tensor, a: Tensor, state: Tensor | None, reverse: bool) -> None:
    for name, value in (("v", v), ("a", a), ("state", state)):
        if name == "state" and value is None:
            continue
        check_tensor(name, value)
        assert value is not None
        if not value.is_complex():
            raise TypeError(f"{name} must be complex, got {value.dtype}. torch.complex joins real and imaginary parts.")
    if v.dim() != 3 or (a.shape != v.shape and a.shape != v.shape[2:]):
        raise ValueError(
            f"expected inputs v of shape (B, L, P) and multipliers a of shape (P) or (B, L, P), "
            f"got {tuple(v.shape)} and {tuple(a.shape)}"
        )
    if state is not None and state.shape != (v.shape[0], v.shape[2]):
        raise ValueError(f"expected a state of shape (B, P) = {(v.shape[0], v.shape[2])}, got {tuple(state.shape)}")
    if reverse and state is not None:
        raise ValueError("in reverse the recurrence starts from rest at each row's end: it takes no state")
