"""Runs made from other runs: the same model with other filters, in a folder that is loaded and judged like any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from transferfn.files import write_json
from transferfn.models.parameters import count_parameters
from transferfn.models.substitutes import substitutes_in
from transferfn.tasks import TextCorpusConfig
from transferfn.training.config import TrainConfig
from transferfn.training.objective import Metric
from transferfn.training.run import Result, RunError, RunFolder
from transferfn.training.serialize import to_dict
from transferfn.training.tokens import read_tokens, write_tokens


def check_target(out: Path, *, source: Path) -> None:
    """Refuse a folder in which a derived run would take the place of anything but a derived run.

    Args:
        out: The folder.
        source: Folder of the run that is to be derived from.

    Raises:
        RunError: if it is the source, no folder, or not empty and without the mark of a derived run.
    """
    if out.resolve() == source.resolve():
        raise RunError(f"{out} is the run itself, which would be lost: choose another folder with --out")
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file, expected a folder: choose another one with --out")
    folder = RunFolder(path=out)
    if out.is_dir() and any(out.iterdir()) and not folder.derived.exists():
        raise RunError(
            f"{out} is not empty, and nothing says that reduce or distill wrote it ({folder.derived.name} is missing), "
            "so a run that was trained might be lost: choose another folder with --out, or delete that one"
        )


def write_derived(
    out: Path,
    model: nn.Module,
    *,
    how: str,
    source: Path,
    original: nn.Module,
    config: TrainConfig,
    metric: Metric,
    score: float,
    loss: float,
    samples: int,
) -> None:
    """Write a model whose filters were replaced as the folder of a finished run; a derived run there is replaced.

    Args:
        out: The folder.
        model: The model.
        how: What was done, such as "distilled to order 16".
        source: Folder of the run that it was made from; how long and how far that was trained is taken over.
        original: The model of that run.
        config: Its configuration.
        metric: What scores are.
        score: Score of the model on the test samples.
        loss: Its mean loss on them.
        samples: How many there are.

    Raises:
        RunError: if the folder holds anything but a derived run, or cannot be written.
    """
    from transferfn.training.checkpoint import write_weights

    check_target(out, source=source)
    folder, origin = RunFolder(path=out), RunFolder(path=source)
    before, trained = origin.read_derivation(), origin.read_result()
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
        out.mkdir(parents=True, exist_ok=True)
        # First: what is left by an interruption may then be replaced.
        write_json(folder.derived, {"source": str(source), "how": how if before is None else f"{before}, {how}"})
        write_weights(folder.best, model, config, substitutes_in(model, original))
        if isinstance(config.data, TextCorpusConfig):
            write_tokens(folder, config, read_tokens(origin, config.data))
        write_json(folder.config, {"config": to_dict(config)})
        write_json(folder.result, to_dict(result))
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error}): choose another folder with --out") from None
