"""`transferfn reduce RUN` and `transferfn export RUN`: a trained model made smaller, and made to run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from transferfn.files import write_json
from transferfn.training import RunError, evaluate, load_model
from transferfn.training.objective import objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Reduce:
    """Shrink every filter of a run's best model by balanced truncation; say what it costs and gains."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    tolerance: float = 1e-3
    """Largest error of a frequency response, relative to its peak, by which each filter's order is chosen."""

    out: Path | None = None
    """Folder for the new run and the errors, reduced.json; None takes reduced in the run's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write a run's best model as files that run without this package: its forward pass, and its step if it has one.

    With --format c or numpy, the filters of one layer as source text that depends on nothing.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    format: Literal["pt2", "onnx", "c", "numpy"] = "pt2"
    """What torch.export.load reads, or ONNX, which are loaded again and compared with the model on noise; or a layer's
    filters in C99 or Python with NumPy."""

    length: int | None = None
    """Samples of a sequence; None takes that of the run's data."""

    dynamic: bool = False
    """Whether other lengths are taken, too, which ONNX cannot do."""

    layer: int = 1
    """Which layer, of those that have transfer functions; for c and numpy."""

    channels: tuple[int, ...] = ()
    """Which of its channels, from 0 on; none given means all; for c and numpy."""

    name: str = "filter"
    """What the file and the names in it begin with; for c and numpy."""

    out: Path | None = None
    """Folder for the files; None takes that of the run."""

    def __post_init__(self) -> None:
        of_models = ["length"] * (self.length is not None) + ["dynamic"] * self.dynamic
        of_filters = [name for name in ("layer", "channels", "name") if getattr(self, name) != _DEFAULTS[name]]
        if left := of_models if self.format in ("c", "numpy") else of_filters:
            raise ValueError(f"--format {self.format} has no option --{left[0]}")  # the parser adds where help is


_DEFAULTS = {field.name: field.default for field in fields(Export)}


def reduce_run(command: Reduce) -> None:
    """Reduce, judge before and after, write and print.

    Args:
        command: Which run, and how.

    Raises:
        RunError: if there is no run, a filter cannot be reduced, or the folder holds anything but a derived run.
    """
    from transferfn.analysis import reduce_model
    from transferfn.training.derived import check_target, write_derived

    out = command.run / "reduced" if command.out is None else command.out
    model, config = load_model(command.run)
    check_target(out, source=command.run)
    test, goal, signature = config.data.load().test, objective(config.data.signature.target), config.data.signature
    causal = getattr(model, "is_causal", False)
    sample = torch.zeros(1, dtype=torch.long) if signature.channels is None else torch.zeros(1, signature.channels)
    try:
        found = reduce_model(
            model,
            tolerance=command.tolerance,
            sample=sample if causal else None,
            metric=lambda reduced: evaluate(reduced, test, goal)[0],
        )
    except ValueError as error:
        raise RunError(f"{command.run} cannot be reduced: {error}") from error
    score, loss = evaluate(found.model, test, goal)
    write_derived(
        out,
        found.model,
        how=f"reduced to tolerance {command.tolerance:g}",
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


def export_run(command: Export) -> None:
    """Write the files, and print where they are and how far they are from the model.

    Args:
        command: Which run, and how.
    """
    from transferfn.cli import export

    if command.format in ("c", "numpy"):
        path, about = export.export_filters(
            command.run,
            format=command.format,
            layer=command.layer,
            channels=command.channels,
            name=command.name,
            out=command.out,
        )
        print(f"{path}\n{about}")
        return
    written = export.export_run(
        command.run, format=command.format, out=command.out, length=command.length, dynamic=command.dynamic
    )
    for path, error in written.items():
        print(f"{path}: differs from the model by at most {error:.1e} of the largest output, on noise")
