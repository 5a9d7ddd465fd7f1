"""A bank of filters as a normalised lattice with taps: rotations, which amplify no rounding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from typing_extensions import override

from transferfn.core.bank import check_filters
from transferfn.core.forms import companion_to_lattice, lattice
from transferfn.core.kernel import spread
from transferfn.core.system import TransferFunction
from transferfn.kernels.forms import lattice_step
from transferfn.kernels.tracing import is_plain
from transferfn.nn.guard import check_finite, keep_wide, warn_if_overflowed, widest
from transferfn.nn.mixer import SequenceMixer, check_boundaries, check_sample, check_signal
from transferfn.nn.realization import check_state, filter_state
from transferfn.ops.choice import Method
from transferfn.ops.filter import linear_filter, signal_dtype
from transferfn.typing import FilterState, Sample, Signal, State


class LatticeRealization(SequenceMixer):
    """The normalised lattice of given stable transfer functions, as a module without parameters.

    A sample goes through n rotations of a forward and a backward signal by fixed angles, so that states keep the
    variance of a white input; the output is read off the states by taps. The state, (B, D, n), holds the backward
    signals of stages 0 to n - 1; :meth:`from_companion` and :meth:`to_companion` convert it, exactly but for rounding.

    A step runs in the type of its signal. Whole sequences and chunks go through the companion form in float64 (where
    the device has it), whatever the type of the signal is.

    Args:
        system: True coefficients of D channels, all of them stable.
        dtype: Real type the coefficients are rounded to, float32 or wider; None means that of the system.
        method: ``"auto"``, ``"fft"``, ``"scan"`` or ``"blocks"``, for whole sequences and chunks.

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

    def __init__(self, system: TransferFunction, *, dtype: torch.dtype | None = None, method: Method = "auto") -> None:
        super().__init__()
        check_filters(system)
        self.channels, self.order, self.dt = system.channels, system.order, system.dt
        self.method: Method = method
        k, c, v = lattice(system)
        kind = signal_dtype(dtype or system.a.dtype)
        for name, given in (("k", k), ("c", c), ("v", v), ("h0", system.h0.detach())):
            self.register_buffer(name, given.to(kind, copy=True))

    def transfer_function(self) -> TransferFunction:
        """The filters as a value, in float64 where the device has it."""
        return self._companion()[0]

    def from_companion(self, state: FilterState) -> FilterState:
        """The state that belongs to one of :class:`Realization`: the last n samples of the input filtered by 1/a.

        Args:
            state: Companion state, (B, D, n).
        """
        return (self._companion()[1] @ widest(state)[..., None])[..., 0].to(state.dtype)

    def to_companion(self, state: FilterState) -> FilterState:
        """The companion state, that of :class:`Realization`, in float64 where the device has it.

        Args:
            state: State of the lattice, (B, D, n).
        """
        return _solved(self._companion()[1], state)

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        y, _ = linear_filter(
            widest(u), self._companion()[0], lengths=lengths, resets=resets, method=self.method, return_state=False
        )
        warn_if_overflowed(y, self._companion()[0].a, u, lengths)
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
        return extend_lattice(u, *self._companion(), state, lengths, resets, self.method)

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, FilterState]:
        check_sample(u_t, self.channels)
        return step_lattice(u_t, self.k, self.c, self.v, self.h0, state)

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FilterState:
        return filter_state(batch_size, self.k, self.channels, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, order={self.order}, dtype={self.k.dtype}"

    def _companion(self) -> tuple[TransferFunction, Tensor]:
        """The filters in float64, and the matrices, (D, n, n), that map companion states onto those of the lattice."""
        a, matrix = companion_to_lattice(widest(self.k), widest(self.c))
        matrix = spread(matrix, self.channels, axis=-3)
        b = (widest(self.v)[:, None] @ matrix)[:, 0]
        return TransferFunction(b, a, widest(self.h0), self.dt), matrix

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LatticeRealization:
        return super()._apply(keep_wide(fn), recurse)


def extend_lattice(
    u: Signal,
    system: TransferFunction,
    matrix: Tensor,
    state: FilterState | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    method: Method,
) -> tuple[Signal, FilterState]:
    """Filter a chunk from a state of the lattice to the next, through the companion form in float64.

    Args:
        u: Next samples, (B, L, D).
        system: D filters, in float64 where the device has it.
        matrix: Maps companion states onto those of the lattice, (D, n, n).
        state: State before the chunk, (B, D, n); None means rest.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.
        method: As for :func:`linear_filter`.

    Raises:
        StateOverflowError: if the state is no longer finite.
    """
    if state is not None:
        check_state(state, u, system.order)
    if not u.numel():
        rest = filter_state(u.shape[0], system.a, system.channels, device=u.device, dtype=u.dtype)
        return u, rest if state is None else state
    before = None if state is None else _solved(matrix, state)
    y, after = linear_filter(widest(u), system, before, lengths=lengths, resets=resets, method=method)
    assert after is not None
    check_finite(after, system.a, u)
    return y.to(u.dtype), (matrix @ after[..., None])[..., 0].to(signal_dtype(u.dtype))


def step_lattice(
    u_t: Sample, k: Tensor, c: Tensor, v: Tensor, h0: Tensor, state: FilterState
) -> tuple[Sample, FilterState]:
    """One step of a normalised lattice, in the type of its signal.

    Args:
        u_t: Sample, (B, D).
        k: Reflection coefficients, (G, n).
        c: Their complements (1 - k^2)^(1/2), (G, n).
        v: Taps, (D, n).
        h0: Feedthrough, (D).
        state: Backward signals of stages 0 to n - 1, (B, D, n).

    Raises:
        StateOverflowError: if the state is no longer finite.
    """
    check_state(state, u_t, k.shape[-1])
    dtype = signal_dtype(u_t.dtype)
    u, x, k, c, v, h0 = (z.to(dtype) for z in (u_t, state, k, c, v, h0))
    finite = False
    if u.device.type == "cpu" and is_plain(u, x, k, c, v, h0):
        y, after, finite = lattice_step(u, x, k, c, v, h0)
    else:
        y = h0 * u + (v * x).sum(-1)
        after = _turned(u, x, spread(k, len(v)), spread(c, len(v)))
    if not finite:
        check_finite(after[..., :1], companion_to_lattice(widest(k), widest(c))[0], u)
    return y.to(u_t.dtype), after


def _solved(matrix: Tensor, state: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(matrix, widest(state)[..., None], upper=False)[..., 0]


def _turned(u: Tensor, x: Tensor, k: Tensor, c: Tensor) -> Tensor:
    """The backward signals after a sample, by n rotations from the last stage to the first."""
    forward, backward = u, []
    for x_m, k_m, c_m in reversed(list(zip(x.unbind(-1), k.unbind(-1), c.unbind(-1), strict=True))):
        backward.append(k_m * forward + c_m * x_m)
        forward = c_m * forward - k_m * x_m
    return torch.stack((forward, *reversed(backward[1:])), -1) if backward else x
