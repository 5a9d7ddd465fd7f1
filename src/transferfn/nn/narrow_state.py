"""Filters whose states are stored in a narrow type: half the memory where many streams run side by side."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from transferfn.nn.mixer import SequenceMixer
from transferfn.ops.filter import signal_dtype
from transferfn.typing import Sample, Signal, State


class NarrowState(SequenceMixer):
    """A filter with its state rounded to another type after each call; it computes in that of its signals.

    What is rounded depends on where a signal is cut, so that chunks and steps agree up to the rounding of states.

    Args:
        mixer: A causal filter whose state is one tensor, such as :class:`Realization` in any of its forms.
        dtype: Type that the state is kept in, e.g. ``torch.bfloat16``.

    Example:
        >>> from transferfn.nn import RTF
        >>> layer = NarrowState(RTF(4, 2, horizon=16).realize(), torch.bfloat16)
        >>> y, state = layer.extend(torch.ones(3, 5, 4))
        >>> y.dtype, state.dtype, layer.step(torch.ones(3, 4), state)[1].dtype
        (torch.float32, torch.bfloat16, torch.bfloat16)
    """

    def __init__(self, mixer: SequenceMixer, dtype: torch.dtype) -> None:
        super().__init__()
        self.mixer, self.dtype, self.is_causal = mixer, dtype, mixer.is_causal

    @override
    def forward(self, u: Signal, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Signal:
        return self.mixer(u, lengths=lengths, resets=resets)

    @override
    def extend(
        self, u: Signal, state: State = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Signal, State]:
        before = None if state is None else state.to(signal_dtype(u.dtype))
        y, after = self.mixer.extend(u, before, lengths=lengths, resets=resets)
        return y, after.to(self.dtype)

    @override
    def step(self, u_t: Sample, state: State) -> tuple[Sample, State]:
        y_t, after = self.mixer.step(u_t, state.to(signal_dtype(u_t.dtype)))
        return y_t, after.to(self.dtype)

    @override
    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        return self.mixer.init_state(batch_size, device=device, dtype=dtype).to(self.dtype)

    def extra_repr(self) -> str:
        """Type of the state, for ``print``."""
        return f"dtype={self.dtype}"
