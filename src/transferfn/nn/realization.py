"""A bank of filters with fixed coefficients: what a trained layer becomes for decoding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from transferfn.core.bank import check_filters
from transferfn.core.system import TransferFunction
from transferfn.kernels.step import step
from transferfn.kernels.tracing import is_plain
from transferfn.nn.guard import check_finite, warn_if_overflowed, warn_if_unstable
from transferfn.nn.mixer import SequenceMixer, check_boundaries, check_sample, check_signal, check_state
from transferfn.nn.precision import WideCoefficients
from transferfn.nn.ring import Ring
from transferfn.ops.choice import Method, System
from transferfn.ops.filter import linear_filter, signal_dtype
from transferfn.typing import FilterState, Sample, Signal, State


class Realization(WideCoefficients, SequenceMixer):
    """The companion recurrence of given transfer functions, as a module without parameters.

    The coefficients are exact and computed once; nothing is recomputed or cached later. Its four verbs are those of
    the layer it came from.

    Args:
        system: True coefficients of D channels. They are kept in the type they come in, or float32 if that is narrower.
        method: ``"auto"``, ``"fft"``, ``"scan"`` or ``"blocks"``, for whole sequences and chunks.

    Example:
        >>> decay = TransferFunction(torch.tensor([[0.5]]), torch.tensor([[-0.5]]), torch.tensor([1.0]))
        >>> layer = Realization(decay)
        >>> y, state = layer.extend(torch.ones(1, 3, 1))
        >>> layer.step(torch.ones(1, 1), state)[0]
        tensor([[1.8750]])
    """

    b: Tensor
    a: Tensor
    h0: Tensor

    def __init__(self, system: TransferFunction, *, method: Method = "auto") -> None:
        super().__init__()
        check_filters(system)
        self.channels, self.order, self.dt = system.channels, system.order, system.dt
        self.method: Method = method
        for name in ("b", "a", "h0"):
            given = getattr(system, name).detach()
            self.register_buffer(name, given.to(signal_dtype(given.dtype), copy=True))

    def transfer_function(self) -> TransferFunction:
        """The filters as a value."""
        return TransferFunction(self.b, self.a, self.h0, self.dt)

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        y, _ = linear_filter(
            u, self.transfer_function(), lengths=lengths, resets=resets, method=self.method, return_state=False
        )
        warn_if_overflowed(y, self.a, u, lengths)
        return y

    @override
    def extend(
        self,
        u: Signal,
        state: State = None,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Signal, State]:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        before = state.state if isinstance(state, Ring) else state
        y, after = extend_filter(u, self.transfer_function(), before, lengths, resets, self.method)
        return y, _kept(state, after)

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, State]:
        check_sample(u_t, self.channels)
        held: dict[str, Any] = self._buffers  # attributes take a module half a microsecond each
        b, a, h0 = held["b"], held["a"], held["h0"]
        if not isinstance(state, Ring):
            return step_filter(u_t, b, a, h0, state)
        found = state.step(u_t, b, a, h0)
        if found is None:
            y, after = step_filter(u_t, b, a, h0, state.state)
            return y, _kept(state, after)
        y, is_finite = found
        if not is_finite:
            check_finite(state.newest(), a, u_t)
        return y, state

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FilterState:
        warn_if_unstable(self.a, None)
        return filter_state(batch_size, self.b, device=device, dtype=dtype)

    @override
    def init_stream(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Ring:
        return Ring(self.init_state(batch_size, device=device, dtype=dtype))

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"channels={self.channels}, order={self.order}, dtype={self.b.dtype}"


def _kept(state: FilterState | Ring | None, after: FilterState) -> FilterState | Ring:
    """The state after a call, in the form that the one before it had."""
    if not isinstance(state, Ring):
        return after
    state.state = after
    return state


def filter_state(
    batch_size: int, coefficients: Tensor, *, device: torch.device | str | None, dtype: torch.dtype | None
) -> FilterState:
    """The state of a filter bank at rest.

    Args:
        batch_size: Number of rows B.
        coefficients: One for each number of the state, (D, n), which also tell device and type where those are None.
        device: Where the state lives.
        dtype: Type of the signals to come; the state is kept in float32 or wider.
    """
    kind = signal_dtype(dtype or coefficients.dtype)
    return torch.zeros(batch_size, *coefficients.shape, device=device or coefficients.device, dtype=kind)


def extend_filter(
    u: Signal,
    system: System,
    state: FilterState | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    method: Method,
) -> tuple[Signal, FilterState]:
    """Filter a chunk from a state and make sure that the state survived.

    Args:
        u: Next samples, (B, L, D).
        system: D filters.
        state: State before the chunk, (B, D, n); None means rest.
        lengths: Number of valid samples of each row, (B,); None means all.
        resets: True where the state is cleared before the sample, (B, L); None means nowhere.
        method: As for :func:`linear_filter`.

    Raises:
        StateOverflowError: if the state is no longer finite.
    """
    if state is None:
        warn_if_unstable(system.a, u.shape[1], stacklevel=4)
    else:
        check_state(state, (u.shape[0], system.channels, system.order), "batch, channels, order")
    y, after = linear_filter(u, system, state, lengths=lengths, resets=resets, method=method)
    assert after is not None
    check_finite(after, system.a, u)
    return y, after


def step_filter(u_t: Sample, b: Tensor, a: Tensor, h0: Tensor, state: FilterState) -> tuple[Sample, FilterState]:
    """One step of the companion recurrence: w = u - a . x, y = h0 u + b . x, x' = (w, x_1, ..., x_(n-1)).

    Args:
        u_t: Sample, (B, D).
        b: True numerator, (D, n).
        a: Denominator, (G, n).
        h0: True feedthrough, (D).
        state: x, (B, D, n).

    Raises:
        StateOverflowError: if the state is no longer finite.
    """
    check_state(state, (u_t.shape[0], *b.shape), "batch, channels, order")
    given, dtype = u_t.dtype, signal_dtype(u_t.dtype)
    u, x, b, a, h0 = (c if c.dtype == dtype else c.to(dtype) for c in (u_t, state, b, a, h0))
    if u.device.type == "cpu" and is_plain(u, x, b, a, h0):
        y, after, finite = step(u, x, b, a, h0)
    else:
        w = u - (x.unflatten(1, (len(a), -1)) * a[:, None]).sum(-1).flatten(1)
        y = h0 * u + (b * x).sum(-1)
        after, finite = torch.cat((w[..., None], x), -1)[..., : x.shape[-1]], False
    if not finite:
        check_finite(after[..., :1], a, u)
    return y if given == dtype else y.to(given), after
