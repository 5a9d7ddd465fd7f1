"""The short convolution in front of gated layers: a few taps a channel; its state is the samples they reach back to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from transferfn.core.checks import check_at_least_one
from transferfn.core.system import TransferFunction
from transferfn.nn.cache import beginnings
from transferfn.nn.mixer import (
    SequenceMixer,
    check_boundaries,
    check_sample,
    check_signal,
    check_state,
    valid_samples,
)
from transferfn.nn.options import parameter_dtype
from transferfn.nn.precision import WideCoefficients, widest
from transferfn.ops.boundaries import state_at
from transferfn.ops.filter import at_rest, signal_dtype
from transferfn.typing import FilterState, Sample, Signal, State


class ShortConvolution(WideCoefficients, SequenceMixer):
    r"""A causal convolution with a few taps, each channel with its own.

    y_t = bias + taps_0 u_t + taps_1 u_(t-1) + ... + taps_(w-1) u_(t-w+1)

    Its state, (B, D, w - 1), holds the last samples, newest first, as they are: one that is not finite is no error, and
    is forgotten after w - 1 others.

    Args:
        channels: Number of channels D.
        width: Number of taps w.
        bias: Whether a learned constant is added.
        device: Where the parameters live.
        dtype: Their type; None means PyTorch's default. Types narrower than float32 become float32.

    Raises:
        TypeError: if a size is no whole number.
        ValueError: if a size is less than 1.

    Source:
        Poli et al. 2023, arXiv:2302.10866. The taps of a ``torch.nn.Conv1d`` with ``groups=D`` are these from last to
        first.

    Example:
        >>> layer = ShortConvolution(4, width=3)
        >>> u = torch.randn(2, 10, 4)
        >>> y, state = layer.extend(u[:, :9])
        >>> last, state = layer.step(u[:, 9], state)
        >>> torch.allclose(torch.cat((y, last[:, None]), 1), layer(u), atol=1e-5)
        True
    """

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_at_least_one(channels=channels, width=width)
        self.channels, self.width = channels, width
        dtype = parameter_dtype(dtype)
        self.taps = nn.Parameter(torch.empty(channels, width, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew, uniform in +-1/sqrt(w).

        Args:
            generator: Source of randomness; None means PyTorch's default.
        """
        bound = self.width**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def transfer_function(self) -> TransferFunction:
        """The filters without the bias: taps_1, ..., taps_(w-1) over 1, and a feedthrough of taps_0; differentiable."""
        wide = widest(self.taps)
        return TransferFunction(wide[:, 1:], torch.zeros_like(wide[:1, 1:]), wide[:, 0])

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        return self._convolve(u, at_rest(u, self.width - 1), lengths, resets)[0]

    @override
    def extend(
        self, u: Signal, state: State = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Signal, State]:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        if state is None:
            state = at_rest(u, self.width - 1)
        else:
            check_state(state, (u.shape[0], self.channels, self.width - 1), "batch, channels, width - 1")
        y, recent = self._convolve(u, state, lengths, resets)
        return y, state_at(recent, self.width - 1, lengths, resets) if u.numel() else state

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, State]:
        check_sample(u_t, self.channels)
        y, state = self.extend(u_t[:, None], state)
        return y[:, 0], state

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FilterState:
        return torch.zeros(
            batch_size,
            self.channels,
            self.width - 1,
            device=device or self.taps.device,
            dtype=signal_dtype(dtype or self.taps.dtype),
        )

    def extra_repr(self) -> str:
        """Sizes and options, for ``print``."""
        return f"{self.channels}, width={self.width}" + ("" if self.bias is not None else ", bias=False")

    def _convolve(
        self, u: Signal, state: FilterState, lengths: Tensor | None, resets: Tensor | None
    ) -> tuple[Signal, Tensor]:
        """Output of a chunk, and its samples with those of the state in front."""
        given, dtype, length = u.dtype, signal_dtype(u.dtype), u.shape[1]
        valid = None if lengths is None else valid_samples(lengths, length)[..., None]
        u = u.to(dtype) if valid is None else torch.where(valid, u.to(dtype), 0)
        recent = torch.cat((state.to(dtype).flip(-1).mT, u), 1)
        since = None
        if resets is not None and length:
            oldest = torch.full(u.shape[:1], self.width, device=u.device)
            since = (torch.arange(length, device=u.device) - beginnings(oldest, length, resets))[..., None]
        y = torch.zeros_like(u) if self.bias is None else self.bias.to(dtype).expand_as(u)
        for lag, tap in enumerate(self.taps.to(dtype).unbind(-1)):
            begin = self.width - 1 - lag
            sample = recent[:, begin : begin + length]
            y = y + tap * (sample if since is None or lag == 0 else torch.where(since >= lag, sample, 0))
        y = y if valid is None else torch.where(valid, y, 0)
        return y.to(given), recent
