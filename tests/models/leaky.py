"""Two readable mixers that keep the whole contract, to test what is built around a mixer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from transferfn.nn.mixer import SequenceMixer, check_boundaries, check_sample, check_signal


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class LeakyIntegrator(SequenceMixer):
    """y_t = x_t = r x_{t-1} + u_t, one leak r a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.leak = nn.Parameter(torch.linspace(-0.9, 0.95, channels))

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        return self.extend(u, lengths=lengths, resets=resets)[0]

    def extend(
        self, u: Tensor, state: Any = None, *, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        check_signal(u, self.channels)
        check_boundaries(u, lengths, resets)
        x = self.init_state(u.shape[0], device=u.device, dtype=u.dtype) if state is None else state
        ys = []
        for t in range(u.shape[1]):
            start = x if resets is None else torch.where(resets[:, t, None], 0, x)
            y = self.leak * start + u[:, t]
            if lengths is not None:
                valid = (t < lengths)[:, None]
                x, y = torch.where(valid, y, x), torch.where(valid, y, 0)
            else:
                x = y
            ys.append(y.to(u.dtype))
        return torch.stack(ys, 1) if ys else u, x

    def step(self, u_t: Tensor, state: Any) -> tuple[Tensor, Any]:
        check_sample(u_t, self.channels)
        x = self.leak * state + u_t
        return x.to(u_t.dtype), x

    def init_state(
        self, batch_size: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Any:
        device = self.leak.device if device is None else device
        return torch.zeros(batch_size, self.channels, device=device, dtype=wide(dtype or self.leak.dtype))

    def filter_parameters(self) -> list[nn.Parameter]:
        return [self.leak]

    def realize(self) -> RealizedIntegrator:
        return RealizedIntegrator(self)


class RealizedIntegrator(LeakyIntegrator):
    """What `LeakyIntegrator.realize` returns: no parameters."""

    def __init__(self, source: LeakyIntegrator) -> None:
        super().__init__(source.channels)
        del self.leak
        self.register_buffer("leak", source.leak.detach().clone())

    def filter_parameters(self) -> list[nn.Parameter]:
        return []


class LookingAhead(SequenceMixer):
    """y_t = sum of u_s over s >= t, up to the row's length and the next reset: not causal, no parameters."""

    is_causal = False

    def forward(self, u: Tensor, *, lengths: Tensor | None = None, resets: Tensor | None = None) -> Tensor:
        check_boundaries(u, lengths, resets)
        x = torch.zeros_like(u[:, 0])
        ys = []
        for t in reversed(range(u.shape[1])):
            x = x + u[:, t]
            if lengths is not None:
                x = torch.where((t < lengths)[:, None], x, 0)
            ys.append(x)
            if resets is not None:
                x = torch.where(resets[:, t, None], 0, x)
        return torch.stack(ys[::-1], 1)
