"""Filtering signals by banks of transfer functions: the one place that chooses how."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import get_args

import torch
from torch import Tensor
from torch.nn.functional import dropout, pad

from transferfn.core.checks import what_instead
from transferfn.core.convert import LARGEST_SOLVE, untruncate
from transferfn.core.kernel import LARGEST_RECURSIVE, damped_response, impulse_response, spread
from transferfn.core.system import TransferFunction, TruncatedTransferFunction
from transferfn.kernels.blocks import block_filter
from transferfn.kernels.rational import damped_convolution, rational_convolution
from transferfn.kernels.recurrence import recurrence
from transferfn.kernels.response import untruncated
from transferfn.ops.boundaries import (
    check_boundaries,
    check_tensor,
    cuts,
    filter_segments,
    state_at,
    valid_samples,
    values_are_hidden,
)
from transferfn.ops.choice import (
    GROWTH_LIMIT,
    Method,
    System,
    choose,
    is_noisy,
    is_noisy_response,
    is_well_conditioned,
    largest_growth,
)
from transferfn.ops.cost import block_size
from transferfn.ops.fourier import LongKernel, convolve, convolve_both_ways, forcing, has_native_loop
from transferfn.typing import FilterState, Kernel, Lengths, Resets, Signal

LARGEST_GROWTH_OF_DAMPED = 1.8  # of a response in a quarter of its length more, up to which damping it loses nothing


def linear_filter(
    u: Signal,
    system: System,
    state: FilterState | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    method: Method = "auto",
    return_state: bool = True,
    kernel_dropout: float = 0.0,
) -> tuple[Signal, FilterState | None]:
    """Filter each channel of a signal by its transfer function.

    Kernels and conversions are computed in float64, signals in their own type (float32 for narrower ones). A truncated
    system filters by its kernel up to its horizon, and by the exact transfer function beyond or from a given state.

    Args:
        u: Input, (B, L, D).
        system: D filters.
        state: State before the first sample, (B, D, n): w_(-1), ..., w_(-n), the input filtered by 1/a, newest first.
            None means rest.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.
        method: ``"fft"``; ``"scan"``, the recurrence, CPU only; ``"blocks"``, FFTs of blocks that hand a state over,
            CPU only, of rows without resets and, if the final state is wanted, without lengths (others go by one FFT);
            or ``"auto"``: what costs least on this machine for these shapes, types and derivatives, but one FFT where a
            state would lose digits that a kernel keeps.
        return_state: Whether the final state is wanted; it costs the FFT path another transform.
        kernel_dropout: Probability of dropping a tap of the impulse response; not zero implies the FFT.

    Returns:
        Output, (B, L, D), in the type of ``u``, zero past ``lengths``; and the state after each row's last valid
        sample, (B, D, n), float32 or wider, or None if it is not wanted.

    Raises:
        TypeError: if the signal is not a real floating-point tensor, or another argument no tensor.
        ValueError: if shapes or devices do not fit together, or a scan is asked of another device than the CPU.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> y, state = linear_filter(torch.tensor([[[1.0], [0.0], [0.0]]]), decay)
        >>> y.flatten(), state.flatten()
        (tensor([1.0000, 0.5000, 0.2500]), tensor([0.2500]))
    """
    _check(u, system, method, ())
    check_boundaries(u, lengths, resets)
    if state is not None:
        check_tensor("state", state)
    if state is not None and state.shape != (u.shape[0], system.channels, system.order):
        raise ValueError(
            f"expected a state of shape (batch={u.shape[0]}, channels={system.channels}, order={system.order}), "
            f"got {tuple(state.shape)}"
        )
    if state is not None and not state.is_floating_point():
        raise TypeError(f"expected a real floating-point state, got {state.dtype}")
    if state is not None and state.device != u.device:
        raise ValueError(f"the signal is on {u.device} and the state on {state.device}: move one of them")
    if kernel_dropout:
        method = "fft"
    given = u.dtype
    u = u.to(signal_dtype(given))
    if state is not None:
        state = state.to(u.dtype)
    if u.numel() == 0:
        after = state if state is not None else at_rest(u, system.order)
        return _nothing(u, system).to(given), after if return_state else None
    with without_autocast(u):
        y, state = _filter(u, system, state, lengths, resets, method, return_state, kernel_dropout)
    return y.to(given), state


def filter_both_ways(
    u: Signal,
    system: System,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    method: Method = "auto",
    kernel_dropout: float = 0.0,
) -> Signal:
    """Filter by a causal and an anti-causal bank: y_t = sum_(s<=t) kc_(t-s) u_s + sum_(s>t) ka_(s-t-1) u_s.

    Resets cut both directions, and the anti-causal half starts at each row's length.

    Args:
        u: Input, (B, L, D).
        system: The two banks along a leading axis of size 2, causal first.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where a new sequence starts, (B, L); None means nowhere.
        method: As for :func:`linear_filter`.
        kernel_dropout: Probability of dropping a tap of an impulse response; not zero implies the FFT.

    Returns:
        Output, (B, L, D), zero past ``lengths``.
    """
    _check(u, system, method, (2,))
    check_boundaries(u, lengths, resets)
    if kernel_dropout:
        method = "fft"
    given = u.dtype
    u = u.to(signal_dtype(given))
    if u.numel() == 0:
        return _nothing(u, system).to(given)
    with without_autocast(u):
        y = _filter_both_ways(u, system, lengths, resets, method, kernel_dropout)
    return y.to(given)


def _nothing(u: Signal, system: System) -> Signal:
    """The output of an empty signal, made of all that others are made of: an empty batch has gradients, zeros."""
    b, h0 = (system.b, system.h0) if isinstance(system, TransferFunction) else (system.b_tilde, system.h0_tilde)
    return u * (b.sum() + system.a.sum() + h0.sum()).to(u.dtype)


def signal_dtype(given: torch.dtype) -> torch.dtype:
    """The type a signal is filtered in and its state is kept in: its own, or float32 for narrower ones.

    Args:
        given: Type of the signal.
    """
    return torch.promote_types(given, torch.float32)


def without_autocast(u: Tensor) -> AbstractContextManager[object]:
    """Keep a computation from being narrowed; the meta device has no autocast that could be.

    Args:
        u: Tensor that tells the device.
    """
    kind = "cpu" if u.is_meta else u.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def at_rest(u: Tensor, order: int) -> FilterState:
    """The zero state for a signal.

    Args:
        u: Signal (B, L, D) or sample (B, D).
        order: Order n.

    Returns:
        State, (B, D, n), float32 or wider.
    """
    return torch.zeros(u.shape[0], u.shape[-1], order, dtype=signal_dtype(u.dtype), device=u.device)


def _filter(
    u: Signal,
    system: System,
    state: FilterState | None,
    lengths: Lengths | None,
    resets: Resets | None,
    method: Method,
    return_state: bool,
    kernel_dropout: float,
) -> tuple[Signal, FilterState | None]:
    whole = lengths is None and resets is None
    in_blocks = resets is None and (lengths is None or not return_state)  # which know the state after all samples only
    asked = method
    method, may_look = choose(
        method, u, system, resets, starts=state is None, has_state=return_state or state is not None, whole=in_blocks
    )
    if method == "blocks" and in_blocks and system.order and not kernel_dropout:
        found = _by_blocks(_without_padding(u, lengths), system, state, may_refuse=asked == "auto")
        if found is not None:
            return _without_padding(found[0], lengths), found[1] if return_state else None
    if method == "scan":
        b, a, h0, growth = _for_recurrence(system)
        grown = float(growth.max()) if may_look and growth is not None else 0.0
        # What the growth until P hides of the true numerator is lost at any length, however short the signal; and in
        # rows that are cut it is not seen at the end.
        doubtful = not grown <= GROWTH_LIMIT
        if not doubtful or (whole and grown <= largest_growth(u.dtype)):
            wide = asked == "auto" and values_are_hidden()  # nobody can look how much float32 would lose
            y, after = _scan(u, b, a, h0, state, resets, lengths, wide=wide)
            if not doubtful or is_well_conditioned(y, after, b):
                return y, after if return_state else None
    return _by_fft(u, system, state, lengths, resets, return_state, kernel_dropout)


def _scan(
    u: Signal,
    b: Tensor,
    a: Tensor,
    h0: Tensor,
    state: FilterState | None,
    resets: Resets | None,
    lengths: Lengths | None,
    *,
    wide: bool,
    reverse: bool = False,
) -> tuple[Signal, FilterState]:
    """The recurrence in the type of the signal, or in float64."""
    given = u.dtype
    if wide:
        u, state = u.to(torch.float64), None if state is None else state.to(torch.float64)
    y, after = recurrence(u, b, a, h0, state, resets, lengths, reverse=reverse)
    return y.to(given), after.to(given)


def _by_blocks(
    u: Signal, system: System, state: FilterState | None, *, may_refuse: bool
) -> tuple[Signal, FilterState] | None:
    """Filter block by block, unless too much of a signal would be rounded away."""
    true = _true(_widened(system))
    b, a, h0, size = true.b, spread(true.a, true.channels), true.h0, block_size(true.order)
    of_a = _response(-true.a, true.a, torch.ones_like(true.a[:, 0]), size, u.dtype)  # 1/A is 1 - (A - 1)/A
    g = spread(of_a, true.channels)
    if may_refuse and is_noisy_response(g, a, u.dtype):
        return None
    h = _response(b, true.a, h0, size, u.dtype)
    before = at_rest(u, true.order) if state is None else state
    return block_filter(u, h, g, b + h0[:, None] * a, a, before)


def _by_fft(
    u: Signal,
    system: System,
    state: FilterState | None,
    lengths: Lengths | None,
    resets: Resets | None,
    return_state: bool,
    kernel_dropout: float,
) -> tuple[Signal, FilterState | None]:
    u = _without_padding(u, lengths)
    if state is None and not return_state and resets is None and not kernel_dropout:
        y = _in_one_operator(u, system)
        if y is not None:
            return _without_padding(y, lengths), None
    system = _widened(system)
    kernel = dropout(_kernel(system, u.shape[1], u.dtype), kernel_dropout)
    true = _true(system) if return_state or state is not None else None

    def filter_rows(rows: Signal, before: FilterState | None, ends: Lengths | None):
        return _convolve_rows(rows, before, ends, kernel, true, return_state)

    if resets is None:
        y, final = filter_rows(u, state, lengths)
    else:
        y, final = filter_segments(filter_rows, u, state, lengths, resets)
        final = at_rest(u, system.order) if return_state and final is None else final
    return _without_padding(y, lengths), final if return_state else None


def _in_one_operator(u: Signal, system: System) -> Signal | None:
    """Filter by native loops that take coefficients and a signal and never write a kernel down, where there are any."""
    if not has_native_loop(u):
        return None
    if isinstance(system, TruncatedTransferFunction) and u.shape[1] <= system.horizon:
        return rational_convolution(u, system.b_tilde, system.a, system.h0_tilde, system.horizon)
    if not _can_be_damped(system.a, u.dtype):
        return None
    true = system if isinstance(system, TransferFunction) else _true(_widened(system))
    y, growth = damped_convolution(u, true.b, true.a, true.h0)
    return y if bool((growth <= LARGEST_GROWTH_OF_DAMPED).all()) else None


def _can_be_damped(a: Tensor, dtype: torch.dtype) -> bool:
    """Whether responses may be sampled on a larger circle: where that is faster, good enough and can be looked at.

    Clustered poles, of which a recurrence in float64 loses nothing, are what that circle loses digits of; coefficients
    of higher orders cannot hold such poles anyway.
    """
    order = a.shape[-1]
    if order <= LARGEST_RECURSIVE or dtype == torch.float64 or values_are_hidden():
        return False
    return order > LARGEST_SOLVE or (a.device.type == "cpu" and not is_noisy(a, dtype))


def _convolve_rows(
    u: Signal,
    state: FilterState | None,
    lengths: Lengths | None,
    kernel: LongKernel,
    true: TransferFunction | None,
    return_state: bool,
) -> tuple[Signal, FilterState | None]:
    """Filter rows from a state; what that still drives is one more input and one more output of the first n samples."""
    length = u.shape[1]
    if true is None:
        return convolve(u, kernel)[0], None
    driven = None
    if state is not None:
        recursive = -forcing(spread(true.a, true.channels), state, length)
        driven = forcing(true.b, state, length) - true.h0.to(u.dtype) * recursive
        u = u + recursive
    kernels = [kernel]
    if return_state and true.order:
        of_a = _response(-true.a, true.a, torch.ones_like(true.a[:, 0]), length, u.dtype)  # 1/A is 1 - (A - 1)/A
        kernels.append(spread(of_a, true.channels))
    y, *w = convolve(u, *kernels)
    if driven is not None:
        y = y + driven
    if not return_state:
        return y, None
    before = at_rest(u, true.order) if state is None else state
    return y, state_at(torch.cat((before.flip(-1).mT, *w), 1), true.order, lengths, None)


def _without_padding(x: Signal, lengths: Lengths | None) -> Signal:
    return x if lengths is None else torch.where(valid_samples(lengths, x.shape[1])[..., None], x, 0)


def _for_recurrence(system: System) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """True coefficients as the recurrence needs them, and how far a truncated system grows until its horizon."""
    if isinstance(system, TransferFunction):
        return system.b, system.a, system.h0, None
    if not 0 < system.order <= LARGEST_SOLVE:
        true = _true(_widened(system))
        return true.b, true.a, true.h0, None
    b, h0, growth = untruncated(
        system.b_tilde.flatten(0, -2), system.a.flatten(0, -2), system.h0_tilde.flatten(), system.horizon
    )
    return b.view_as(system.b_tilde), system.a, h0.view_as(system.h0_tilde), growth


def _filter_both_ways(
    u: Signal,
    system: System,
    lengths: Lengths | None,
    resets: Resets | None,
    method: Method,
    kernel_dropout: float,
) -> Signal:
    asked = method
    method, may_look = choose(method, u, system, resets, has_state=False)
    if method == "scan":
        b, a, h0, growth = _for_recurrence(system)
        if not may_look or growth is None or float(growth.max()) <= GROWTH_LIMIT:
            return _scan_both_ways(u, b, a, h0, lengths, resets, wide=asked == "auto" and values_are_hidden())
    if resets is None and not kernel_dropout:
        y = _in_one_operator(_without_padding(u, lengths), system)
        if y is not None:
            return _without_padding(y, lengths)
    system = _widened(system)
    causal, anticausal = dropout(_kernel(system, u.shape[1], u.dtype), kernel_dropout)
    u = _without_padding(u, lengths)

    def filter_rows(rows: Signal, before: FilterState | None, ends: Lengths | None):
        return convolve_both_ways(rows, causal, anticausal), None

    y = (
        filter_rows(u, None, lengths)[0]
        if resets is None
        else filter_segments(filter_rows, u, None, lengths, resets)[0]
    )
    return _without_padding(y, lengths)


def _scan_both_ways(
    u: Signal, b: Tensor, a: Tensor, h0: Tensor, lengths: Lengths | None, resets: Resets | None, *, wide: bool
) -> Signal:
    y, _ = _scan(u, b[0], a[0], h0[0], None, resets, lengths, wide=wide)
    back, _ = _scan(u, b[1], a[1], h0[1], None, resets, lengths, wide=wide, reverse=True)
    ahead = pad(back[:, 1:], (0, 0, 0, 1))
    where_cut = cuts(lengths, resets, u.shape[1])
    if where_cut is not None:  # the sample ahead belongs to another sequence, or to none
        last = pad(where_cut[:, 1:], (0, 1), value=True)
        ahead = torch.where(last[..., None], 0, ahead)
    return y + ahead


def _kernel(system: System, length: int, dtype: torch.dtype) -> Kernel:
    """The first samples of the true impulse response, at least ``length`` of them, for signals of a type."""
    if isinstance(system, TruncatedTransferFunction) and length <= system.horizon:
        return system.kernel()
    true = _true(system)
    return _response(true.b, true.a, true.h0, length, dtype)


def _response(b: Tensor, a: Tensor, h0: Tensor, length: int, dtype: torch.dtype) -> Kernel:
    """The true impulse response; by FFT where that is faster, good enough and can be seen to be right."""
    if a.dtype == torch.float64 and _can_be_damped(a, dtype):
        h, growth = damped_response(b, a, h0, length=length)
        if bool((growth <= LARGEST_GROWTH_OF_DAMPED).all()):
            return h
    return impulse_response(b, a, h0, length=length)


def _true(system: System) -> TransferFunction:
    if isinstance(system, TransferFunction):
        return system
    # Not system.transfer_function(), which would warn of losses that the kernel, up to the horizon, does not suffer.
    b, h0 = untruncate(system.b_tilde, system.a, system.h0_tilde, horizon=system.horizon)
    return TransferFunction(b, system.a, h0, system.dt)


def _widened(system: System) -> System:
    """The same system in float64 where the device has it."""
    if system.a.dtype == torch.float64 or system.a.device.type == "mps":
        return system
    if isinstance(system, TransferFunction):
        return system.to(dtype=torch.float64)
    b, a, h0 = (x.to(torch.float64) for x in (system.b_tilde, system.a, system.h0_tilde))
    return TruncatedTransferFunction(b, a, h0, system.horizon, system.dt)


def _check(u: Tensor, system: System, method: Method, bank: tuple[int, ...]) -> None:
    check_tensor("u", u)
    if not u.is_floating_point():
        raise TypeError(f"expected a real floating-point signal, got {u.dtype}. Convert it, e.g. with u.float().")
    if not isinstance(system, TransferFunction | TruncatedTransferFunction):
        raise TypeError(f"expected a TransferFunction or TruncatedTransferFunction, got {what_instead(system)}")
    if system.a.shape[:-2] != bank:
        raise ValueError(
            f"expected coefficients with leading axes {bank}, got a of shape {tuple(system.a.shape)}: "
            f"linear_filter takes one bank, filter_both_ways two, the causal one first"
        )
    if u.device != system.a.device:
        raise ValueError(
            f"the signal is on {u.device} and the coefficients are on {system.a.device}: move one of them, e.g. with "
            f"u.to({str(system.a.device)!r})"
        )
    if u.dim() != 3 or u.shape[-1] != system.channels:
        raise ValueError(
            f"expected a signal of shape (batch, length, channels={system.channels}), got {tuple(u.shape)}"
        )
    if method not in get_args(Method):
        raise ValueError(f"method is 'auto', 'fft', 'scan' or 'blocks', got {method!r}")
    if method in ("scan", "blocks") and u.device.type != "cpu":
        raise ValueError(
            f"method={method!r} runs on the CPU, but the signal is on {u.device}; use method='fft' or 'auto'"
        )
