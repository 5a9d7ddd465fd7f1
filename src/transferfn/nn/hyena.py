"""The Hyena operator: long filters between gates, with filters of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from typing_extensions import override

from transferfn.core.checks import check_whole
from transferfn.nn.block import Realizable
from transferfn.nn.long_conv import FilterBank
from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    valid_samples,
)
from transferfn.nn.short_conv import ShortConvolution
from transferfn.typing import Sample, Signal, State


class Hyena(SequenceMixer):
    r"""Long filters between gates, both of them made of the input.

    With x^0, ..., x^(O-1), v the outputs of a linear map and a short convolution of each of its channels,
    v <- filter(x^i * v) for i = O-1, ..., 1, and y = W (x^0 * v) + c.

    It composes mixers and leaves the filtering to them, so that it runs as they do: with recurrent filters, such as
    :class:`RTF`, at every length and with steps of constant cost (that is Hyena-RTF); with an :class:`ImplicitFilter`
    up to its horizon, with steps whose cost grows with the number of samples so far. The state is the tuple of the
    short convolution's and the filters' states.

    Args:
        channels: Number of channels D.
        filter: What filters each channel along time: a function without arguments, called once for each of the O - 1
            filters, or the filters themselves. They may be bidirectional, and then so is this layer.
        order: Order O, at least 2: the number of gates.
        short_width: Number of taps of the short convolution.
        rank: What W is made of: None means a linear map; a number R means RMSNorm, a linear map to R channels, GELU and
            a linear map back, the low-rank mixer of Hyena-RTF.
        dropout: Probability of dropping an input of a filter.
        device: Where the parameters live, those of the filters aside.
        dtype: Their type; None means PyTorch's default.

    Raises:
        TypeError: if a size is no whole number, or a filter no mixer.
        ValueError: if a size makes no sense, or the filters do not fit.

    Source:
        Poli et al. 2023, arXiv:2302.10866, with the skip terms of its official implementation, which belong to
        :class:`ImplicitFilter`; with RTF, and the low-rank mixer: Parnichkun et al. 2024, arXiv:2405.06147, and its
        official implementation.

    Example:
        >>> from transferfn.nn import RTF, ImplicitFilter
        >>> layer = Hyena(8, filter=lambda: RTF(8, 4, horizon=64))
        >>> u = torch.randn(2, 10, 8)
        >>> y, state = layer.extend(u[:, :9])
        >>> last, state = layer.step(u[:, 9], state)
        >>> torch.allclose(torch.cat((y, last[:, None]), 1), layer(u), atol=1e-5)
        True

        Two filters that have their network in common:

        >>> layer = Hyena(8, filter=ImplicitFilter(16, horizon=64).split(2), order=3)
    """

    def __init__(
        self,
        channels: int,
        *,
        filter: Callable[[], SequenceMixer] | Sequence[SequenceMixer],
        order: int = 2,
        short_width: int = 3,
        rank: int | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = [("channels", channels, 1), ("order", order, 2), ("short_width", short_width, 1)]
        for name, size, least in sizes if rank is None else [*sizes, ("rank", rank, 1)]:
            check_whole(name, size)
            if size < least:
                raise ValueError(f"{name} must be at least {least}, got {size}")
        self.channels, self.order = channels, order
        inner = (order + 1) * channels
        self.input = nn.Linear(channels, inner, device=device, dtype=dtype)
        self.short = ShortConvolution(inner, short_width, device=device, dtype=dtype)
        self.filters = nn.ModuleList(_filters(filter, channels, order - 1))
        self.dropout = nn.Dropout(dropout)
        if rank is None:
            self.output = nn.Linear(channels, channels, device=device, dtype=dtype)
        else:
            self.output = nn.Sequential(
                nn.RMSNorm(channels, eps=1e-6, device=device, dtype=dtype),
                nn.Linear(channels, rank, device=device, dtype=dtype),
                nn.GELU(),
                nn.Linear(rank, channels, device=device, dtype=dtype),
            )
        self.is_causal = all(mixer.is_causal for mixer in self._mixers())

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)

        def run(mixer: SequenceMixer, u: Tensor, state: State) -> tuple[Tensor, State]:
            return mixer(u, lengths=lengths, resets=resets), state

        return self._padded(run, u, (None,) * self.order, lengths)[0]

    @override
    def extend(
        self, u: Signal, state: State = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Signal, State]:
        self._require_causal("extend")
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)

        def run(mixer: SequenceMixer, u: Tensor, state: State) -> tuple[Tensor, State]:
            return mixer.extend(u, state, lengths=lengths, resets=resets)

        return self._padded(run, u, (None,) * self.order if state is None else self._check_state(state), lengths)

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, State]:
        self._require_causal("step")
        check_sample(u_t, self.channels)
        return self._run(lambda mixer, u_t, state: mixer.step(u_t, state), u_t, self._check_state(state))

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        self._require_causal("init_state")
        return tuple(mixer.init_state(batch_size, device=device, dtype=dtype) for mixer in self._mixers())

    @override
    def init_stream(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        self._require_causal("init_stream")
        return tuple(mixer.init_stream(batch_size, device=device, dtype=dtype) for mixer in self._mixers())

    def realize(self) -> Hyena:
        """Return a copy for decoding: in eval mode, without gradients, its filters realized where they can be.

        Raises:
            NotCausalError: if a filter looks ahead.
        """
        self._require_causal("realize")
        layer = deepcopy(self).requires_grad_(False)
        layer.filters = nn.ModuleList(
            mixer.realize().requires_grad_(False) if isinstance(mixer, Realizable) else mixer
            for mixer in layer._mixers()[1:]
        )
        return layer.eval()

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"{self.channels}, order={self.order}"

    def _mixers(self) -> list[SequenceMixer]:
        """What has a state: the short convolution, then the filters."""
        return [self.short, *self.filters]  # pyright: ignore[reportReturnType]

    def _run(
        self, run: Callable[[SequenceMixer, Tensor, State], tuple[Tensor, State]], u: Tensor, states: tuple[State, ...]
    ) -> tuple[Tensor, tuple[State, ...]]:
        """The operator, its mixers run by one of their verbs."""
        given = u.dtype
        u = u.to(self.input.weight.dtype)
        parts, after = run(self.short, self.input(u), states[0])
        *gates, v = parts.chunk(self.order + 1, -1)
        afters = [after]
        for mixer, gate, state in zip(self._mixers()[1:], reversed(gates[1:]), states[1:], strict=True):
            v, after = run(mixer, self.dropout(gate * v), state)
            afters.append(after)
        return self.output((gates[0] * v).to(u.dtype)).to(given), tuple(afters)  # autocast narrows linear maps

    def _padded(
        self,
        run: Callable[[SequenceMixer, Tensor, State], tuple[Tensor, State]],
        u: Signal,
        states: tuple[State, ...],
        lengths: Tensor | None,
    ) -> tuple[Signal, tuple[State, ...]]:
        """The same, with padding cleared before and after."""
        if lengths is None:
            return self._run(run, u, states)
        valid = valid_samples(lengths, u.shape[1])[..., None]
        y, after = self._run(run, torch.where(valid, u, 0), states)
        return torch.where(valid, y, 0), after

    def _check_state(self, state: object) -> tuple[State, ...]:
        if not isinstance(state, tuple) or len(state) != self.order:
            found = f"{len(state)} of them" if isinstance(state, tuple) else type(state).__name__
            raise ValueError(
                f"expected a tuple of {self.order} states, that of the short convolution and one a filter, got "
                f"{found}. Begin with init_state()."
            )
        return state


def _filters(
    given: Callable[[], SequenceMixer] | Sequence[SequenceMixer], channels: int, count: int
) -> list[SequenceMixer]:
    """The filters of a layer, made or taken over."""
    if isinstance(given, nn.Module):
        raise TypeError(
            f"filter must be a function that returns a new filter, or a list of filters, got one "
            f"{type(given).__name__}. Pass lambda: {type(given).__name__}(...)."
        )
    if isinstance(given, type) or not (callable(given) or isinstance(given, Sequence)):
        raise TypeError(
            f"filter must be a function that returns a new filter, or a list of filters, got {given!r}. "
            f"Pass for example lambda: RTF({channels}, 16, horizon=1024)."
        )
    filters = [given() for _ in range(count)] if callable(given) else list(given)
    if len(filters) != count:
        raise ValueError(f"a layer of order {count + 1} has {count} filter(s), got {len(filters)}")
    for mixer in filters:
        if not isinstance(mixer, SequenceMixer):
            raise TypeError(f"filters must be mixers, such as RTF(...), got {type(mixer).__name__}")
        if getattr(mixer, "channels", channels) != channels:
            raise ValueError(
                f"filters must have the layer's channels={channels}, got a {type(mixer).__name__} of {mixer.channels}"
            )
    owned = {id(module) for mixer in filters for module in mixer.modules()}
    if any(isinstance(mixer, FilterBank) and id(mixer.whole) not in owned for mixer in filters):
        raise ValueError(
            "a share of a filter is there, but not the one that owns its parameters, which would neither be trained "
            "nor saved: pass all shares that split() returns"
        )
    return filters
