"""Everything built around a mixer that must obey the contract, small, with every parameter and average stirred."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.leaky import LeakyIntegrator
from transferfn.models import Backbone, Classifier
from transferfn.nn.block import Block
from transferfn.nn.mixer import SequenceMixer

CHANNELS, INPUTS, TOKENS, CLASSES = 4, 2, 11, 3

Build = Callable[..., nn.Module]


def leaky() -> SequenceMixer:
    return LeakyIntegrator(CHANNELS)


def block(mixer: Callable[[], SequenceMixer] = leaky, **options: Any) -> nn.Module:
    return Block(CHANNELS, mixer(), **options)


def backbone(mixer: Callable[[], SequenceMixer] = leaky, **options: Any) -> Backbone:
    return Backbone(CHANNELS, 2, mixer, **options)


def classifier(mixer: Callable[[], SequenceMixer] = leaky, *, head: str, **options: Any) -> nn.Module:
    return Classifier(backbone(mixer, **options), CLASSES, head=head)


SUBJECTS: dict[str, Build] = {
    "block": block,
    "block-post": partial(block, prenorm=False),
    "block-layer": partial(block, norm="layer"),
    "block-layer-post": partial(block, norm="layer", prenorm=False),
    "block-bare": partial(block, norm=None, gelu=False, glu=False, residual=False),
    "backbone": partial(backbone, inputs=INPUTS),
    "backbone-post": partial(backbone, inputs=INPUTS, prenorm=False),
    "backbone-tokens-layer": partial(backbone, vocabulary=TOKENS, norm="layer"),
    "classifier-mean": partial(classifier, head="mean", inputs=INPUTS),
    "classifier-last": partial(classifier, head="last", vocabulary=TOKENS),
    "classifier-per_step": partial(classifier, head="per_step", inputs=INPUTS, norm="layer", prenorm=False),
}


def make(build: Build, *, dtype: torch.dtype = torch.float64, training: bool = False, **options: Any) -> nn.Module:
    """Build a subject whose norms and biases are not at their trivial start."""
    torch.manual_seed(0)
    module = build(**options).to(dtype)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.dim() == 1 and "mixer" not in name:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return module.train(training)


def draw(module: nn.Module, batch_size: int, length: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw an input that the subject takes, from a fixed seed."""
    generator = torch.Generator().manual_seed(1000 * batch_size + length)
    if takes_tokens(module):
        return torch.randint(TOKENS, (batch_size, length), generator=generator)
    width = CHANNELS if isinstance(module, Block) else INPUTS
    return torch.randn(batch_size, length, width, generator=generator, dtype=torch.float64).to(dtype)


def takes_tokens(module: nn.Module) -> bool:
    return any(isinstance(child, nn.Embedding) for child in module.modules())


def pooled(module: nn.Module) -> bool:
    """Whether there is one output for all samples so far, not one a sample."""
    return isinstance(module, Classifier) and module.head != "per_step"
