"""Everything that keeps the contract. A new mixer joins the laws by adding one line to `MIXERS`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from laws.filters import step_up
from transferfn.models import Backbone
from transferfn.nn import RTF, Block


@dataclasses.dataclass(frozen=True)
class Mixer:
    """A way to build a mixer.

    Attributes:
        name: What it is called in test ids.
        build: Makes one in PyTorch's default type, its randomness from PyTorch's default generator.
        channels: Number of channels of its input.
        mixes_channels: Whether an output depends on more than its own channel.
    """

    name: str
    build: Callable[[], Any]
    channels: int
    mixes_channels: bool = False

    def __str__(self) -> str:
        return self.name

    def make(self, dtype: torch.dtype = torch.float64, *, training: bool = False) -> Any:
        """Build it, always the same, with norms and biases away from their trivial start."""
        torch.manual_seed(0)
        mixer = self.build().to(dtype)
        for module in mixer.modules():
            if not hasattr(module, "transfer_function"):
                for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                    if tensor.dim() == 1:
                        nn.init.uniform_(tensor, 0.5, 1.5)
        return mixer.train(training)


def reflections(
    channels: int,
    order: int,
    *,
    horizon: int,
    denominator_groups: int,
    exact: bool,
    generator: torch.Generator | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An initialisation of stable filters with poles anywhere."""
    draw = partial(torch.randn, dtype=torch.float64, generator=generator)
    a = step_up(torch.tanh(0.4 * draw(denominator_groups, order)))
    return draw(channels, order) / order**0.5, a, draw(channels)


rtf = partial(RTF, 4, 4, horizon=32)

MIXERS = [
    Mixer("rtf", rtf, channels=4),
    Mixer("rtf-exact-tied", partial(rtf, numerator="exact", denominator_groups=1, init=reflections), channels=4),
    Mixer("rtf-l1", partial(rtf, constraint="l1", denominator_groups=2, init="montel"), channels=4),
    Mixer("rtf-reflection-fft", partial(rtf, constraint="reflection", method="fft", init=reflections), channels=4),
    Mixer(
        "rtf-scan", partial(RTF, 6, 7, horizon=32, method="scan", denominator_groups=3, init=reflections), channels=6
    ),
    Mixer("rtf-dropout", partial(rtf, kernel_dropout=0.25), channels=4),
    Mixer("rtf-long", partial(RTF, 2, 66, horizon=67, init="montel"), channels=2),
    Mixer("realization", lambda: rtf(init=reflections).realize(), channels=4),
    Mixer("block", lambda: Block(4, rtf()), channels=4, mixes_channels=True),
    Mixer("block-post", lambda: Block(4, rtf(), norm="layer", prenorm=False), channels=4, mixes_channels=True),
    Mixer("backbone", lambda: Backbone(4, 2, rtf, inputs=3), channels=3, mixes_channels=True),
    Mixer("rtf-both", partial(rtf, bidirectional=True), channels=4),
    Mixer(
        "rtf-both-scan",
        partial(rtf, bidirectional=True, numerator="exact", constraint="reflection", method="scan", init=reflections),
        channels=4,
    ),
    Mixer("block-both", lambda: Block(4, rtf(bidirectional=True)), channels=4, mixes_channels=True),
]
CAUSAL = [mixer for mixer in MIXERS if mixer.build().is_causal]
