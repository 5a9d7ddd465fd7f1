"""Which options do nothing with the mixer that is chosen.

A configuration holds values for all of them, from its recipe, and old runs have some there; so it is what was asked for
that is refused, not what is held.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from transferfn.training.config import AnyModelConfig, TrainConfig

_OF_RTF = ("denominator_groups", "numerator", "init", "feedthrough", "constraint")


def idle_options(model: AnyModelConfig) -> list[str]:
    """Return the options that do nothing with the mixer of a model, by their places in the configuration of a run.

    Args:
        model: The model.

    Example:
        >>> from transferfn.training.config import ModelConfig
        >>> idle_options(ModelConfig(mixer="hyena"))
        ['model.heads', 'model.order', 'model.denominator_groups', 'model.numerator', 'model.init', \
'model.feedthrough', 'model.constraint']
    """
    mixer = model.mixer
    idle = [] if mixer == "attention" else ["heads"]
    idle += ["order"] if mixer in ("attention", "hyena") else []
    idle += [] if mixer in ("rtf", "hyena-rtf") else _OF_RTF
    idle += [] if mixer.startswith("hyena") else ["rank", "short_width"]
    rates = ("filter_lr", "filter_weight_decay") if mixer == "attention" else ()  # there are no filters
    known = [f"model.{name}" for name in idle if hasattr(model, name)]
    return known + [f"optimizer.{name}" for name in rates]


def refuse_idle(config: TrainConfig, recipe: TrainConfig) -> None:
    """Raise if an option that does nothing was given another value than a recipe's.

    Args:
        config: The configuration.
        recipe: What the recipe has for that mixer.

    Raises:
        ValueError: naming the option.
    """
    for name in idle_options(config.model):
        if (value := _at(config, name)) != _at(recipe, name):
            raise ValueError(
                f"{name} does nothing with --mixer {config.model.mixer}, got {value}: leave it out, or choose a mixer "
                "that has it"
            )


def refuse_idle_search(search: dict[str, tuple[Any, ...]], config: TrainConfig) -> None:
    """Raise if an option to search does nothing with any of the mixers that are tried.

    Args:
        search: Options, and the values of each where these are listed.
        config: What the runs have in common.

    Raises:
        ValueError: naming the option.
    """
    mixers = search.get("model.mixer", (config.model.mixer,))
    idle = [idle_options(replace(config.model, mixer=mixer)) for mixer in mixers]
    for name in search:
        if all(name in names for names in idle):
            raise ValueError(f"{name} does nothing with --mixer {', '.join(mixers)}: there is nothing to search")


def _at(config: TrainConfig, name: str) -> Any:
    part, option = name.split(".")
    return getattr(getattr(config, part), option)
