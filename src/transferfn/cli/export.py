"""`transferfn export RUN`: files of a trained model, or of one layer's filters, that run without this package."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from transferfn.cli.forms import in_form
from transferfn.files import write_text
from transferfn.nn.realize import FormOption
from transferfn.training import RunError, load_model
from transferfn.training.run import RunFolder
from transferfn.training.tokens import run_signature

Format = Literal["pt2", "onnx"]
Text = Literal["c", "numpy"]


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
    least. The errors are told on standard error. None takes the direct form, of taps the lattice, unmeasured."""

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


def export_run(command: Export) -> None:
    """Write the files, and print where they are and how far they are from the model.

    Args:
        command: Which run, and how.
    """
    if command.format == "huggingface":
        from transferfn.cli.export_huggingface import export_huggingface

        out = command.run / "huggingface" if command.out is None else command.out
        error = export_huggingface(command.run, out)
        print(f"{out}: differs from the model by at most {error:.1e} of the largest logit, on noise")
        print(f'to load: import transferfn; AutoModelForCausalLM.from_pretrained("{out}"), and AutoTokenizer likewise')
        return
    if command.format in ("c", "numpy"):
        path, about = export_filters(
            command.run,
            format=command.format,
            layer=command.layer,
            channels=command.channels,
            name=command.name,
            out=command.out,
        )
        print(f"{path}\n{about}")
        return
    written = export_model(
        command.run,
        format=command.format,
        out=command.out,
        length=command.length,
        dynamic=command.dynamic,
        form=command.form,
    )
    for path, error in written.items():
        print(f"{path}: differs from the model by at most {error:.1e} of the largest output, on noise")


def export_model(
    run: Path,
    *,
    format: Format = "pt2",
    out: Path | None = None,
    length: int | None = None,
    dynamic: bool = False,
    form: FormOption | None = None,
) -> dict[Path, float]:
    """Write the forward pass of a run's best model, and its step if it is causal, and try them on noise.

    Args:
        run: Folder of the run.
        format: ``"pt2"``, to be read by ``torch.export.load``, or ``"onnx"``, to be read by onnxruntime.
        out: Folder for ``forward`` and ``step``; None means that of the run.
        length: Number of samples of a sequence; None means that of the run's data.
        dynamic: Whether shorter sequences are taken, too; ONNX cannot do that.
        form: Form that the filters of the step decode in; None means the direct one, unmeasured.

    Returns:
        What was written, and the largest difference of each from the model, relative to the largest output.

    Raises:
        RunError: if there is no run, or the model cannot be exported; then nothing is written.
    """
    from transferfn.interop import export, onnx

    model, config = load_model(run)
    length = run_signature(RunFolder(path=run), config).length if length is None else length
    out = run if out is None else out
    forward, step = (out / f"{name}.{format}" for name in ("forward", "step"))
    write_forward = onnx.onnx_forward if format == "onnx" else export.write_forward
    write_step = onnx.onnx_step if format == "onnx" else export.write_step
    if form is not None and not getattr(model, "is_causal", True):
        raise RunError(f"{run} looks ahead and has no step, which --form is about: leave it out")
    decoder = model if form is None else in_form(model, form, run).decoder
    written: dict[Path, float] = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        written[forward] = write_forward(model, length, forward, dynamic_length=dynamic)
        if getattr(model, "is_causal", True):
            written[step] = write_step(decoder, step)
    except (OSError, ValueError, ModuleNotFoundError, export.ExportError) as error:
        for path in written:  # half of a model is of no use
            path.unlink()
        raise RunError(f"{run} cannot be exported: {error}") from error
    return written


@torch.no_grad()
def export_filters(
    run: Path,
    *,
    format: Text,
    layer: int = 1,
    channels: tuple[int, ...] = (),
    name: str = "filter",
    out: Path | None = None,
) -> tuple[Path, str]:
    """Write the filters of one layer of a run's best model as source text that depends on nothing.

    Args:
        run: Folder of the run.
        format: C99, or Python with NumPy.
        layer: Which of the model's layers with filters, from 1 on.
        channels: Which of its channels, from 0 on; none means all.
        name: What the names in the text, and the file, begin with.
        out: Folder; None means that of the run.

    Returns:
        What was written, and the text's own description of itself.

    Raises:
        RunError: if there is no run, no such layer or channel, or the text would be another filter.
    """
    from transferfn.core import select
    from transferfn.interop.source_code import filter_as_c, filter_as_numpy
    from transferfn.nn import RTF, Realization

    model, _ = load_model(run)
    found = [one for one in model.modules() if isinstance(one, RTF | Realization) and one.is_causal]
    if not found:
        raise RunError(
            f"{run} has no causal layer whose filters are transfer functions: distil it, or use another format"
        )
    if not 1 <= layer <= len(found):
        raise RunError(f"{run} has layers 1 to {len(found)} with transfer functions, got --layer {layer}")
    system = found[layer - 1].transfer_function()
    if wrong := [channel for channel in channels if not 0 <= channel < system.channels]:
        raise RunError(f"layer {layer} of {run} has channels 0 to {system.channels - 1}, got {wrong[0]}")
    path = (run if out is None else out) / f"{name}.{'c' if format == 'c' else 'py'}"
    try:
        text = (filter_as_c if format == "c" else filter_as_numpy)(
            select(system, list(channels)) if channels else system, name=name
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except (OSError, ValueError, ArithmeticError) as error:
        raise RunError(f"layer {layer} of {run} cannot be exported: {error}") from error
    return path, text.splitlines()[0].strip('/*" ')
