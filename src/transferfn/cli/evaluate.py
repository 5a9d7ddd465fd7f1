"""`transferfn eval RUN`: the best model of a run, judged again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from transferfn.cli.text_scores import score_line
from transferfn.models.parameters import count_parameters
from transferfn.tasks import TextCorpusConfig
from transferfn.training import RunError, evaluate, load_model
from transferfn.training.objective import format_score, objective
from transferfn.training.run import RunFolder
from transferfn.training.tokens import load_splits


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Judge the best model of a run on its test or validation samples."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    split: Literal["test", "validation"] = "test"
    """Which samples."""

    batch_size: int = 64
    """How many at a time."""

    device: str = "cpu"
    """Where to compute: cpu, cuda, mps, ..."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch-size must be at least 1, got {self.batch_size}")


def evaluate_run(command: Evaluate) -> None:
    """Load, judge and print.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if there is no such run or device, or nothing was held out for validation.
    """
    try:
        torch.zeros(1, device=command.device)
    except (RuntimeError, AssertionError) as error:  # the latter of PyTorch that was built without that device
        reason = str(error).splitlines()[0]
        raise RunError(f"--device {command.device} cannot be used here ({reason}): name another, such as cpu") from None
    model, config = load_model(command.run)
    splits = load_splits(RunFolder(path=command.run), config)
    data = splits.test if command.split == "test" else splits.validation
    if data is None:
        raise RunError(f"{command.run} held no samples out for validation: take --split test")
    goal = objective(config.data.signature.target)
    start = time.perf_counter()
    score, loss = evaluate(model, data, goal, batch_size=command.batch_size, device=command.device)
    seconds = time.perf_counter() - start
    print(f"{command.split} {goal.metric} {format_score(goal.metric, score)}, loss {loss:.4g} on {len(data):,} samples")
    if isinstance(config.data, TextCorpusConfig):
        print(score_line(config.data, score, command.split))
    print(f"{count_parameters(model):,} parameters; {len(data) / seconds:,.0f} samples a second on {command.device}")
