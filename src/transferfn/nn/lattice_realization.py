"""A bank of filters as a normalised lattice with taps: rotations, which amplify no rounding."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import dropout
from typing_extensions import override

from transferfn.core.bank import check_filters
from transferfn.core.forms import lattice
from transferfn.core.kernel import spread
from transferfn.core.lattice_system import Lattice, rotate
from transferfn.core.system import TransferFunction
from transferfn.kernels.forms import lattice_chunk, lattice_step
from transferfn.kernels.tracing import is_plain
from transferfn.nn.guard import ADVICE, check_finite, require_finite, warn_if_overflowed, warn_of_overflow
from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    check_state,
    values_are_hidden,
)
from transferfn.nn.precision import WideCoefficients, widest
from transferfn.nn.realization import filter_state
from transferfn.ops.choice import Method
from transferfn.ops.filter import at_rest, linear_filter, signal_dtype, without_autocast
from transferfn.ops.state_space import convolution_filter, scan_both_ways, state_space_filter
from transferfn.typing import FilterState, Sample, Signal, State


class LatticeRealization(WideCoefficients, SequenceMixer):
    """The normalised lattice of given stable transfer functions, as a module without parameters.

    A sample goes through n rotations of a forward and a backward signal by fixed angles, so that states keep the
    variance of a white input; the output is read off the states by taps. The state, (B, D, n), holds the backward
    signals of stages 0 to n - 1; :meth:`from_companion` and :meth:`to_companion` convert it, exactly but for rounding.

    A step runs in the type of its signal. Whole sequences and chunks go through powers of the rotations' matrix, which
    round as little; of orders above 16, where these would take longer, through coefficients in float64 unless the poles
    crowd.

    Args:
        system: True coefficients of D channels, all of them stable; or angles and taps, which hold what these do not.
        dtype: Real type the coefficients are rounded to, float32 or wider; None means that of the system.
        method: ``"auto"``, ``"fft"``, ``"scan"`` or ``"blocks"``, for whole sequences and chunks of orders above 16.

    Raises:
        ArithmeticError: if a filter is not stable, for then it has no lattice.

    Source:
        Gray and Markel 1975, "A normalized digital filter structure".

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> layer = LatticeRealization(decay)
        >>> y, state = layer.extend(torch.ones(1, 3, 1))
        >>> layer.step(torch.ones(1, 1), state)[0]
        tensor([[1.8750]])
    """

    k: Tensor
    c: Tensor
    v: Tensor
    h0: Tensor

    def __init__(
        self, system: TransferFunction | Lattice, *, dtype: torch.dtype | None = None, method: Method = "auto"
    ) -> None:
        super().__init__()
        if isinstance(system, TransferFunction):
            check_filters(system)
            system = Lattice(*lattice(system), system.h0, system.dt)
        (self.channels, self.order), self.dt = system.v.shape, system.dt
        self.method: Method = method
        kind = signal_dtype(dtype or system.v.dtype)
        for name, given in (("k", system.k), ("c", system.c), ("v", system.v), ("h0", system.h0)):
            self.register_buffer(name, given.detach().to(kind, copy=True))

    def transfer_function(self) -> TransferFunction:
        """The filters as a value, in float64 where the device has it."""
        return self._companion()[0]

    def from_companion(self, state: FilterState) -> FilterState:
        """The state that belongs to one of :class:`Realization`: the last n samples of the input filtered by 1/a.

        Args:
            state: Companion state, (B, D, n).
        """
        self._check_batch(state)
        return (self._companion()[1] @ widest(state)[..., None])[..., 0].to(state.dtype)

    def to_companion(self, state: FilterState) -> FilterState:
        """The companion state, that of :class:`Realization`, in float64 where the device has it.

        Args:
            state: State of the lattice, (B, D, n).
        """
        self._check_batch(state)
        return _solved(self._companion()[1], state)

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        given = self._lattice()
        if given.prefers_matrices():
            return filter_lattice(u, given, lengths, resets)
        system = self.transfer_function()
        y, _ = linear_filter(widest(u), system, lengths=lengths, resets=resets, method=self.method, return_state=False)
        warn_if_overflowed(y, system.a, u, lengths)
        return y.to(u.dtype)

    @override
    def extend(
        self,
        u: Signal,
        state: State = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, FilterState]:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return extend_lattice(u, self._lattice(), state, lengths, resets, self.method)

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, FilterState]:
        check_sample(u_t, self.channels)
        return step_lattice(u_t, Lattice(self.k, self.c, self.v, self.h0), state)

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FilterState:
        return filter_state(batch_size, self.v, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, order={self.order}, dtype={self.k.dtype}"

    def _lattice(self) -> Lattice:
        """In float64 where the device has it, with pairs of the length 1 that rounding took from them."""
        k, c, v, h0 = (widest(x) for x in (self.k, self.c, self.v, self.h0))
        length = torch.hypot(k, c)
        return Lattice(k / length, c / length, v, h0, self.dt)

    def _check_batch(self, state: FilterState) -> None:
        rows = len(state) if isinstance(state, Tensor) and state.dim() else 1
        check_state(state, (rows, self.channels, self.order), "batch, channels, order")

    def _companion(self) -> tuple[TransferFunction, Tensor]:
        return self._lattice().companion()


def filter_lattice(
    u: Signal, lattice: Lattice, lengths: Tensor | None, resets: Tensor | None, *, kernel_dropout: float = 0.0
) -> Signal:
    """Filter a whole signal from rest by powers of the rotations' matrices.

    Args:
        u: Input, (B, L, D).
        lattice: D filters; or two banks, of which the second one filters the future, the next sample first.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where a new sequence starts, (B, L); None means nowhere.
        kernel_dropout: Probability of dropping a tap of an impulse response.
    """
    if resets is not None and values_are_hidden() and not kernel_dropout:  # rows cannot be cut there
        first, *second = (bank.system() for bank in lattice.banks())
        if second:
            return scan_both_ways(u, first, *second, lengths=lengths, resets=resets)
        return state_space_filter(u, first, lengths=lengths, resets=resets, return_state=False)[0]
    with without_autocast(u):
        kernel = dropout(lattice.kernel(max(u.shape[1], 1), signal_dtype(u.dtype)), kernel_dropout)
    y = convolution_filter(u, kernel, lengths=lengths, resets=resets)
    warn_of_overflow(y, u, lengths, lambda: largest_radius(lattice), ADVICE, stacklevel=4)
    return y


def extend_lattice(
    u: Signal,
    lattice: Lattice,
    state: FilterState | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    method: Method,
) -> tuple[Signal, FilterState]:
    """Filter a chunk from a state of the lattice to the next.

    Args:
        u: Next samples, (B, L, D).
        lattice: D filters, in float64 where the device has it.
        state: State before the chunk, (B, D, n); None means rest.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.
        method: As for :func:`linear_filter`, for coefficients of high orders.

    Raises:
        StateOverflowError: if the state is no longer finite.
    """
    if state is not None:
        check_state(state, (u.shape[0], *lattice.v.shape), "batch, channels, order")
    if u.device.type == "cpu" and is_plain(u, *lattice[:4], *(() if state is None else (state,))):
        rest = u.new_zeros(u.shape[0], *lattice.v.shape, dtype=signal_dtype(u.dtype))
        y, after = lattice_chunk(u, rest if state is None else state, *lattice[:4], lengths=lengths, resets=resets)
        require_finite(after, u, lambda: largest_radius(lattice), ADVICE)
        return y.to(u.dtype), after.to(signal_dtype(u.dtype))
    if lattice.prefers_matrices():
        return _extend_by_matrices(u, lattice, state, lengths, resets)
    system, matrix = lattice.companion()
    if not u.numel():
        return u, at_rest(u, system.order) if state is None else state
    before = None if state is None else _solved(matrix, state)
    y, after = linear_filter(widest(u), system, before, lengths=lengths, resets=resets, method=method)
    assert after is not None
    check_finite(after, system.a, u)
    return y.to(u.dtype), (matrix @ after[..., None])[..., 0].to(signal_dtype(u.dtype))


def _extend_by_matrices(
    u: Signal, lattice: Lattice, state: FilterState | None, lengths: Tensor | None, resets: Tensor | None
) -> tuple[Signal, FilterState]:
    y, after = state_space_filter(u, lattice.system(), state, lengths=lengths, resets=resets)
    assert after is not None
    require_finite(after, u, lambda: largest_radius(lattice), ADVICE)
    return y, after


def step_lattice(u_t: Sample, lattice: Lattice, state: FilterState) -> tuple[Sample, FilterState]:
    """One step of a normalised lattice, in the type of its signal.

    Args:
        u_t: Sample, (B, D).
        lattice: D filters.
        state: Backward signals of stages 0 to n - 1, (B, D, n).

    Raises:
        StateOverflowError: if the state is no longer finite.
    """
    check_state(state, (u_t.shape[0], *lattice.v.shape), "batch, channels, order")
    dtype = signal_dtype(u_t.dtype)
    u, x, k, c, v, h0 = (z.to(dtype) for z in (u_t, state, *lattice[:4]))
    finite = False
    if u.device.type == "cpu" and is_plain(u, x, k, c, v, h0):
        y, after, finite = lattice_step(u, x, k, c, v, h0)
    else:
        y = h0 * u + (v * x).sum(-1)
        after = rotate(u, x, spread(k, len(v)), spread(c, len(v)))
    if not finite:
        require_finite(after[..., :1], u, lambda: largest_radius(lattice), ADVICE)
    return y.to(u_t.dtype), after


def largest_radius(lattice: Lattice) -> float:
    """The largest magnitude of a pole; NaN if angles or taps are not finite.

    Args:
        lattice: Filters.
    """
    if not all(bool(x.isfinite().all()) for x in lattice[:4]):
        return math.nan
    return max(float(bank.poles().detach().abs().max()) for bank in lattice.banks())


def _solved(matrix: Tensor, state: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(matrix, widest(state)[..., None], upper=False)[..., 0]
