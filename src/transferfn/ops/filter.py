"""Filtering signals by banks of transfer functions: the one place that chooses how."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import dropout, pad

from transferfn.core.convert import LARGEST_SOLVE, last_recursions, untruncate, untruncate_by_solving
from transferfn.core.kernel import recursive_response, spread
from transferfn.core.system import TransferFunction, TruncatedTransferFunction
from transferfn.kernels.recurrence import recurrence
from transferfn.ops.boundaries import (
    check_boundaries,
    check_tensor,
    cuts,
    filter_segments,
    state_at,
    valid_samples,
    values_are_hidden,
)
from transferfn.ops.cost import fft_cost, scan_cost
from transferfn.ops.fourier import LongKernel, convolve, convolve_both_ways, forcing
from transferfn.typing import FilterState, Kernel, Lengths, Resets, Signal

Method = Literal["auto", "fft", "scan"]
System = TransferFunction | TruncatedTransferFunction

GROWTH_LIMIT = 1e3  # how much larger than the output the terms of its sum may be before the FFT does better
LOST_DIGITS = 16.0  # rounding errors of the signal's type that a conversion may cost before the FFT does better


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
        method: ``"fft"``, ``"scan"`` (the recurrence; CPU only), or ``"auto"``, which goes by shapes and device.
        return_state: Whether the final state is wanted; it costs the FFT path another transform.
        kernel_dropout: Probability of dropping a tap of the impulse response; not zero implies the FFT.

    Returns:
        Output, (B, L, D), in the type of ``u``, zero past ``lengths``; and the state after each row's last valid
        sample, (B, D, n), float32 or wider, or None if it is not wanted.

    Raises:
        TypeError: if the signal is not a real floating-point tensor, or another argument no tensor.
        ValueError: if shapes do not fit together, or a scan is asked of another device than the CPU.

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
    if kernel_dropout:
        method = "fft"
    given = u.dtype
    u = u.to(signal_dtype(given))
    system = _widened(system)
    if state is not None:
        state = state.to(u.dtype)
    if u.numel() == 0:
        return u.to(given), (state if state is not None else at_rest(u, system.order)) if return_state else None
    if lengths is not None:
        u = torch.where(valid_samples(lengths, u.shape[1])[..., None], u, 0)
    with torch.autocast(_autocast_device(u), enabled=False):
        y, state = _filter(u, system, state, lengths, resets, method, return_state, kernel_dropout)
    if lengths is not None:
        y = torch.where(valid_samples(lengths, y.shape[1])[..., None], y, 0)
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
        return u.to(given)
    if lengths is not None:
        u = torch.where(valid_samples(lengths, u.shape[1])[..., None], u, 0)
    with torch.autocast(_autocast_device(u), enabled=False):
        y = _filter_both_ways(u, _widened(system), lengths, resets, method, kernel_dropout)
    if lengths is not None:
        y = torch.where(valid_samples(lengths, y.shape[1])[..., None], y, 0)
    return y.to(given)


def signal_dtype(given: torch.dtype) -> torch.dtype:
    """The type a signal is filtered in and its state is kept in: its own, or float32 for narrower ones.

    Args:
        given: Type of the signal.
    """
    return torch.promote_types(given, torch.float32)


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
    # Up to its horizon a truncated system has a kernel, finite even where its recurrence outgrows what is read off it.
    horizon = system.horizon if isinstance(system, TruncatedTransferFunction) else None
    has_kernel = horizon is not None and state is None and u.shape[1] <= horizon
    doubtful = has_kernel and method == "auto" and not values_are_hidden()
    if method == "auto":
        method = _best_method(u, system, has_kernel, return_state or state is not None)
        if values_are_hidden() and u.device.type == "cpu":
            # Nobody can look whether a recurrence blew up, nor where the FFT path would have to cut rows.
            method = "scan" if resets is not None else "fft" if has_kernel else method
    recursions = None
    if horizon is not None and doubtful and method == "scan" and system.order:
        recursions = last_recursions(system.a, horizon)
        growth = recursions.detach().abs().max()
        # What the growth until P hides of the true numerator is lost at any length, however short the signal.
        if not growth <= LOST_DIGITS * torch.finfo(u.dtype).eps / torch.finfo(recursions.dtype).eps:
            method = "fft"
        doubtful = bool(growth > GROWTH_LIMIT)
    if method == "scan":
        true = _true(system, recursions)
        where_cut = cuts(lengths, resets, u.shape[1])
        y, w = _scan(u, true, state, where_cut)
        if not doubtful or _is_well_conditioned(y, w if where_cut is not None else w[:, -true.order :], true):
            return y, (state_at(w, true.order, lengths, resets) if return_state else None)
    kernel = dropout(_kernel(system, u.shape[1]), kernel_dropout)
    true = _true(system) if return_state or state is not None else None

    def filter_rows(rows: Signal, before: FilterState | None, ends: Lengths | None):
        return _by_fft(rows, before, ends, kernel, true, return_state)

    if resets is None:
        return filter_rows(u, state, lengths)
    y, final = filter_segments(filter_rows, u, state, lengths, resets)
    return y, at_rest(u, system.order) if return_state and final is None else final


def _by_fft(
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
        kernels.append(spread(recursive_response(true.a, length), true.channels))
    y, *w = convolve(u, *kernels)
    if driven is not None:
        y = y + driven
    if not return_state:
        return y, None
    before = at_rest(u, true.order) if state is None else state
    return y, state_at(torch.cat((before.flip(-1).mT, *w), 1), true.order, lengths, None)


def _scan(
    u: Signal, system: TransferFunction, state: FilterState | None, resets: Resets | None
) -> tuple[Signal, Tensor]:
    """Run the recurrence: y, and w with the n samples before it in front."""
    past = (at_rest(u, system.order) if state is None else state).flip(-1).mT
    b, a, h0 = (x.to(u.dtype) for x in (system.b, spread(system.a, system.channels), system.h0))
    y, w = recurrence(u, b, a, h0, past, resets)
    return (y if system.order else h0 * u), w


def _filter_both_ways(
    u: Signal,
    system: System,
    lengths: Lengths | None,
    resets: Resets | None,
    method: Method,
    kernel_dropout: float,
) -> Signal:
    if method == "auto" and resets is not None and values_are_hidden() and u.device.type == "cpu":
        method = "scan"  # nobody can look where the FFT path would have to cut rows
    if method == "scan":
        return _scan_both_ways(u, _true(system), lengths, resets)
    causal, anticausal = dropout(_kernel(system, u.shape[1]), kernel_dropout)

    def filter_rows(rows: Signal, before: FilterState | None, ends: Lengths | None):
        return convolve_both_ways(rows, causal, anticausal), None

    if resets is None:
        return filter_rows(u, None, lengths)[0]
    return filter_segments(filter_rows, u, None, lengths, resets)[0]


def _scan_both_ways(u: Signal, system: TransferFunction, lengths: Lengths | None, resets: Resets | None) -> Signal:
    causal, anticausal = (TransferFunction(system.b[k], system.a[k], system.h0[k]) for k in range(2))
    where_cut = cuts(lengths, resets, u.shape[1])
    y, _ = _scan(u, causal, None, where_cut)
    # Backwards in time a piece starts at its last sample, the one before a reset or the padding.
    last = None if where_cut is None else torch.cat((where_cut[:, 1:], where_cut.new_ones(len(u), 1)), 1)
    back, _ = _scan(u.flip(1), anticausal, None, None if last is None else last.flip(1))
    ahead = pad(back.flip(1)[:, 1:], (0, 0, 0, 1))
    return y + (ahead if last is None else torch.where(last[..., None], 0, ahead))


def _kernel(system: System, length: int) -> Kernel:
    """The first samples of the true impulse response, at least ``length`` of them."""
    if isinstance(system, TruncatedTransferFunction) and length <= system.horizon:
        return system.kernel()
    return _true(system).impulse_response(length)


def _true(system: System, recursions: Tensor | None = None) -> TransferFunction:
    if isinstance(system, TransferFunction):
        return system
    # Not system.transfer_function(), which would warn of losses that the kernel, up to the horizon, does not suffer.
    coefficients = system.b_tilde, system.a, system.h0_tilde
    if recursions is None:
        b, h0 = untruncate(*coefficients, horizon=system.horizon)
    else:
        b, h0 = untruncate_by_solving(*coefficients, horizon=system.horizon, recursions=recursions)
    return TransferFunction(b, system.a, h0, system.dt)


def _best_method(u: Tensor, system: System, has_kernel: bool, with_state: bool) -> Method:
    """The cheaper way, by shapes, type and device alone."""
    if u.device.type != "cpu" or (has_kernel and system.order > LARGEST_SOLVE):
        return "fft"
    batch, length, channels = u.shape
    groups, wide = system.a.shape[-2], u.dtype == torch.float64
    horizon = system.horizon if isinstance(system, TruncatedTransferFunction) else None
    sizes = batch, length, channels, system.order
    scan = scan_cost(*sizes, groups=groups, horizon=horizon, wide=wide)
    period = horizon if has_kernel else None
    return "scan" if scan <= fft_cost(*sizes, groups=groups, horizon=period, wide=wide, state=with_state) else "fft"


def _is_well_conditioned(y: Tensor, w: Tensor, tf: TransferFunction) -> bool:
    """Whether the output survived the readout y = b . w: an unstable recurrence outgrows what is read off it.

    Growth shows in the last n samples of w, unless rows are cut: then anywhere.
    """
    with torch.no_grad():
        terms = w.abs().amax((0, 1)) * tf.b.abs().sum(-1).to(w.dtype)
        return bool((terms <= GROWTH_LIMIT * y.abs().amax((0, 1))).all())


def _autocast_device(u: Tensor) -> str:
    """The device type whose autocast would narrow a computation; the meta device has none that could be disabled."""
    return "cpu" if u.is_meta else u.device.type


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
    if system.a.shape[:-2] != bank:
        raise ValueError(
            f"expected coefficients with leading axes {bank}, got a of shape {tuple(system.a.shape)}: "
            f"linear_filter takes one bank, filter_both_ways two, the causal one first"
        )
    if u.dim() != 3 or u.shape[-1] != system.channels:
        raise ValueError(
            f"expected a signal of shape (batch, length, channels={system.channels}), got {tuple(u.shape)}"
        )
    if method not in ("auto", "fft", "scan"):
        raise ValueError(f"method is 'auto', 'fft' or 'scan', got {method!r}")
    if method == "scan" and u.device.type != "cpu":
        raise ValueError(f"method='scan' runs on the CPU, but the signal is on {u.device}; use method='fft' or 'auto'")
