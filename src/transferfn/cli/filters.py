"""`transferfn reduce RUN` and `transferfn export RUN`: a trained model made smaller, and made to run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from transferfn.files import write_json
from transferfn.nn.realize import FormOption
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write a run's best model as files that run without this package: its forward pass, and its step if it has one.

    With --format c or numpy, the filters of one layer as source text that depends on nothing. With --format
    huggingface, a language model and its tokeniser for transformers.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""

    format: Literal["pt2", "onnx", "c", "numpy", "huggingface"] = "pt2"
    """What torch.export.load reads, or ONNX, or the files of transformers, which are loaded again and compared with the
    model on noise; or a layer's filters in C99 or Python with NumPy."""

    length: int | None = None
    """Samples of a sequence, for pt2 and onnx; None takes that of the run's data."""

    dynamic: bool = False
    """Whether other lengths are taken, too, by pt2; ONNX cannot do that."""

    form: FormOption | None = None
    """Form that the filters of the step decode in, for all layers; auto takes for each the one whose measured error is
    least. The errors are told on standard error. None takes the direct form, unmeasured."""

    layer: int = 1
    """Which layer, of those that have transfer functions; for c and numpy."""

    channels: tuple[int, ...] = ()
    """Which of its channels, from 0 on; none given means all; for c and numpy."""

    name: str = "filter"
    """What the file and the names in it begin with; for c and numpy."""

    out: Path | None = None
    """Folder for the files; None takes that of the run, or huggingface in it."""

    def __post_init__(self) -> None:
        of_models = [name for name in ("length", "dynamic", "form") if getattr(self, name) != _DEFAULTS[name]]
        of_filters = [name for name in ("layer", "channels", "name") if getattr(self, name) != _DEFAULTS[name]]
        left = (of_models if self.format not in ("pt2", "onnx") else []) + (
            of_filters if self.format not in ("c", "numpy") else []
        )
        if left:
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


def export_run(command: Export) -> None:
    """Write the files, and print where they are and how far they are from the model.

    Args:
        command: Which run, and how.
    """
    from transferfn.cli import export

    if command.format == "huggingface":
        from transferfn.cli.export_huggingface import export_huggingface

        out = command.run / "huggingface" if command.out is None else command.out
        error = export_huggingface(command.run, out)
        print(f"{out}: differs from the model by at most {error:.1e} of the largest logit, on noise")
        print(f'to load: import transferfn; AutoModelForCausalLM.from_pretrained("{out}"), and AutoTokenizer likewise')
        return
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
        command.run,
        format=command.format,
        out=command.out,
        length=command.length,
        dynamic=command.dynamic,
        form=command.form,
    )
    for path, error in written.items():
        print(f"{path}: differs from the model by at most {error:.1e} of the largest output, on noise")
