"""`transferfn distill RUN`: the long filters of a trained model as filters that decode at a constant cost."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from transferfn.cli import text_scores
from transferfn.files import write_json, write_text
from transferfn.tasks import Signature, TextCorpusConfig
from transferfn.training import RunError, TrainConfig, evaluate, load_model
from transferfn.training.objective import objective
from transferfn.training.run import RunFolder
from transferfn.training.tokens import load_splits

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Distill:
    """Turn the long filters of a run's best model into transfer functions; say what it costs and what it gains."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    orders: tuple[int, ...] = (4, 16, 64)
    """Orders of the new filters; each makes a run of its own. Those that no filter can be brought to are left out."""

    steps: int = 20
    """Steps of refinement of each filter at most; 0 keeps the closed form."""

    length: int | None = None
    """Samples of a kernel that count, for layers without a horizon; None takes the length of the run's sequences."""

    out: Path | None = None
    """Folder for the new runs and the report; None takes distilled in the run's folder."""


def distill_run(command: Distill) -> None:
    """Distil to each order, judge before and after, time decoding, write and print.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if there is no run, nothing in it can be distilled to any of the orders, or a folder for the new runs
            holds anything but a derived run.
    """
    from transferfn.analysis.distill_model import distill_model
    from transferfn.bench.machine import machine
    from transferfn.cli import distill_report
    from transferfn.training.derived import check_target, write_derived

    model, config = load_model(command.run)
    length = config.data.signature.length if command.length is None else command.length
    out = command.run / "distilled" if command.out is None else command.out
    layers = layers_by_order(command, model, length)
    for order in layers:  # all of what can be refused, before anything is computed
        check_target(out / f"order-{order}", source=command.run)
    test, goal = load_splits(RunFolder(path=command.run), config).test, objective(config.data.signature.target)
    score, loss = evaluate(model, test, goal)
    found: Row = {
        "machine": machine("torch", "numba"),
        "threads": torch.get_num_threads(),
        "steps": command.steps,
        "metric": goal.metric,
        "models": [{"filters": "before", **scores(config, goal.metric, score)}],
        "filters": [],
        "decoding": {},
    }
    models: dict[str, nn.Module] = {"before": model}
    for order, count in layers.items():
        name = f"order {order}"
        start = time.perf_counter()
        try:
            with tqdm(total=count, desc=name, unit="layer") as bar:
                models[name], errors = distill_model(
                    model, order, length=length, steps=command.steps, progress=lambda _, bar=bar: bar.update()
                )
        except ValueError as error:
            raise RunError(f"{command.run} cannot be distilled to order {order}: {error}") from error
        seconds = time.perf_counter() - start
        score, loss = evaluate(models[name], test, goal)
        write_derived(
            out / f"order-{order}",
            models[name],
            how=f"distilled to order {order}",
            source=command.run,
            original=model,
            config=config,
            metric=goal.metric,
            score=score,
            loss=loss,
            samples=len(test),
        )
        found["filters"] += distill_report.filter_rows(order, errors, powers(model, errors, length))
        found["models"].append(
            {
                "filters": name,
                **distill_report.summary(order, found["filters"]),
                **scores(config, goal.metric, score),
                "seconds to distil": seconds,
            }
        )
        write_report(out, found)  # an interruption later on does not take it away
    found["decoding"] = decoding(models, config.data.signature)
    write_report(out, found)
    print("\n".join(distill_report.lines(found)))
    where = f"each order is a run of its own in {out}, for transferfn eval, generate and export; beside them the report"
    if distill_report.draw(found, out / "distilled.png"):
        where += " and its picture"
    print(f"\n{where}, distilled.*")


def layers_by_order(command: Distill, model: nn.Module, length: int) -> dict[int, int]:
    """Find the orders that the model can be distilled to, and say which of those asked for it cannot.

    Args:
        command: Which orders.
        model: The model.
        length: Samples of a kernel that count, for layers without a horizon.

    Returns:
        For each order the number of layers.

    Raises:
        RunError: if no order is left.
    """
    from transferfn.analysis.distill_model import check_distillable

    found, refused = {}, {}
    for order in dict.fromkeys(command.orders):
        try:
            found[order] = len(check_distillable(model, order, length=length))
        except ValueError as error:
            refused[order] = str(error)
    if not found:
        reasons = "; ".join(f"cannot be distilled to order {order}: {why}" for order, why in refused.items())
        raise RunError(f"{command.run} {reasons or 'is to be distilled to no order: name some with --orders'}")
    for order, why in refused.items():
        print(f"order {order} is left out: {why}")
    return found


def powers(model: nn.Module, layers: Iterable[str], length: int) -> dict[str, Tensor]:
    """Return the mean square of the samples of each long filter, which its relative error is relative to.

    Args:
        model: The model before it was distilled.
        layers: Names of the layers with such filters.
        length: Samples of a kernel that count, for layers without a horizon.
    """
    from transferfn.analysis.distill import kernel_of

    found = {}
    for name in layers:
        layer = model.get_submodule(name)
        kernel = kernel_of(layer, getattr(layer, "horizon", None) or length)
        found[name] = kernel.detach().cpu().square().mean(-1)
    return found


def write_report(out: Path, found: Row) -> None:
    """Write what was found so far.

    Args:
        out: Folder of the report.
        found: What was found.
    """
    from transferfn.cli import distill_report

    write_json(out / "distilled.json", found)
    write_text(out / "distilled.md", "\n".join(distill_report.lines(found)) + "\n")


def scores(config: TrainConfig, metric: str, score: float) -> Row:
    """Name the score of a run, and of a language model what else it is usually told in.

    Args:
        config: The configuration of the run.
        metric: What the score is.
        score: The score.
    """
    if metric != "bits":
        return {metric: score}
    if isinstance(config.data, TextCorpusConfig):
        return text_scores.scores(config.data, score)
    return {"bits a token": score, "perplexity": 2**score}


def decoding(models: dict[str, nn.Module], signature: Signature) -> Row:
    """Time a decoding step of causal models after contexts within the horizon of the longest filters, and beyond.

    Args:
        models: The models by name.
        signature: What they take in.

    Returns:
        For each model and context, milliseconds of a step and the memory of the state; empty if they look ahead.
    """
    from transferfn.bench.growth import step_times

    if not all(getattr(model, "is_causal", False) and hasattr(model, "decoder") for model in models.values()):
        return {}
    steps = min(32, max(signature.length // 4, 1))
    within = [signature.length // 8, signature.length // 2, signature.length - steps - 1]
    contexts = tuple(sorted({max(context, 1) for context in (*within, 4 * signature.length)}))
    generator = torch.Generator().manual_seed(0)
    inputs: Tensor
    if signature.vocabulary is not None:
        inputs = torch.randint(signature.vocabulary, (1, contexts[-1]), generator=generator)
    else:
        inputs = torch.randn(1, contexts[-1], signature.channels or 1, generator=generator)
    return step_times(models, inputs, contexts, steps=steps)
