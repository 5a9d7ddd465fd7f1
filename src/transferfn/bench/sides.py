"""The sides of a comparison of layers: ours, RTF as it was published, and the floor below any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from transferfn.core import TruncatedTransferFunction
from transferfn.nn import RTF

Shape = tuple[int, int, int]
Numerator = Literal["truncated", "exact"]


@dataclass(frozen=True)
class Side:
    """One way to compute an output.

    Attributes:
        forward: Computes it.
        cotangent: What the output's gradient is in training.
        leaves: What gets gradients in training.
        time_axis: Which axis of the output is time.
        wide: The same of an input (B, L, D) in float64, where rounding could hide what is computed: in float32 the
            published form loses 1e-4 of a response that remembers 100,000 samples.
    """

    forward: Callable[[], Tensor]
    cotangent: Tensor
    leaves: list[Tensor]
    time_axis: int = 1
    wide: Callable[[Tensor], Tensor] | None = None

    def inference(self) -> Tensor:
        """The output, without gradients, as (B, L, D)."""
        with torch.no_grad():
            y = self.forward().detach()
        return y if self.time_axis == 1 else y.mT

    def training(self) -> tuple[Tensor, ...]:
        """All gradients."""
        return torch.autograd.grad(self.forward(), self.leaves, self.cotangent)


class PublishedRTF(nn.Module):
    """The layer's forward pass as the paper writes it: transforms along the time axis of (B, L, D), all in one type.

    Args:
        system: Its coefficients at the start.
        dtype: The type.
    """

    def __init__(self, system: TruncatedTransferFunction, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.horizon = system.horizon
        self.b, self.a, self.h0 = (
            nn.Parameter(x.detach().to(dtype)) for x in (system.b_tilde, system.a, system.h0_tilde)
        )

    def forward(self, u: Tensor) -> Tensor:
        """Filter a signal.

        Args:
            u: Input, (B, L, D), L at most the horizon.
        """
        length = u.shape[1]
        response = torch.fft.rfft(pad(self.b, (1, 0)), self.horizon) / torch.fft.rfft(
            pad(self.a, (1, 0), value=1.0), self.horizon
        )
        kernel = torch.fft.irfft(response, self.horizon)[:, :length].T
        spectrum = torch.fft.rfft(u, 2 * length, dim=1) * torch.fft.rfft(kernel, 2 * length, dim=0)
        return torch.fft.irfft(spectrum, 2 * length, dim=1)[:, :length] + self.h0 * u


def ours(shape: Shape, order: int, numerator: Numerator) -> tuple[Side, RTF]:
    """Our layer, fresh.

    Args:
        shape: B, L and D.
        order: Order n.
        numerator: Which numerator it learns.
    """
    torch.manual_seed(0)
    layer = RTF(shape[2], order, horizon=max(shape[1], order + 1), numerator=numerator)
    u, cotangent = torch.randn(shape, requires_grad=True), torch.randn(shape)
    return Side(lambda: layer(u), cotangent, [u, *layer.parameters()]), layer


def published(shape: Shape, layer: RTF) -> Side:
    """The published form of a layer.

    Args:
        shape: B, L and D.
        layer: Whose filters it has.
    """
    torch.manual_seed(1)
    with torch.no_grad():
        system = layer.transfer_function().truncate(max(shape[1], layer.order + 1))
    theirs = PublishedRTF(system)
    u, cotangent = torch.randn(shape, requires_grad=True), torch.randn(shape)

    def wide(u: Tensor) -> Tensor:
        return PublishedRTF(system, torch.float64)(u.double())

    return Side(lambda: theirs(u), cotangent, [u, *theirs.parameters()], wide=wide)


def floor(shape: Shape, layer: RTF | None = None) -> Side:
    """A convolution with a free kernel and no parametrisation at all, on its favourite layout, (B, D, L).

    Args:
        shape: B, L and D.
        layer: Whose impulse response the kernel is; None means noise.
    """
    torch.manual_seed(1)
    length, channels = shape[1:]
    u, cotangent = torch.randn(shape), torch.randn(shape)
    with torch.no_grad():
        start = torch.randn(channels, length) if layer is None else layer.transfer_function().impulse_response(length)
    kernel, u = nn.Parameter(start.float()), u.mT.contiguous().requires_grad_()

    def forward() -> Tensor:
        spectrum = torch.fft.rfft(u, 2 * length) * torch.fft.rfft(kernel, 2 * length)
        return torch.fft.irfft(spectrum, 2 * length)[..., :length]

    return Side(forward, cotangent.mT.contiguous(), [u, kernel], time_axis=2)
