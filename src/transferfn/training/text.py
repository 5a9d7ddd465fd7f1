"""Recipes of language models: bytes of Python's standard library on a laptop, and the paper's WikiText-103."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transferfn.models.language_config import LanguageModelConfig, small, tiny
from transferfn.tasks import TextCorpusConfig
from transferfn.training.config import OptimizerConfig, TrainConfig
from transferfn.training.variant import DEFAULT, Variant

_OPTIMIZER = OptimizerConfig(weight_decay=0.1, betas=(0.9, 0.95), floor=0.1, clip=1.0)


def lm(variant: Variant = DEFAULT) -> TrainConfig:
    """Language model of the source of Python's standard library, which every machine has; small: a million parameters.

    Args:
        variant: Which form of it.
    """
    mixer = variant.language_mixer
    if variant.size == "small":
        config = TrainConfig(
            data=TextCorpusConfig(length=256),
            model=tiny(257, mixer=mixer, horizon=256),
            optimizer=replace(_OPTIMIZER, lr=4e-3, filter_lr=4e-3),
            epochs=1,
            batch_size=16,
        )
    else:
        config = TrainConfig(
            data=TextCorpusConfig(length=1024),
            model=small(257, mixer=mixer, horizon=1024),
            optimizer=replace(_OPTIMIZER, lr=2e-3, filter_lr=1e-3),
            epochs=10,
            batch_size=32,
        )
    if mixer not in ("hyena-rtf", "rtf"):
        return config
    # Text is local at first: filters begin without memory, and learn it fast where parameters keep them stable.
    return replace(
        config, model=replace(config.model, init="zeros"), optimizer=replace(config.optimizer, filter_lr=0.03)
    )


def wikitext(variant: Variant = DEFAULT) -> TrainConfig:
    """WikiText-103 with Hyena-RTF as in the paper, 125 million parameters; needs the corpus and GPT-2's tokenizer.json.

    Args:
        variant: Which form of it.
    """
    full = TrainConfig(
        data=TextCorpusConfig(
            source="wikitext-103",
            path=Path("wikitext-103"),
            tokenizer="bpe",
            tokenizer_file=Path("tokenizer.json"),
            length=1024,
        ),
        model=LanguageModelConfig(mixer=variant.language_mixer),
        optimizer=OptimizerConfig(
            lr=1e-3, weight_decay=0.25, filter_lr=1e-3, filter_weight_decay=0.0, warmup=0.01, floor=0.1, clip=1.0
        ),
        epochs=100,
        batch_size=128,
        precision="16-mixed",
    )
    if variant.size == "full":
        return full
    return replace(
        full,
        data=TextCorpusConfig(length=128),
        model=replace(full.model, vocabulary=264, width=64, layers=2, mlp=256, order=16, horizon=128, rank=32, heads=4),
        optimizer=replace(full.optimizer, lr=4e-3, filter_lr=4e-3),
        epochs=1,
        batch_size=32,
        precision="32-true",
    )
