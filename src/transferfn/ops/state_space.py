"""Filtering signals by banks of state-space systems, whatever the form of their state matrices."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from transferfn.ops.boundaries import cuts, filter_segments, valid_samples, values_are_hidden
from transferfn.ops.filter import signal_dtype, without_autocast
from transferfn.ops.fourier import LongKernel, convolve, convolve_both_ways
from transferfn.typing import Kernel, Lengths, Resets, Sample, Signal


@runtime_checkable
class Recurrence(Protocol):
    """What runs D systems sample by sample."""

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: output (B, D) and the state after it.

        Args:
            u: Sample, (B, D).
            state: State before it, (B, D, ...).
        """
        ...


@runtime_checkable
class StateSpace(Recurrence, Protocol):
    """D systems with one input and one output each: :class:`ModalSystem` or :class:`DenseSystem`."""

    @property
    def channels(self) -> int:
        """Number of channels D."""
        ...

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of a row's state, (D, ...)."""
        ...

    def kernel(self, length: int, dtype: torch.dtype) -> Kernel:
        """Impulse response, (*bank, D, L).

        Args:
            length: Number of samples L.
            dtype: Its type.
        """
        ...

    def response(self, state: Tensor, length: int) -> Signal:
        """Output that a state drives without any input, (B, L, D).

        Args:
            state: State before the first sample, (B, D, ...).
            length: Number of samples L.
        """
        ...

    def advanced(self, state: Tensor, length: int, ends: Lengths | None) -> Tensor:
        """State after samples of zero.

        Args:
            state: State before them, (B, D, ...).
            length: Largest number of samples L.
            ends: Number of samples of each row, (B,); None means L for all.
        """
        ...

    def reached(self, u: Signal, ends: Lengths | None) -> Tensor:
        """State that an input leads to from rest.

        Args:
            u: Input, (B, L, D).
            ends: Number of samples of each row, (B,); None means L for all.
        """
        ...

    def scan(self, u: Signal, state: Tensor, ends: Lengths | None, resets: Resets) -> tuple[Signal, Tensor]:
        """Output, (B, L, D), and the state at the ends, where decisions on values are impossible.

        Args:
            u: Input, (B, L, D), zero past the ends.
            state: State before the first sample, (B, D, ...).
            ends: Number of samples of each row, (B,); None means L for all.
            resets: True where the state is cleared before the sample, (B, L).
        """
        ...


def state_space_filter(
    u: Signal,
    system: StateSpace,
    state: Tensor | None = None,
    *,
    lengths: Lengths | None = None,
    resets: Resets | None = None,
    return_state: bool = True,
) -> tuple[Signal, Tensor | None]:
    """Filter each channel of a signal by its state-space system.

    Outputs are a convolution by FFT with the impulse response, and what the state drives. Rows are cut at resets;
    inside compiled graphs and function transforms, which cannot, the recurrence is run by doubling instead.

    Args:
        u: Input, (B, L, D).
        system: D systems.
        state: State before the first sample, (B, *system.state_shape); None means rest.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.
        return_state: Whether the final state is wanted.

    Returns:
        Output, (B, L, D), in the type of ``u``, zero past ``lengths``; and the state after each row's last valid
        sample, float32 or wider, or None if it is not wanted.

    Example:
        >>> from transferfn.core.modal import ModalSystem
        >>> half = torch.tensor([[0.5]])
        >>> y, state = state_space_filter(torch.ones(1, 3, 1), ModalSystem(half, half, 2 * half, torch.zeros(1)))
        >>> y.flatten(), state.flatten()
        (tensor([0.5000, 0.7500, 0.8750]), tensor([0.8750]))
    """
    given = u.dtype
    u = u.to(signal_dtype(given))
    if state is not None:
        state = state.to(u.dtype)
    if u.numel() == 0:
        at_rest = state_at_rest(system, u.shape[0], u.dtype, u.device) if return_state and state is None else state
        return u.to(given), at_rest if return_state else None
    with without_autocast(u):
        u = _zero_padded(u, lengths)
        if resets is not None and values_are_hidden():
            before = state_at_rest(system, u.shape[0], u.dtype, u.device) if state is None else state
            y, final = system.scan(u, before, lengths, resets)
        else:
            kernel = system.kernel(u.shape[1], u.dtype)

            def filter_rows(rows: Signal, before: Tensor | None, ends: Lengths | None):
                return _filter_rows(rows, before, ends, system, kernel, return_state)

            if resets is None:
                y, final = filter_rows(u, state, lengths)
            else:
                y, final = filter_segments(filter_rows, u, state, lengths, resets)
                if return_state and final is None:
                    final = state_at_rest(system, u.shape[0], u.dtype, u.device)
        y = _zero_padded(y, lengths)
    return y.to(given), final if return_state else None


def convolution_filter(
    u: Signal, kernel: Float[Tensor, "*bank D _"], *, lengths: Lengths | None, resets: Resets | None
) -> Signal:
    """Filter each channel of a signal by its impulse response, from rest.

    Args:
        u: Input, (B, L, D).
        kernel: Impulse responses of at least L samples, (D, >= L); or (2, D, >= L), of which the second one goes to the
            future, the next sample first.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where a new sequence starts, (B, L); None means nowhere. Rows are cut there.

    Returns:
        Output, (B, L, D), zero past ``lengths``.
    """
    given = u.dtype
    u = u.to(signal_dtype(given))
    if u.numel() == 0:
        return u.to(given)
    with without_autocast(u):
        u = _zero_padded(u, lengths)

        def filter_rows(rows: Signal, before: Tensor | None, ends: Lengths | None):
            return (convolve(rows, kernel)[0] if kernel.dim() == 2 else convolve_both_ways(rows, *kernel)), None

        y = (
            filter_rows(u, None, lengths)[0]
            if resets is None
            else filter_segments(filter_rows, u, None, lengths, resets)[0]
        )
        y = _zero_padded(y, lengths)
    return y.to(given)


def scan_both_ways(
    u: Signal, causal: StateSpace, anticausal: StateSpace, *, lengths: Lengths | None, resets: Resets
) -> Signal:
    """What :func:`convolution_filter` computes with two kernels, where decisions on values are impossible.

    Args:
        u: Input, (B, L, D).
        causal: Systems that filter the present and the past.
        anticausal: Systems that filter the future; their first response is to the next sample.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where a new sequence starts, (B, L).
    """
    given = u.dtype
    u = u.to(signal_dtype(given))
    with without_autocast(u):
        u = _zero_padded(u, lengths)
        rest = state_at_rest(causal, u.shape[0], u.dtype, u.device)
        y, _ = causal.scan(u, rest, None, resets)
        turned = pad(resets.flip(1), (1, -1))  # what begins a sequence comes after its end now
        back, _ = anticausal.scan(u.flip(1), rest, None, turned)
        ahead = pad(back.flip(1)[:, 1:], (0, 0, 0, 1))
        where_cut = cuts(lengths, resets, u.shape[1])
        assert where_cut is not None
        last = pad(where_cut[:, 1:], (0, 1), value=True)
        y = _zero_padded(y + torch.where(last[..., None], 0, ahead), lengths)
    return y.to(given)


def state_space_step(u_t: Sample, system: Recurrence, state: Tensor) -> tuple[Sample, Tensor]:
    """One step of the recurrence in the type of the sample, or float32 if that is narrower.

    Args:
        u_t: Sample, (B, D).
        system: D systems.
        state: State before it, (B, D, ...).

    Returns:
        Output, (B, D), in the type of ``u_t``, and the state after it.
    """
    dtype = signal_dtype(u_t.dtype)
    with without_autocast(u_t):
        y, state = system.step(u_t.to(dtype), state.to(dtype))
    return y.to(u_t.dtype), state


def state_at_rest(system: StateSpace, batch_size: int, dtype: torch.dtype, device: torch.device | str | None) -> Tensor:
    """The zero state.

    Args:
        system: D systems.
        batch_size: Number of rows B.
        dtype: Type of the signals to come.
        device: Where the state lives.

    Returns:
        State, (B, *system.state_shape), float32 or wider.
    """
    return torch.zeros(batch_size, *system.state_shape, dtype=signal_dtype(dtype), device=device)


def _filter_rows(
    u: Signal,
    state: Tensor | None,
    lengths: Lengths | None,
    system: StateSpace,
    kernel: LongKernel,
    return_state: bool,
) -> tuple[Signal, Tensor | None]:
    length = u.shape[1]
    y = convolve(u, kernel)[0]
    if state is not None:
        y = y + system.response(state, length)
    if not return_state:
        return y, None
    after = system.reached(u, lengths)
    return y, after if state is None else after + system.advanced(state, length, lengths)


def _zero_padded(x: Signal, lengths: Lengths | None) -> Signal:
    return x if lengths is None else torch.where(valid_samples(lengths, x.shape[1])[..., None], x, 0)
