"""Runs made from other runs: the same model with other filters, in a folder that is loaded and judged like any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from transferfn.models.substitutes import substitutes_in
from transferfn.training.config import TrainConfig, to_dict
from transferfn.training.fit import count_parameters
from transferfn.training.objective import Metric
from transferfn.training.run import Result, RunError, RunFolder, write_json


def write_derived(
    out: Path,
    model: nn.Module,
    *,
    source: Path,
    original: nn.Module,
    config: TrainConfig,
    metric: Metric,
    score: float,
    loss: float,
    samples: int,
) -> None:
    """Write a model whose filters were replaced as the folder of a finished run; what was there is replaced.

    Args:
        out: The folder.
        model: The model.
        source: Folder of the run that it was made from; how long and how far that was trained is taken over.
        original: The model of that run.
        config: Its configuration.
        metric: What scores are.
        score: Score of the model on the test samples.
        loss: Its mean loss on them.
        samples: How many there are.

    Raises:
        RunError: if the folder holds a run that was trained, or cannot be written.
    """
    from transferfn.training.checkpoint import write_weights

    folder = RunFolder(path=out)
    if out.resolve() == source.resolve() or folder.last.exists():
        raise RunError(f"{out} holds a run that was trained, and would be lost: choose another folder with --out")
    trained = RunFolder(path=source).read_result()
    if trained is None:  # interrupted: its best epoch so far is all that is known
        trained = Result(
            metric=metric,
            test_score=score,
            test_loss=loss,
            test_samples=samples,
            validation_score=None,
            best_epoch=0,
            steps=0,
            parameters=0,
            seconds=0.0,
            peak_memory=0,
        )
    result = replace(
        trained,
        test_score=score,
        test_loss=loss,
        test_samples=samples,
        validation_score=None,
        parameters=count_parameters(model),
    )
    try:
        folder.clear()
        write_weights(folder.best, model, config, substitutes_in(model, original))
        write_json(folder.config, {"config": to_dict(config)})
        write_json(folder.result, to_dict(result))
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error}): choose another folder with --out") from None
