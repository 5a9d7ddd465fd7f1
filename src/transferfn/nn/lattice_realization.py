"""A bank of filters as a normalised lattice with taps: rotations, which amplify no rounding."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from transferfn.core.bank import check_filters
from transferfn.core.forms import lattice
from transferfn.core.kernel import spread
from transferfn.core.lattice import companion_to_lattice
from transferfn.core.stability import stability
from transferfn.core.system import TransferFunction
from transferfn.kernels.forms import lattice_step
from transferfn.kernels.tracing import is_plain
from transferfn.nn.guard import ADVICE, check_finite, require_finite, warn_if_overflowed
from transferfn.nn.mixer import SequenceMixer, check_boundaries, check_sample, check_signal, check_state
from transferfn.nn.precision import WideCoefficients, widest
from transferfn.nn.realization import filter_state
from transferfn.ops.choice import Method
from transferfn.ops.filter import at_rest, linear_filter, signal_dtype
from transferfn.typing import FilterState, Sample, Signal, State


class LatticeRealization(WideCoefficients, SequenceMixer):
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
        return extend_lattice(u, *self._companion(), state, lengths, resets, self.method)

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, FilterState]:
        check_sample(u_t, self.channels)
        return step_lattice(u_t, self.k, self.c, self.v, self.h0, state)

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FilterState:
        return filter_state(batch_size, self.v, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, order={self.order}, dtype={self.k.dtype}"

    def _companion(self) -> tuple[TransferFunction, Tensor]:
        """The filters in float64, and the matrices, (D, n, n), that map companion states onto those of the lattice."""
        k, c, v, h0 = (widest(x) for x in (self.k, self.c, self.v, self.h0))
        return lattice_system(k, c, v, h0, self.dt)


def lattice_system(k: Tensor, c: Tensor, v: Tensor, h0: Tensor, dt: float | None) -> tuple[TransferFunction, Tensor]:
    """The filters of a normalised lattice, and the matrices that map companion states onto the lattice's.

    Args:
        k: Reflection coefficients, (G, n).
        c: Their complements (1 - k^2)^(1/2), (G, n).
        v: Taps, (D, n).
        h0: Feedthrough, (D).
        dt: Sampling interval.

    Returns:
        The filters, and matrices, (D, n, n); both are differentiable.
    """
    a, matrix = companion_to_lattice(k, c)
    matrix = spread(matrix, len(v), axis=-3)
    return TransferFunction((v[:, None] @ matrix)[:, 0], a, h0, dt), matrix


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
        check_state(state, (u.shape[0], system.channels, system.order), "batch, channels, order")
    if not u.numel():
        return u, at_rest(u, system.order) if state is None else state
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
    check_state(state, (u_t.shape[0], *v.shape), "batch, channels, order")
    dtype = signal_dtype(u_t.dtype)
    u, x, k, c, v, h0 = (z.to(dtype) for z in (u_t, state, k, c, v, h0))
    finite = False
    if u.device.type == "cpu" and is_plain(u, x, k, c, v, h0):
        y, after, finite = lattice_step(u, x, k, c, v, h0)
    else:
        y = h0 * u + (v * x).sum(-1)
        after = _turned(u, x, spread(k, len(v)), spread(c, len(v)))
    if not finite:
        require_finite(after[..., :1], u, lambda: _largest_radius(k, c), ADVICE)
    return y.to(u_t.dtype), after


def _largest_radius(k: Tensor, c: Tensor) -> float:
    a, _ = companion_to_lattice(widest(k.detach()), widest(c.detach()))
    return float(stability(a.cpu()).radius.max())


def _solved(matrix: Tensor, state: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(matrix, widest(state)[..., None], upper=False)[..., 0]


def _turned(u: Tensor, x: Tensor, k: Tensor, c: Tensor) -> Tensor:
    """The backward signals after a sample, by n rotations from the last stage to the first."""
    forward, backward = u, []
    for x_m, k_m, c_m in reversed(list(zip(x.unbind(-1), k.unbind(-1), c.unbind(-1), strict=True))):
        backward.append(k_m * forward + c_m * x_m)
        forward = c_m * forward - k_m * x_m
    return torch.stack((forward, *reversed(backward[1:])), -1) if backward else x
