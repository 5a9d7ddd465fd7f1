"""`transferfn reduce RUN`: a trained model made smaller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from transferfn.files import write_json
from transferfn.training import RunError, evaluate, load_model
from transferfn.training.objective import objective
from transferfn.training.run import RunFolder
from transferfn.training.tokens import load_splits


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduce:
    """Shrink every filter of a run's best model; say what it costs (errors, the task's metric) and gains (speed).

    A filter's frequency response then differs from what it was by at most --tolerance of its peak, or each has --order
    poles. Filters that are not certainly stable are named and left as they are. Start with --tolerance 1e-2, look at
    the metric, and go on from there: the run itself is not changed.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    tolerance: float | None = None
    """Largest error of a frequency response, relative to its peak: each filter gets the lowest order whose bound is
    within it, its layer the largest of these. None means 1e-3, unless --order is given."""

    order: int | None = None
    """Instead, one order for all filters; layers of no more are kept."""

    method: Literal["balanced", "hankel"] = "balanced"
    """Balanced truncation from the poles, or from the Hankel matrix of the impulse response, which needs no poles: for
    filters whose coefficients no longer determine them, and slower for long memories."""

    streams: int = 1
    """Streams side by side in the decoding steps that are timed: of a few, filters are a small part of the time."""

    out: Path | None = None
    """Folder for the new run and the errors, reduced.json; None takes reduced in the run's folder."""


def reduce_run(command: Reduce) -> None:
    """Reduce, judge before and after, write and print.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if there is no run, a filter cannot be reduced, or the folder holds anything but a derived run.
    """
    from transferfn.analysis import reduce_model
    from transferfn.training.derived import check_target, write_derived

    if command.streams < 1:
        raise RunError(f"--streams is a number of streams, at least 1; got {command.streams}")
    out = command.run / "reduced" if command.out is None else command.out
    model, config = load_model(command.run)
    check_target(out, source=command.run)
    test, signature = load_splits(RunFolder(path=command.run), config).test, config.data.signature
    goal = objective(signature.target)
    tolerance = 1e-3 if command.tolerance is None and command.order is None else command.tolerance
    causal = getattr(model, "is_causal", False)
    rows = (command.streams,) if signature.channels is None else (command.streams, signature.channels)
    sample = torch.zeros(rows, dtype=torch.long if signature.channels is None else None)
    try:
        found = reduce_model(
            model,
            order=command.order,
            tolerance=tolerance,
            method=command.method,
            sample=sample if causal else None,
            metric=lambda reduced: evaluate(reduced, test, goal)[0],
        )
    except ValueError as error:
        raise RunError(f"{command.run} cannot be reduced: {error}") from error
    score, loss = evaluate(found.model, test, goal)
    wanted = f"order {command.order}" if tolerance is None else f"tolerance {tolerance:g}"
    write_derived(
        out,
        found.model,
        how=f"reduced to {wanted}{' by its Hankel matrix' * (command.method == 'hankel')}",
        source=command.run,
        original=model,
        config=config,
        metric=goal.metric,
        score=score,
        loss=loss,
        samples=len(test),
    )
    write_json(out / "reduced.json", found.table())
    print("\n".join([*found.lines(), f"{out} is a run of its own, for transferfn eval, generate and export"]))
