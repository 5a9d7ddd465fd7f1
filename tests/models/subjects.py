"""Backbones and classifiers, small, with every parameter and average stirred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.leaky import LeakyIntegrator
from transferfn.models import Backbone, Classifier
from transferfn.nn.mixer import SequenceMixer

CHANNELS, INPUTS, TOKENS, CLASSES = 4, 2, 11, 3


def leaky() -> SequenceMixer:
    return LeakyIntegrator(CHANNELS)


def backbone(mixer: Callable[[], SequenceMixer] = leaky, **options: Any) -> Backbone:
    return Backbone(CHANNELS, 2, mixer, **options)


def classifier(mixer: Callable[[], SequenceMixer] = leaky, *, head: str, **options: Any) -> nn.Module:
    return Classifier(backbone(mixer, **options), CLASSES, head=head)


def make(
    build: Callable[..., nn.Module], *, dtype: torch.dtype = torch.float64, training: bool = False, **options: Any
) -> nn.Module:
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
    if any(isinstance(child, nn.Embedding) for child in module.modules()):
        return torch.randint(TOKENS, (batch_size, length), generator=generator)
    return torch.randn(batch_size, length, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
