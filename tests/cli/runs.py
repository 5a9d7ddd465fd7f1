"""Runs of language models that were never trained, as quick to make as they are small."""

from __future__ import annotations

from pathlib import Path

import torch

from transferfn.files import write_json
from transferfn.models import LanguageModel, LanguageModelConfig
from transferfn.models.language_config import LanguageMixer
from transferfn.tasks import TextCorpusConfig
from transferfn.training import TrainConfig
from transferfn.training.checkpoint import write_weights
from transferfn.training.run import RunFolder
from transferfn.training.serialize import to_dict

LENGTH = 32


def write_run(folder: Path, mixer: LanguageMixer, *, order: int = 8) -> RunFolder:
    """Write the folder of a run with one layer of width 4, and a few texts beside it.

    Args:
        folder: Where.
        mixer: What mixes tokens.
        order: Order of its filters, if they have one.
    """
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for number in range(30):
        (texts / f"{number}.txt").write_text(f"# {number}\n" + "def f(x):\n    return x + 1\n\n\n" * 4)
    model = LanguageModelConfig(
        vocabulary=257, mixer=mixer, width=4, layers=1, mlp=4, order=order, horizon=LENGTH, init="comb",
        constraint="reflection", rank=None, heads=1, dropout=0.0,
    )  # fmt: skip
    config = TrainConfig(
        data=TextCorpusConfig(source="files", path=texts, length=LENGTH, validation=0.1, test=0.1), model=model
    )
    run = RunFolder(path=folder / "run")
    torch.manual_seed(0)
    write_weights(run.best, LanguageModel.from_config(model), config, {})
    write_json(run.config, {"config": to_dict(config)})
    return run
