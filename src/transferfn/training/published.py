"""What was published on the experiments of the recipes, to be shown beside one's own runs and labelled so."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from transferfn.tasks import TextCorpusConfig
from transferfn.training.config import TaskConfig, TrainConfig
from transferfn.training.lra import lra_image, lra_listops, lra_path_x, lra_pathfinder, lra_retrieval, lra_text
from transferfn.training.recipes import Recipe, copying, delay
from transferfn.training.serialize import to_dict
from transferfn.training.text import wikitext
from transferfn.training.variant import DEFAULT, Variant

# Parnichkun et al. 2024, arXiv:2405.06147: accuracy on Long Range Arena; no figure where it was chance.
_LRA: dict[str, dict[str, float]] = {
    "listops": {"Transformer": 0.3637, "S4": 0.6129, "S4D": 0.6074, "S5": 0.6215, "SpaceTime": 0.564, "RTF": 0.6159},
    "text": {"Transformer": 0.6427, "S4": 0.8825, "S4D": 0.8703, "S5": 0.8931, "SpaceTime": 0.878, "RTF": 0.8972},
    "retrieval": {"Transformer": 0.5746, "S4": 0.9090, "S4D": 0.9068, "S5": 0.914, "SpaceTime": 0.9145, "RTF": 0.9204},
    "image": {"Transformer": 0.4244, "S4": 0.892, "S4D": 0.8918, "S5": 0.88, "SpaceTime": 0.8627, "RTF": 0.9051},
    "pathfinder": {"Transformer": 0.714, "S4": 0.942, "S4D": 0.9542, "S5": 0.9533, "RTF": 0.9611},
    "path-x": {"S4": 0.9635, "S4D": 0.9732, "S5": 0.9858, "RTF": 0.9632},
}

# The same paper: Copying, accuracy, and Delay, root mean squared error, by order.
_COPYING = {
    64: (0.293, 0.221),
    128: (0.342, 0.933),
    256: (0.350, 1.0),
    512: (0.331, 1.0),
    1024: (0.332, 1.0),
}
_DELAY = {64: (0.41, 0.45), 128: (0.39, 0.45), 256: (0.33, 0.44), 512: (0.22, 0.38), 1024: (0.029, 0.006)}

# The same paper: perplexity a token on WikiText-103, in GPT-2's tokens, of models of about 125 million parameters.
_WIKITEXT = {"Transformer": 18.6, "Hybrid H3": 18.5, "Hyena": 18.5, "Hyena-S5": 18.3, "Hyena-RTF": 18.0}

DISTILLED: dict[int, tuple[float, float]] = {4: (0.018, 0.032), 16: (0.013, 0.009), 64: (0.011, 0.007)}
"""The same paper: mean squared error of its Hyena's filters distilled to transfer functions and modes, by order."""


_RECIPES: dict[str, Recipe] = {
    "listops": lra_listops,
    "text": lra_text,
    "retrieval": lra_retrieval,
    "image": lra_image,
    "pathfinder": lra_pathfinder,
    "path-x": lra_path_x,
    "copying": copying,
    "delay": delay,
}


def experiment(config: TrainConfig) -> str | None:
    """Return which published experiment a run is on, or None if its data is not that of one.

    Where the data lies and what it is drawn or split by does not matter; how much there is and how hard it is does.

    Args:
        config: The run's configuration.

    Example:
        >>> from transferfn.training.recipes import delay, smnist
        >>> experiment(delay()), experiment(smnist())
        ('delay', None)
    """
    if isinstance(config.data, TextCorpusConfig):
        full = config.data.source == "wikitext-103" and config.data.tokenizer == "bpe" and config.data.length == 1024
        return "wikitext" if full else None
    data = _compared(config.data)
    return next((name for name, recipe in _RECIPES.items() if _compared(recipe(DEFAULT).data) == data), None)


def _compared(data: TaskConfig) -> tuple[type, dict[str, Any]]:
    return type(data), {name: value for name, value in to_dict(data).items() if name not in ("path", "seed")}


def published_order(config: TrainConfig) -> int | None:
    """Return the order that the published scores of a run's experiment are those of; None where they have no one order.

    Args:
        config: The run's configuration.

    Example:
        >>> from transferfn.training.recipes import copying, lra_text
        >>> published_order(copying()), published_order(lra_text())
        (1024, None)
    """
    return config.model.order if experiment(config) in ("copying", "delay") else None


def published(config: TrainConfig) -> dict[str, float]:
    """Return the published scores of a run's experiment by layer, for its order where they depend on it.

    They are in the measure of the run: perplexities are told as bits a token, their logarithm.

    Args:
        config: The run's configuration.

    Example:
        >>> from transferfn.training.recipes import delay
        >>> published(delay())
        {'S4': 0.029, 'RTF': 0.006}
    """
    match experiment(config):
        case None:
            return {}
        case "wikitext":
            return {name: math.log2(perplexity) for name, perplexity in _WIKITEXT.items()}
        case "copying":
            found = _COPYING.get(config.model.order)
        case "delay":
            found = _DELAY.get(config.model.order)
        case name:
            return _LRA[name]
    return {} if found is None else dict(zip(("S4", "RTF"), found, strict=True))


def unlike(config: TrainConfig) -> tuple[str, ...]:
    """Return what the published scores of a run's experiment are of and the run is not; nothing where they compare.

    Args:
        config: The run's configuration.

    Example:
        >>> from transferfn.training.recipes import delay
        >>> unlike(delay()), unlike(replace(delay(), epochs=8))
        ((), ('20 epochs',))
    """
    name = experiment(config)
    if name is None:
        return ()
    recipe = wikitext if name == "wikitext" else _RECIPES[name]
    code, paper = (recipe(Variant(mixer=config.model.mixer, source=source)) for source in ("code", "paper"))
    found = []
    if isinstance(config.data, TextCorpusConfig):
        found += ["GPT-2's tokens"] if config.data.tokenizer_file is None else []
    elif to_dict(config.data).get("path", "drawn in the paper, too") is None:
        found.append("published data")
    # What recipes have for attention is this library's own.
    if config.model.mixer == "attention" or _options(config, config) not in (
        _options(code, config),
        _options(paper, config),
    ):
        found.append("paper's options")
    if config.epoch_steps is not None or config.epochs not in (code.epochs, paper.epochs):
        found.append("paper's epochs" if name in _LRA else f"{paper.epochs} epochs")  # there layers have their own
    return tuple(found)


def _options(config: TrainConfig, run: TrainConfig) -> tuple[Any, ...]:
    """What tells options of a run from those of a recipe, but for an order of which there are figures, too."""
    model = config.model if published_order(run) is None else replace(config.model, order=run.model.order)
    return model, config.optimizer, config.batch_size, config.ema, config.precision
